"""Split a MIME message into its parts, within bounds."""

from __future__ import annotations

import re
from email.errors import CloseBoundaryNotFoundDefect, InvalidBase64LengthDefect
from email.parser import BytesParser
from itertools import islice

from agent.lib.records import dataclass
from agent.lib.text import WHITE
from agent.reader.common.document import small

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message
    from typing import Any

    from agent.reader.common.merge import Draft

#: Maximum bytes of a message: what the standard library's parser reads quickly.
_MESSAGE = 1 << 20
#: Maximum parts of a message, and levels of messages in messages.
PARTS, DEEPEST = 50, 3
#: Maximum bytes of a header with parameters: the parser needs seconds for a million.
_HEADER = 8 << 10
_HEADERS = re.compile(rb"(?i)(?:^|[\r\n])content-[a-z-]+:[^\n]*(?:\n[ \t][^\n]*)*")
_MULTIPART = re.compile(rb"(?i)content-type:\s*(?:multipart|message)/")
_HEAD = re.compile(rb"(?i)(?:content-type|mime-version|content-transfer-encoding):|From ")
#: A header of any name, and that which makes it one of a MIME message.
_ANY_HEADER, _MIME = re.compile(rb"[A-Za-z][A-Za-z-]*:[ \t]"), re.compile(rb"(?i)\nmime-version:")
#: The encodings that the standard library decodes.
_ENCODINGS = (
    *("", "7bit", "8bit", "binary", "base64", "quoted-printable"),
    *("x-uuencode", "uuencode", "uue", "x-uue"),
)
#: The beginning of user data that are no message, before or after the parts of one.
_OUTSIDE = re.compile(r"(?i)[ \t\r\n]*(?:#!|#cloud-|#include|#part-handler|##[ \t]*template:)")
_BLANK = WHITE.encode()
_AGAIN = "make it again with a MIME tool"
#: A message of each kind of part.
_SAMPLE = b"""Content-Type: multipart/mixed; boundary=x

--x
Content-Type: text/plain
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename=x
Launch-Index: \xff

eA==
--x
Content-Type: text/plain; name*=utf-8''x
Content-Transfer-Encoding: quoted-printable

=78
--x--
"""


@dataclass(slots=True)
class Part:
    """A part of user data, or all of it: its content, and its ``name`` in messages. What its headers do not
    contain is "".
    """

    name: str
    content: bytes
    type: str = ""
    filename: str = ""
    launch_index: str = ""
    merge_type: str = ""
    #: What is wrong with it and the remedy, as a reader's error, or "".
    damage: str = ""


def load() -> None:
    """Import, while files can still be opened, what the standard library's MIME parser otherwise imports at
    the first message.
    """
    _split(_SAMPLE, "")


def is_message(head: bytes) -> bool:
    """Return whether the data that begins with ``head`` are a MIME message."""
    return bool(_HEAD.match(head) or (_ANY_HEADER.match(head) and _MIME.search(head.split(b"\n\n", 1)[0])))


def split(raw: bytes, name: str, draft: Draft, depth: int) -> list[Part]:
    """Return the parts of a message that have no parts themselves; empty ones are left out."""
    held = small(name, raw, _MESSAGE, draft.problems)
    if held is None:
        return []
    if depth >= DEEPEST or len(_MULTIPART.findall(held)) > DEEPEST:
        draft.add_problem(name, "MIME parts nested too deeply: left out", "deliver one multipart message")
        return []
    if any(len(header[0]) > _HEADER for header in _HEADERS.finditer(held)):
        draft.add_problem(name, f"a MIME header of more than {_HEADER} bytes: left out", _AGAIN)
        return []
    try:
        # Parse all of it before the first part is used: the configuration of a part is never undone.
        parts = _split(held, name)
    except (ImportError, OSError):
        raise  # a defect of the agent, not of the message
    except Exception:
        # The email package promises no exception and raises many kinds on damaged headers.
        draft.add_problem(name, "a damaged MIME message: left out", _AGAIN)
        return []
    if len(parts) > PARTS:
        draft.add_problem(name, f"more than {PARTS} MIME parts: the others are left out", "deliver fewer")
    return parts[:PARTS]


def _split(message: bytes, name: str) -> list[Part]:
    """Return the parts that are not empty, at most one more than PARTS."""
    whole = BytesParser().parsebytes(message)
    has_boundary = whole.is_multipart() and whole.get_content_maintype() == "multipart"
    leaves = enumerate(_leaves(whole, is_cut=has_boundary), start=1)
    every = (_part(part, f"{name}, part {n}", is_cut=is_cut) for n, (part, is_cut) in leaves)
    found = list(islice((one for one in every if one.damage or one.content.strip(_BLANK)), PARTS + 1))
    texts = [text or "" for part in whole.walk() for text in (part.preamble, part.epilogue)]
    if any(map(_OUTSIDE.match, texts)):
        damage = f"text before or after the parts, which is in none of them; {_AGAIN}"
        found.append(Part(name, b"", damage=damage))
    return found


def _leaves(part: Message, *, is_cut: bool) -> Iterator[tuple[Message, bool]]:
    """Yield each part without parts of its own, and whether the message ends before that part does;
    ``is_cut``: whether that may be so, as nothing follows this part.
    """
    if not part.is_multipart():
        yield part, is_cut
        return
    if part.get_content_maintype() == "multipart":
        is_cut = is_cut and any(isinstance(one, CloseBoundaryNotFoundDefect) for one in part.defects)
    inner: Any = part.get_payload()
    for one in inner:
        yield from _leaves(one, is_cut=is_cut and one is inner[-1])


def _part(part: Message, name: str, *, is_cut: bool) -> Part:
    kind, encoding, damage = part.get_content_type(), _header(part, "Content-Transfer-Encoding"), ""
    if encoding:
        part.replace_header("Content-Transfer-Encoding", encoding)
    content = part.get_payload(decode=True)
    if any(isinstance(defect, InvalidBase64LengthDefect) for defect in part.defects):
        damage = "damaged base64; encode it again, whole"
    elif encoding.lower() not in _ENCODINGS:
        damage = "an unknown Content-Transfer-Encoding; write base64"
    elif kind.startswith("multipart/") and isinstance(content, bytes) and content.strip(_BLANK):
        damage = f"a multipart message without its parts; {_AGAIN}"
    elif is_cut:
        damage = (
            "the message ends without its last boundary, so this part may be cut short; deliver it whole"
        )
    return Part(
        name,
        content if isinstance(content, bytes) else b"",
        kind,
        _filename(part),
        _header(part, "Launch-Index"),
        _header(part, "Merge-Type") or _header(part, "X-Merge-Type"),
        damage,
    )


def _filename(part: Message) -> str:
    """Return the file's name as it is written: Message.get_filename would import the codec that the header
    names, and only the order of the scripts follows from it.
    """
    for parameter, header in (("filename", "Content-Disposition"), ("name", "Content-Type")):
        if name := part.get_param(parameter, header=header):
            return name[2] if isinstance(name, tuple) else name
    return ""


def _header(part: Message, name: str) -> str:
    return str(part.get(name, "")).strip(WHITE)
