"""The program that sends a POST, against a server on the loopback interface with certificates of a made
authority. The bounds are shorter, the code is the same.
"""

from __future__ import annotations

import http.server
import json
import os
import ssl
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.lib.records import dataclass, field
from agent.programs import posting

PROGRAMS = Path(posting.__file__).parent
#: The program with shorter bounds.
PROGRAM = "import poster; poster.TRY, poster.PAUSE = 2, 0.1; raise SystemExit(poster.main())"
DOCUMENT = {"result": "ready", "verdict": "ready: boot took 9.8 s"}


@dataclass
class Server:
    """A server; ``answers`` are its statuses in order, the last one for ever. 0: none at all."""

    answers: list[int]
    port: int = 0
    #: Path, type and body of each request.
    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    location: str = ""
    closing: threading.Event = field(default_factory=threading.Event)


def _serve(server: Server, context: ssl.SSLContext | None) -> http.server.ThreadingHTTPServer:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server.requests.append((self.path, self.headers["Content-Type"], body))
            status = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
            if not status:
                server.closing.wait()
                return
            self.send_response(status)
            if server.location:
                self.send_header("Location", server.location)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    server.port = made.server_address[1]
    if context:
        made.socket = context.wrap_socket(made.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    return made


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an authority, and a certificate of it for localhost."""
    folder = tmp_path_factory.mktemp("authority")
    new = ("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")

    def run(*argv: str) -> None:
        subprocess.run(argv, cwd=folder, check=True, capture_output=True)

    run(*new, "-x509", "-days", "2", "-subj", "/CN=made", "-keyout", "ca.key", "-out", "ca.pem")
    run(*new, "-subj", "/CN=localhost", "-keyout", "own.key", "-out", "own.csr")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    run("openssl", "x509", "-req", "-in", "own.csr", *signed, "-out", "own.pem")
    return folder


@pytest.fixture
def https(authority: Path) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "own.pem", authority / "own.key")
    server = Server([200])
    made = _serve(server, context)
    yield server
    server.closing.set()
    made.shutdown()
    made.server_close()


@pytest.fixture
def plain() -> Iterator[Server]:
    server = Server([200])
    made = _serve(server, None)
    yield server
    server.closing.set()
    made.shutdown()
    made.server_close()


def post(request: str, authority: Path | None = None) -> tuple[int, str]:
    """Run the program; return its exit status and what it printed."""
    environment = {"SSL_CERT_FILE": str(authority / "ca.pem")} if authority else {}
    argv = [sys.executable, "-S", "-c", PROGRAM]
    done = subprocess.run(
        argv, input=request, capture_output=True, text=True, cwd=PROGRAMS, env=environment, timeout=60
    )
    assert not done.stderr
    return done.returncode, done.stdout


def test_a_document_is_received_over_https(https: Server, authority: Path) -> None:
    url = f"https://localhost:{https.port}/reports?token=t%20o&x=y"
    assert post(posting.json_request(url, 3, DOCUMENT), authority) == (0, "sent: HTTP status 200\n")
    ((path, kind, body),) = https.requests
    assert (path, kind) == ("/reports?token=t%20o&x=y", "application/json")
    assert json.loads(body) == DOCUMENT


def test_a_form_of_phone_home(plain: Server) -> None:
    names = ("pub_key_ed25519", "pub_key_none", "instance_id", "hostname", "fqdn")
    request = posting.form_request(f"http://127.0.0.1:{plain.port}", 1, names, "i-1 &=")
    assert post(request) == (0, "sent: HTTP status 200\n")
    ((path, kind, body),) = plain.requests
    assert (path, kind) == ("/", "application/x-www-form-urlencoded")
    form = dict(urllib.parse.parse_qsl(body.decode(), strict_parsing=True))
    assert tuple(form) == names
    assert form["instance_id"] == "i-1 &="
    assert form["pub_key_none"] == "N/A"
    assert form["hostname"] == os.uname().nodename.partition(".")[0]


@pytest.mark.parametrize("why", ["an authority that is not known", "a certificate of another name"])
def test_a_wrong_certificate_is_refused_at_once(https: Server, authority: Path, why: str) -> None:
    host = "localhost" if "authority" in why else "127.0.0.1"
    request = posting.json_request(f"https://{host}:{https.port}/?secret", 3, DOCUMENT)
    status, said = post(request, None if "authority" in why else authority)
    assert status == 1
    assert said.startswith(f"not sent: {host}: its certificate is not valid: ")
    assert not https.requests


def test_a_server_in_trouble_is_tried_again(https: Server, authority: Path) -> None:
    https.answers = [500, 503, 200]
    request = posting.json_request(f"https://localhost:{https.port}/", 3, DOCUMENT)
    assert post(request, authority) == (0, "sent: HTTP status 200, try 3\n")
    assert len(https.requests) == 3


@pytest.mark.parametrize(
    ("status", "tries", "said"),
    [
        (500, 2, "not sent after 2 tries: localhost: HTTP status 500\n"),
        (404, 1, "not sent: localhost: HTTP status 404\n"),
        (0, 2, "not sent after 2 tries: localhost: no answer within 2 s\n"),
    ],
)
def test_what_is_not_received(https: Server, authority: Path, status: int, tries: int, said: str) -> None:
    """A server that fails, one that refuses, and one that never answers."""
    https.answers = [status]
    request = posting.json_request(f"https://localhost:{https.port}/?secret", 2, DOCUMENT)
    assert post(request, authority) == (1, said)
    assert len(https.requests) == tries


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(https: Server, plain: Server, authority: Path, code: int) -> None:
    https.answers, https.location = [code], f"http://127.0.0.1:{plain.port}/"
    said = f"not sent: localhost: HTTP status {code}: redirects are not followed\n"
    request = posting.json_request(f"https://localhost:{https.port}/", 3, DOCUMENT)
    assert post(request, authority) == (1, said)
    assert not plain.requests


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1/secret", "not sent after 2 tries: 127.0.0.1: Connection refused\n"),
        ("ftp://127.0.0.1/secret", "not sent: not an http or https URL\n"),
        ("http://user:secret@127.0.0.1/", "not sent: a URL with a user name: not supported\n"),
        ("http://127.0.0.1:port/secret", "not sent: not an http or https URL\n"),
        ("http://a..b/secret", "not sent: not an http or https URL\n"),
    ],
)
def test_no_part_of_a_url_but_its_host_is_printed(url: str, said: str) -> None:
    assert post(posting.json_request(url, 2, DOCUMENT)) == (1, said)


def test_it_runs_as_nobody_without_privileges(plain: Server) -> None:
    """By its own argv, with another program, and as it is."""
    drop = posting.command()[: posting.command().index("--") + 1]
    done = subprocess.run([*drop, "cat", "/proc/self/status"], capture_output=True, text=True, check=True)
    status = dict(line.split(":\t", 1) for line in done.stdout.split("\n") if ":\t" in line)
    assert status["Uid"].split("\t") == ["65534"] * 4
    assert status["Gid"].split("\t") == ["65534"] * 4
    assert not status["Groups"].strip(" ")
    assert status["NoNewPrivs"] == "1"
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0, kind
    request = posting.json_request(f"http://127.0.0.1:{plain.port}/", 1, DOCUMENT)
    done = subprocess.run(posting.command(), input=request, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "sent: HTTP status 200\n"), done.stderr
