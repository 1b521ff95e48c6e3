"""Packages, sources, proxy, locale and timezone of an instance that the OS definition for Ganeti creates."""

from __future__ import annotations

import base64
import http.server
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import creation
from tests.system.instances import SIZE, is_left_alone, probed, root_of
from tests.vm.rig import ImageSpec, Network, Table, newest_deb
from tests.vm.rig.tree import merged

USER, PASSWORD = "node-7", "s3cret!word"
#: As a URL has it.
WRITTEN = "s3cret%21word"
LISTS = "var/lib/apt/lists"


class Proxy(http.server.BaseHTTPRequestHandler):
    """A proxy that asks for a password, and passes on what is asked with it."""

    protocol_version = "HTTP/1.1"
    passed: list[str]
    #: Processes with the password in their arguments.
    shown: list[bytes]

    def do_GET(self) -> None:
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Proxy-Authorization") != wanted:
            self.send_response(407)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.passed.append(self.path)
        self.shown += _arguments_with((PASSWORD.encode(), WRITTEN.encode()))
        place = urlsplit(self.path)
        upstream = HTTPConnection(place.hostname or "", place.port or 80, timeout=60)
        headers = {name: text for name, text in self.headers.items() if not name.startswith("Proxy-")}
        upstream.request("GET", place.path, headers=headers | {"Connection": "close"})
        answer = upstream.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for name, text in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, text)
        if answer.status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        upstream.close()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def _arguments_with(secrets: tuple[bytes, ...]) -> list[bytes]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue  # ended since
        found += [line] if any(secret in line for secret in secrets) else []
    return found


@contextmanager
def proxy() -> Iterator[tuple[str, type[Proxy]]]:
    """A running proxy: its URL with user and password, and what it has seen."""
    seen = type("Seen", (Proxy,), {"passed": [], "shown": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), seen)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{USER}:{WRITTEN}@127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(SIZE)
    return path


def create(node: Path, disk: Path, **parameters: str) -> subprocess.CompletedProcess[str]:
    return creation.script("create", node, **creation.ENVIRONMENT | {"DISK_0_PATH": str(disk)} | parameters)


def nothing_of_the_node_is_left(target: Path) -> None:
    """Check what mmdebstrap and apt take from a node, or leave."""
    resolvers = (target / "etc/resolv.conf").read_text()
    assert [line for line in resolvers.splitlines() if line.startswith("nameserver")] == [
        "nameserver 203.0.113.3"
    ]
    assert socket.gethostname() not in (target / "etc/hosts").read_text().split()
    assert (target / "etc/hostname").read_text() == f"{creation.NAME}\n"
    assert [path.name for path in (target / LISTS).rglob("*") if path.is_file()] in ([], ["lock"])
    assert list((target / "var/cache/apt").rglob("*.deb")) == []
    assert not (target / "usr/sbin/policy-rc.d").exists()
    assert not list((target / "etc/apt").rglob("*mmdebstrap*"))


@pytest.mark.soak
def test_a_release_by_a_proxy_with_a_password(node: Path, disk: Path) -> None:
    """From Debian's servers. Root alone reads the password, which is in no argument and no log."""
    with proxy() as (url, seen):
        done = create(
            node,
            disk,
            OSP_APT_PROXY=url,
            OSP_APT_MIRROR="http://deb.debian.org/debian/",
            OSP_PACKAGES="hello",
            OSP_LOCALE="fr_FR.UTF-8",
            DEBUG_LEVEL="1",
        )
        assert done.returncode == 0, done.stdout + done.stderr
        is_left_alone(disk, node)
        assert any("/hello_" in path for path in seen.passed)
        assert any("trixie-security" in path for path in seen.passed)
        assert seen.shown == []
        assert PASSWORD not in done.stdout + done.stderr
        assert WRITTEN not in done.stdout + done.stderr
        with root_of(disk) as (target, _):
            nothing_of_the_node_is_left(target)
            assert (target / "usr/bin/hello").exists()
            own = target / "etc/apt/sources.list.d/debian.sources"
            assert [path.name for path in own.parent.iterdir()] == [own.name]
            assert not (target / "etc/apt/sources.list").exists()
            text = own.read_text()
            assert "URIs: http://deb.debian.org/debian\nSuites: trixie trixie-updates\n" in text
            assert "URIs: http://security.debian.org/debian-security\nSuites: trixie-security\n" in text
            assert own.stat().st_mode & 0o777 == 0o644
            with_password = subprocess.run(
                ["grep", "-rlIF", "-e", PASSWORD, "-e", WRITTEN, "etc", "var/log", "root", "var/cache"],
                cwd=target,
                check=False,
                capture_output=True,
                text=True,
            ).stdout.splitlines()
            assert with_password == ["etc/apt/auth.conf.d/90gandi.conf"]
            assert (target / with_password[0]).stat().st_mode & 0o777 == 0o600
            assert (target / "var/lib/gandi").stat().st_mode & 0o077 == 0
            said = subprocess.run(["chroot", target, "locale", "-a"], check=True, capture_output=True).stdout
            assert b"fr_FR.utf8" in said
            assert 'LANG="fr_FR.UTF-8"' in (target / "etc/default/locale").read_text()
            assert (target / "etc/localtime").readlink() == Path("/usr/share/zoneinfo/Europe/Paris")
            # As the machine does it, by its own files.
            seen.passed.clear()
            subprocess.run(["chroot", target, "apt-get", "-q", "update"], check=True, capture_output=True)
            assert any("trixie-updates" in path for path in seen.passed)


