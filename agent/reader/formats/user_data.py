"""User data, and vendor data after it: scripts, cloud-config, packed or in parts.

Nothing is run or included from elsewhere. Whatever else it may be (an application's own text) is kept for
``gandi-agent get user-data`` and not looked into.
"""

from __future__ import annotations

import re
from email.parser import BytesParser

from agent.lib.records import dataclass
from agent.lib.text import WHITE
from agent.reader.common.document import read_text, small
from agent.reader.common.merge import USER_DATA
from agent.reader.formats import cloud_config
from agent.reader.formats.gzip_data import GZIP, gunzip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.reader.common.merge import Draft

#: Bytes as delivered, and unpacked: far more than any platform takes.
LIMIT = 4 << 20
#: Bytes that are looked into in all: parts that are packed in packed parts multiply.
_ALL = 2 * LIMIT
#: Bytes of a message in parts: what the standard library's parser reads in a moment.
_MESSAGE = 1 << 20
_PARTS, _DEEPEST = 50, 3
#: Bytes of a header that has parameters: the parser takes seconds for a million of them.
_HEADER = 8 << 10
_HEADERS = re.compile(rb"(?i)(?:^|[\r\n])content-[a-z-]+:[^\n]*(?:\n[ \t][^\n]*)*")
_WHITE = WHITE.encode()
_MULTIPART = re.compile(rb"(?i)content-type:\s*(?:multipart|message)/")
_MESSAGE_HEAD = re.compile(rb"(?i)(?:content-type|mime-version|content-transfer-encoding):|From ")
#: Kinds that cloud-init has, which nothing here stands for.
_FOREIGN = {
    b"#include": "includes from elsewhere",
    b"#cloud-boothook": "a boothook",
    b"#part-handler": "a part handler",
    b"#upstart-job": "an upstart job",
    b"#cloud-config-archive": "an archive of cloud-config",
    b"#cloud-config-jsonp": "a JSON patch of cloud-config",
    b"## template:": "a template",
}
_EXPLAINED = "only scripts, #cloud-config, gzip and MIME parts of these are read"
_AGAIN = "make it again with a MIME tool"
#: A message of each kind of part.
_SAMPLE = b"""Content-Type: multipart/mixed; boundary=x

--x
Content-Type: text/plain
Content-Transfer-Encoding: base64

eA==
--x
Content-Type: text/plain; name*=utf-8''x
Content-Transfer-Encoding: quoted-printable

=78
--x--
"""


@dataclass(slots=True)
class _Within:
    """What is common to a document and its parts: whose it is, and how much of it may still be read."""

    draft: Draft
    prefix: str
    left: int = _ALL


def load() -> None:
    """Have the standard library's parser of messages import, while that is still possible, what it otherwise
    does when it meets its first message.
    """
    _decoded(_SAMPLE)


def read(raw: bytes, name: str, draft: Draft, *, vendor: bool = False) -> None:
    """Put what the data asks for on the draft; user data is kept as it came, too."""
    if not raw.strip(_WHITE):
        return
    held = small(name, raw, LIMIT, draft.problems)
    if held is None:
        return
    plain = draft.plain
    _part(held, name, _Within(draft, "vendor-" if vendor else ""), 0)
    if vendor:
        return
    if draft.plain > plain:
        hint = "give a crypt(3) hash instead, and it is stored"
        draft.tell(name, "holds a password in plain text: not stored", hint, harmless=True)
    elif USER_DATA not in draft.kept:
        draft.keep(USER_DATA, held, name)


def _part(raw: bytes, name: str, within: _Within, depth: int) -> None:
    """One part, or the whole of it."""
    draft, prefix = within.draft, within.prefix
    if raw.startswith(GZIP):
        try:
            raw = gunzip(raw, LIMIT)
        except ValueError as error:
            what, _, hint = str(error).partition("; ")
            draft.tell(name, what, hint)
            return
    within.left -= len(raw)
    if within.left < 0:
        draft.tell(name, f"more than {_ALL} bytes in all, unpacked: left out", "deliver less")
        return
    head = raw.lstrip(_WHITE)[:2048]
    foreign = next((what for start, what in _FOREIGN.items() if head.startswith(start)), None)
    if head.startswith(b"#!"):
        draft.program(f"{prefix or 'user-'}script", raw.lstrip(_WHITE), name)
    elif foreign:
        draft.tell(name, f"{foreign}: not handled", _EXPLAINED)
    elif head.startswith(b"#cloud-config"):
        cloud_config.read(read_text(raw), name, draft, prefix)
    elif _MESSAGE_HEAD.match(head):
        _parts(raw.lstrip(_WHITE), name, within, depth)
    elif head:
        draft.tell(name, "neither a script nor #cloud-config: only stored", _EXPLAINED, harmless=True)


def _parts(raw: bytes, name: str, within: _Within, depth: int) -> None:
    draft = within.draft
    held = small(name, raw, _MESSAGE, draft.problems)
    if held is None:
        return
    if depth >= _DEEPEST or len(_MULTIPART.findall(held)) > _DEEPEST:
        draft.tell(name, "MIME parts nested too deeply: left out", "deliver one multipart message")
        return
    if any(len(header[0]) > _HEADER for header in _HEADERS.finditer(held)):
        draft.tell(name, f"a MIME header of more than {_HEADER} bytes: left out", _AGAIN)
        return
    for number, content in enumerate(_contents(held, name, draft), start=1):
        if number > _PARTS:
            draft.tell(name, f"more than {_PARTS} MIME parts: the others are left out", "deliver fewer")
            return
        _part(content, f"{name}, part {number}", within, depth + 1)


def _contents(message: bytes, name: str, draft: Draft) -> list[bytes]:
    """The decoded content of each part that is none of parts."""
    try:
        # Parsed whole before the first part is used: what a part asks for is not undone.
        contents = _decoded(message)
    except (ImportError, OSError):
        raise  # a defect of ours: the message asks for neither
    except Exception:
        # The email package promises no exception and raises many kinds on damaged headers.
        draft.tell(name, "a damaged MIME message: left out", _AGAIN)
        return []
    return [content for content in contents if content.strip(_WHITE)]


def _decoded(message: bytes) -> list[bytes]:
    parts = [part for part in BytesParser().parsebytes(message).walk() if not part.is_multipart()]
    return [_headed(part.get_content_type(), part.get_payload(decode=True)) for part in parts]


def _headed(kind: str, content: object) -> bytes:
    """A part's content with the line that says its kind, where only its header does."""
    if not isinstance(content, bytes):
        return b""
    bare = kind == "text/cloud-config" and not content.lstrip(_WHITE).startswith((b"#", GZIP))
    return b"#cloud-config\n" + content if bare else content
