"""The defaults of the passwd package's programs: login.defs(5) and /etc/default/useradd (useradd(8))."""

from __future__ import annotations

import contextlib
import re

from agent.lib import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host


def useradd(host: Host, name: str, default: str) -> str:
    """Return a value of /etc/default/useradd, or the default."""
    head = f"{name}="
    values = (line for line in text.lines(host.read("/etc/default/useradd") or "") if line.startswith(head))
    return [default, *(line.removeprefix(head) for line in values)][-1]


def word(host: Host, name: str) -> str:
    """Return a value of login.defs(5), "" if it is not set."""
    for line in text.lines(host.read("/etc/login.defs") or ""):
        first, *rest = text.words(line) or [""]
        if first == name and rest:
            return rest[0]
    return ""


def number(host: Host, name: str, default: int) -> int:
    """Return a number of login.defs(5) in C notation (decimal, 0octal, 0xhexadecimal), or the default."""
    digits = word(host, name)
    if re.fullmatch(r"0[xX][0-9a-fA-F]{1,12}|-?[0-9]{1,12}", digits):
        base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" else 10
        with contextlib.suppress(ValueError):  # an 8 or 9 in an octal number
            return int(digits, base)
    return default