@pytest.mark.soak
@pytest.mark.parametrize("with_agent", [False, True])
def test_an_image_gets_packages_and_its_locale(node: Path, disk: Path, *, with_agent: bool) -> None:
    """From the operator's mirror, although the image has no resolver and another mirror."""
    (node / "images").mkdir()
    debs = (newest_deb(),) if with_agent else ()
    with merged(ImageSpec(network=Network.IFUPDOWN, debs=debs)) as tree:
        (tree / "etc/apt/sources.list").write_text("deb http://mirror.example.net/debian trixie main\n")
        (tree / "etc/resolv.conf").unlink(missing_ok=True)
        (tree / "etc/resolv.conf").symlink_to("/run/resolv.conf")
        subprocess.run(["tar", "-C", tree, "-cf", node / "images/tree.tar", "."], check=True)
    with proxy() as (url, seen):
        parameters = {"OSP_APT_PROXY": url, "OSP_APT_MIRROR": "http://deb.debian.org/debian"}
        parameters |= {"OSP_IMAGE": "tree.tar", "OSP_PACKAGES": "hello", "OSP_LOCALE": "fr_FR.UTF-8"}
        done = create(node, disk, **parameters)
        assert done.returncode == 0, done.stdout + done.stderr
        assert any("/hello_" in path for path in seen.passed)
        assert not any("mirror.example.net" in path for path in seen.passed)
        assert seen.shown == []
    is_left_alone(disk, node)
    with root_of(disk) as (target, _):
        assert (target / "usr/bin/hello").exists()
        text = (target / "etc/apt/sources.list.d/debian.sources").read_text()
        assert "URIs: http://deb.debian.org/debian\nSuites: trixie trixie-updates\n" in text
        assert not (target / "etc/apt/sources.list").exists()
        said = subprocess.run(["chroot", target, "locale", "-a"], check=True, capture_output=True).stdout
        assert b"fr_FR.utf8" in said
        for name in ("etc/resolv.conf.held", "usr/sbin/policy-rc.d", "usr/sbin/policy-rc.d.held"):
            assert not (target / name).exists()
        assert [path.name for path in (target / LISTS).rglob("*") if path.is_file()] == ["lock"]
        assert list((target / "var/cache/apt").rglob("*.deb")) == []


@pytest.mark.soak
def test_the_hook_installs_packages_and_writes_the_sources(node: Path, tmp_path: Path) -> None:
    folder = tmp_path / "instance"
    folder.mkdir()
    with proxy() as (url, seen), creation.instance(ImageSpec(table=Table.MSDOS), folder) as (target, _):
        (target / "etc/apt/sources.list").write_text(
            "deb http://127.0.0.1:9999/debian trixie main contrib\n"
        )
        parameters = {"OSP_APT_PROXY": url, "OSP_APT_MIRROR": "http://deb.debian.org/debian"}
        parameters |= {"OSP_PACKAGES": "hello", "OSP_LOCALE": "C.UTF-8"}
        done = creation.hook(target, node, Table.MSDOS, **parameters)
        assert done.returncode == 0, done.stdout + done.stderr
        assert any("/hello_" in path for path in seen.passed)
        assert (target / "usr/bin/hello").exists()
        assert not (target / "etc/apt/sources.list").exists()
        text = (target / "etc/apt/sources.list.d/debian.sources").read_text()
        assert (
            "URIs: http://deb.debian.org/debian\nSuites: trixie trixie-updates\nComponents: main contrib\n"
            in text
        )
        assert "198.51.100.53" not in (target / "etc/resolv.conf").read_text()
        assert 'LANG="C.UTF-8"' in (target / "etc/default/locale").read_text()
        nothing_of_the_node_is_left(target)


@pytest.mark.slow
def test_a_proxy_that_does_not_answer_fails_the_creation_without_its_password(
    node: Path, disk: Path
) -> None:
    (node / "images").mkdir()
    with merged(ImageSpec(network=Network.IFUPDOWN, debs=(newest_deb(),))) as tree:
        subprocess.run(["tar", "-C", tree, "-cf", node / "images/tree.tar", "."], check=True)
    with socket.socket() as closed:  # bound, and nothing listens
        closed.bind(("127.0.0.1", 0))
        url = f"http://{USER}:{WRITTEN}@127.0.0.1:{closed.getsockname()[1]}"
        parameters = {"OSP_IMAGE": "tree.tar", "OSP_APT_PROXY": url, "OSP_PACKAGES": "hello"}
        done = create(node, disk, **parameters, DEBUG_LEVEL="1")
    assert done.returncode == 1
    assert "OSP_PACKAGES: apt-get " in done.stderr
    assert "let the node reach the mirror" in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert WRITTEN not in done.stdout + done.stderr
    is_left_alone(disk, node)
    assert probed(disk, 0, SIZE) == {}


def test_a_wrong_value_is_a_line_without_the_value(node: Path) -> None:
    wrong = {
        "OSP_APT_MIRROR": f"ftp://{USER}:{WRITTEN}@192.0.2.1/debian",
        "OSP_APT_PROXY": f"http://{USER}:{WRITTEN}@192.0.2.1/a path",
        "OSP_APT_SECURITY": f"https://{USER}:{WRITTEN}@192.0.2.1/debian",
        "OSP_LOCALE": f"{WRITTEN}; reboot",
        "OSP_PACKAGES": f"curl --{WRITTEN}",
        "OSP_TIMEZONE": f"../{WRITTEN}",
    }
    done = creation.script("verify", node, "parameters", **wrong)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(wrong)
    assert all("write " in line for line in lines)
    assert WRITTEN not in done.stderr
