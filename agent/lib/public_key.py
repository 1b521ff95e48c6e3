"""OpenSSH public keys in lines of authorized_keys, split as sshd splits them.

Format: sshd(8), AUTHORIZED_KEYS FILE FORMAT, as OpenSSH reads it: auth2-pubkeyfile.c, and sshkey_read and
sshkey_advance_past_options of sshkey.c and auth-options.c. Fields are separated by blanks and tabs; options
may stand before the type, and a blank within double quotes belongs to them.
"""

from __future__ import annotations

import re

from agent.lib.text import BLANKS, words

_PLAIN = ("ssh-rsa", "ssh-dss", "ssh-ed25519", *(f"ecdsa-sha2-nistp{bits}" for bits in (256, 384, 521)))
_TOKENS = ("sk-ssh-ed25519", "sk-ecdsa-sha2-nistp256")
_CERTIFICATE, _VENDOR = "-cert-v01", "@openssh.com"
#: Every type of key that sshd takes.
TYPES = frozenset((*_PLAIN, *(f"{name}{_VENDOR}" for name in _TOKENS))) | frozenset(
    f"{name}{_CERTIFICATE}{_VENDOR}" for name in (*_PLAIN, *_TOKENS)
)
#: Options up to the first blank outside of quotes. A quote that is never closed takes the rest of the line.
_OPTIONS = r'(?:\\"|[^ \t"]|"(?:\\"|[^"])*+(?:"|\Z))*+'
#: Within base64, sshd skips what isspace(3) takes.
_SKIPPED = dict.fromkeys(map(ord, "\r\n\v\f"))


def split(line: str) -> tuple[str, str, str] | None:
    """Return the type, the base64 and the comment of the key in a line without its end; None for a line of
    no key. The base64 is not checked.
    """
    line = line.partition("\0")[0].strip(BLANKS)
    if not line or line.startswith("#"):
        return None
    return _read(line) or _read(line[_past_options(line) :])


def _read(text: str) -> tuple[str, str, str] | None:
    fields = words(text, 2)
    if len(fields) < 2 or fields[0] not in TYPES:
        return None
    return fields[0], fields[1].translate(_SKIPPED), fields[2] if len(fields) > 2 else ""


def _past_options(line: str) -> int:
    found = re.match(_OPTIONS, line)
    return found.end() if found else 0
