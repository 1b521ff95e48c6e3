"""How a POST is sent: by a program of its own (``poster.py``), as the user nobody and without privileges,
since the daemon and all else that runs as root reads nothing from a network.
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: Seconds after which the program has ended by its own limit (poster.TOTAL), and some more.
TIMEOUT = 150
_PROGRAM = os.path.join(os.path.dirname(__file__), "poster.py")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
#: The user nobody, by number: its group has other names elsewhere.
_NOBODY = 65534
_DROP = ("--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all")


def command() -> tuple[str, ...]:
    """Return the argv; the request is for its standard input."""
    python = (sys.executable, "-I", "-S", _PROGRAM)
    return ("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", *_DROP, "--", *python)


def json_request(url: str, tries: int, document: object) -> str:
    """Return the request for a document as JSON."""
    return json.dumps({"url": url, "tries": tries, "json": json.dumps(document)}) + "\n"


def form_request(url: str, tries: int, names: Iterable[str], instance: str) -> str:
    """Return the request for a form with these fields; all but the instance's id are found out when it is
    sent.
    """
    form = {name: instance if name == "instance_id" else None for name in names}
    return json.dumps({"url": url, "tries": tries, "form": form}) + "\n"


def quoted(text: str) -> str:
    """Return text as a part of a URL (RFC 3986, 2.1)."""
    data = text.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in data)
