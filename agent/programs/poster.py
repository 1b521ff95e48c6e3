"""A program: send one POST over http or https and print in one line how that ended.

It is run as the user nobody, in a unit outside of the daemon's sandbox, with nothing of the package but
this file (``posting.py``). The request is a line of JSON on standard input:

``url``; ``tries``; ``json``: the body, as text; or ``form``: its fields, of which ``null`` stands for what
this program finds out: the host keys that all users may read, and the machine's names.

No text that it prints has a part of the URL but the host, since a URL may hold a token. No redirect is
followed, and nothing of an answer is read but its head. The certificate of https is checked against the
system's authorities. The exit status is 1 if it was not received.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import time
import urllib.parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Bytes of the request: 100 items of three texts of 500 characters, each of 14 bytes (escaped twice).
_LIMIT = 4 << 20
#: Seconds that one try may take, until the next try (doubled each time, up to the second), and in all.
TRY, PAUSE, LONGEST_PAUSE, TOTAL = 15, 2.0, 16.0, 110.0
#: Answers after which another try may succeed.
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
#: The beginning of a key's field, and the most bytes of its file.
_KEY, _KEY_LIMIT = "pub_key_", 1 << 14
_NOT_ONE = "not an http or https URL"
#: Characters of a path and a query that stay as they are.
_SAFE = "/?&=%+:;,@~$!*'()-._"


class Refused(Exception):
    """Another try would end in the same way. Its text is printed."""


class Failed(Exception):
    """Another try may succeed. Its text is printed."""


def main() -> int:
    """Send the request on standard input; return the exit status."""
    signal.signal(signal.SIGALRM, _out_of_time)
    with open(0, "rb", closefd=False) as file:
        job = json.loads(file.read(_LIMIT))
    tries, pause, end = int(job["tries"]), PAUSE, time.monotonic() + TOTAL
    for number in range(1, tries + 1):
        try:
            status = _post(job)
        except Refused as error:
            return _say(f"not sent: {error}", 1)
        except Failed as error:
            if number == tries or time.monotonic() + pause + TRY > end:
                return _say(f"not sent after {number} {'try' if number == 1 else 'tries'}: {error}", 1)
        else:
            return _say(f"sent: HTTP status {status}" + (f", try {number}" if number > 1 else ""), 0)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
    return _say("not sent: no try was wanted", 1)


def _post(job: dict[str, Any]) -> int:
    """Send the request once and return the status, of 200 to 299. Raise Refused or Failed."""
    scheme, host, port, path = _split(job["url"])
    kind, body = _body(job)
    headers = {"Content-Type": kind, "User-Agent": "gandi-agent", "Connection": "close"}
    signal.alarm(TRY)
    try:
        connection = _connection(scheme, host, port)
        connection.request("POST", path, body, headers)
        status = connection.getresponse().status
    except UnicodeError:  # before OSError: a host that is no name by IDNA
        raise Refused(_NOT_ONE) from None
    except ssl.SSLCertVerificationError as error:
        raise Refused(f"{host}: its certificate is not valid: {error.verify_message}") from error
    except (TimeoutError, socket.gaierror, OSError, http.client.HTTPException) as error:
        raise Failed(f"{host}: {_reason(error)}") from error
    finally:
        signal.alarm(0)
    if 200 <= status < 300:
        return status
    raise (Failed if status in _AGAIN else Refused)(f"{host}: HTTP status {status}{_about(status)}")


def _split(text: str) -> tuple[str, str, int | None, str]:
    """Return scheme, host, port and path of a URL. Raise Refused."""
    try:
        url = urllib.parse.urlsplit(text)
        host, port = url.hostname or "", url.port
        query = f"?{url.query}" if url.query else ""
        path = urllib.parse.quote(f"{url.path or '/'}{query}", safe=_SAFE)
    except ValueError:
        raise Refused(_NOT_ONE) from None  # its text quotes a part
    if url.scheme not in ("http", "https") or not host or not host.isprintable():
        raise Refused(_NOT_ONE)
    if url.username is not None:
        raise Refused("a URL with a user name: not supported")
    return url.scheme, host, port, path


def _connection(scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=TRY)
    context = ssl.create_default_context()
    return http.client.HTTPSConnection(host, port, timeout=TRY, context=context)


def _body(job: dict[str, Any]) -> tuple[str, bytes]:
    """Return the body's type and its bytes."""
    if "json" in job:
        return "application/json", str(job["json"]).encode()
    form = {name: _found(name) if value is None else value for name, value in job["form"].items()}
    return "application/x-www-form-urlencoded", urllib.parse.urlencode(form).encode()


def _found(name: str) -> str:
    """Return a public host key or a name of the machine; N/A, as cloud-init does, if there is none."""
    if name.startswith(_KEY):
        try:
            with open(f"/etc/ssh/ssh_host_{name.removeprefix(_KEY)}_key.pub", "rb") as file:
                return file.read(_KEY_LIMIT).decode("ascii").strip("\n") or "N/A"
        except (OSError, ValueError):
            return "N/A"
    full = socket.getfqdn()
    return full if name == "fqdn" else socket.gethostname().partition(".")[0]


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {TRY} s"
    if isinstance(error, socket.gaierror):
        return "the name cannot be resolved"
    if isinstance(error, ssl.SSLError):
        return "no TLS connection"
    if isinstance(error, OSError):
        return os.strerror(error.errno) if error.errno else "no connection"
    return "not an answer of HTTP"


def _about(status: int) -> str:
    return ": redirects are not followed" if 300 <= status < 400 else ""


def _out_of_time(_number: int, _frame: object) -> None:
    raise TimeoutError


def _say(text: str, status: int) -> int:
    """Write the line to standard output; return the exit status."""
    line = "".join(c if c.isprintable() else "?" for c in text)[:400]
    os.write(1, f"{line}\n".encode("utf-8", "replace"))
    return status


if __name__ == "__main__":
    raise SystemExit(main())
