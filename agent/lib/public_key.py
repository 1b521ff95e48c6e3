"""Split lines of authorized_keys into the parts of OpenSSH public keys, as sshd does.

Format: sshd(8), AUTHORIZED_KEYS FILE FORMAT, as OpenSSH reads it: auth2-pubkeyfile.c, and sshkey_read and
sshkey_advance_past_options of sshkey.c and auth-options.c. Fields are separated by blanks and tabs. Options
may precede the type; they may contain blanks within double quotes.
"""

from __future__ import annotations

import re

from agent.lib.text import BLANKS, words

_PLAIN = ("ssh-rsa", "ssh-dss", "ssh-ed25519", *(f"ecdsa-sha2-nistp{bits}" for bits in (256, 384, 521)))
_TOKENS = ("sk-ssh-ed25519", "sk-ecdsa-sha2-nistp256")
_CERTIFICATE, _VENDOR = "-cert-v01", "@openssh.com"
#: Every key type that sshd accepts.
TYPES = frozenset((*_PLAIN, *(f"{name}{_VENDOR}" for name in _TOKENS))) | frozenset(
    f"{name}{_CERTIFICATE}{_VENDOR}" for name in (*_PLAIN, *_TOKENS)
)
#: Options up to the first blank outside of quotes. An unclosed quote extends to the end of the line.
_OPTIONS = r'(?:\\"|[^ \t"]|"(?:\\"|[^"])*+(?:"|\Z))*+'
#: One of these. Options between commas; a comma in double quotes is part of its option.
_OPTION = r'(?:\\"|[^",]|"(?:\\"|[^"])*+(?:"|\Z))+'
#: Every option that sshd knows (auth-options.c), in lower case; those of the first have ``no-`` forms too.
_FLAGS = ("port-forwarding", "agent-forwarding", "x11-forwarding", "pty", "user-rc", "touch-required")
_OPTION_NAMES = {
    *_FLAGS,
    *(f"no-{name}" for name in _FLAGS),
    *("verify-required", "no-verify-required", "restrict", "cert-authority", "command", "environment"),
    *("expiry-time", "from", "permitlisten", "permitopen", "principals", "tunnel"),
}
#: Within base64, sshd skips the characters of isspace(3).
_SKIPPED = dict.fromkeys(map(ord, "\r\n\v\f"))


def split(line: str) -> tuple[str, str, str] | None:
    """Return type, base64 and comment of the key in a line (without its line end), None if it has no key.
    The base64 is not checked.
    """
    line = line.partition("\0")[0].strip(BLANKS)
    if not line or line.startswith("#"):
        return None
    return _read(line) or _read(line[_past_options(line) :])


def options(line: str) -> str:
    """Return the options before the key in a line that has one, "" without them."""
    line = line.strip(BLANKS)
    return "" if _read(line) else line[: _past_options(line)]


def are_known(options: str) -> bool:
    """Return whether sshd knows each of the options; with another one it refuses the key."""
    names = [one.partition("=")[0].lower() for one in re.findall(_OPTION, options)]
    return all(name in _OPTION_NAMES for name in names)


def _read(text: str) -> tuple[str, str, str] | None:
    fields = words(text, 2)
    if len(fields) < 2 or fields[0] not in TYPES:
        return None
    return fields[0], fields[1].translate(_SKIPPED), fields[2] if len(fields) > 2 else ""


def _past_options(line: str) -> int:
    options = re.match(_OPTIONS, line)
    return options.end() if options else 0
