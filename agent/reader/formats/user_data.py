"""User data and vendor data: scripts and #cloud-config, also in gzip or in MIME parts.

Nothing is included from elsewhere, and nothing is run here. Any other content (text for an application) is
only stored for ``gandi-agent get user-data``.
"""

from __future__ import annotations

import re
from email.parser import BytesParser

from agent.lib.records import dataclass
from agent.lib.text import WHITE
from agent.reader.common.document import read_text, small
from agent.reader.common.merge import USER_DATA
from agent.reader.common.problem import HARMLESS
from agent.reader.formats import cloud_config
from agent.reader.formats.gzip_data import GZIP, gunzip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.reader.common.merge import Draft

#: Maximum bytes, as delivered and unpacked: far more than any platform accepts.
LIMIT = 4 << 20
#: Maximum bytes that are read in all: packed parts in packed parts multiply.
_ALL = 2 * LIMIT
#: Maximum bytes of a MIME message: what the standard library's parser reads quickly.
_MESSAGE = 1 << 20
_PARTS, _DEEPEST = 50, 3
#: Maximum bytes of a header with parameters: the parser needs seconds for a million.
_HEADER = 8 << 10
_HEADERS = re.compile(rb"(?i)(?:^|[\r\n])content-[a-z-]+:[^\n]*(?:\n[ \t][^\n]*)*")
_WHITE = WHITE.encode()
_MULTIPART = re.compile(rb"(?i)content-type:\s*(?:multipart|message)/")
_MESSAGE_HEAD = re.compile(rb"(?i)(?:content-type|mime-version|content-transfer-encoding):|From ")
#: Types of user data in cloud-init that are not handled.
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
class _Shared:
    """Shared by a document and its parts: the draft, the prefix of names, and the bytes ``left`` to read."""

    draft: Draft
    prefix: str
    left: int = _ALL


def load() -> None:
    """Import, while files can still be opened, what the standard library's MIME parser otherwise imports at
    the first message.
    """
    _decoded(_SAMPLE)


def read(raw: bytes, name: str, draft: Draft, *, vendor: bool = False) -> None:
    """Add the configuration in the data to the draft; user data is also stored unchanged."""
    if not raw.strip(_WHITE):
        return
    held = small(name, raw, LIMIT, draft.problems)
    if held is None:
        return
    plain = draft.plain
    _part(held, name, _Shared(draft, "vendor-" if vendor else ""), 0)
    if vendor:
        return
    if draft.plain > plain:
        hint = "give a crypt(3) hash instead, and it is stored"
        draft.add_problem(name, "contains a password in plain text: not stored", hint, severity=HARMLESS)
    elif USER_DATA not in draft.kept:
        draft.store_content(USER_DATA, held, name)


def _part(raw: bytes, name: str, shared: _Shared, depth: int) -> None:
    """Read one part, or the whole data."""
    draft, prefix = shared.draft, shared.prefix
    if raw.startswith(GZIP):
        try:
            raw = gunzip(raw, LIMIT)
        except ValueError as error:
            what, _, hint = str(error).partition("; ")
            draft.add_problem(name, what, hint)
            return
    shared.left -= len(raw)
    if shared.left < 0:
        draft.add_problem(name, f"more than {_ALL} bytes in all, unpacked: left out", "deliver less")
        return
    head = raw.lstrip(_WHITE)[:2048]
    foreign = next((what for start, what in _FOREIGN.items() if head.startswith(start)), None)
    if head.startswith(b"#!"):
        draft.add_program(f"{prefix or 'user-'}script", raw.lstrip(_WHITE), name)
    elif foreign:
        draft.add_problem(name, f"{foreign}: not handled", _EXPLAINED)
    elif head.startswith(b"#cloud-config"):
        document = cloud_config.parse(read_text(raw), name, draft)
        if document is not None:
            cloud_config.apply(document, name, draft, prefix)
    elif _MESSAGE_HEAD.match(head):
        _parts(raw.lstrip(_WHITE), name, shared, depth)
    elif head:
        what = "neither a script nor #cloud-config: only stored"
        draft.add_problem(name, what, _EXPLAINED, severity=HARMLESS)


def _parts(raw: bytes, name: str, shared: _Shared, depth: int) -> None:
    draft = shared.draft
    held = small(name, raw, _MESSAGE, draft.problems)
    if held is None:
        return
    if depth >= _DEEPEST or len(_MULTIPART.findall(held)) > _DEEPEST:
        draft.add_problem(name, "MIME parts nested too deeply: left out", "deliver one multipart message")
        return
    if any(len(header[0]) > _HEADER for header in _HEADERS.finditer(held)):
        draft.add_problem(name, f"a MIME header of more than {_HEADER} bytes: left out", _AGAIN)
        return
    for number, content in enumerate(_contents(held, name, draft), start=1):
        if number > _PARTS:
            draft.add_problem(
                name, f"more than {_PARTS} MIME parts: the others are left out", "deliver fewer"
            )
            return
        _part(content, f"{name}, part {number}", shared, depth + 1)


def _contents(message: bytes, name: str, draft: Draft) -> list[bytes]:
    """Return the decoded content of each part that has no parts itself."""
    try:
        # Parse all of it before the first part is used: the configuration of a part is never undone.
        contents = _decoded(message)
    except (ImportError, OSError):
        raise  # a defect of the agent, not of the message
    except Exception:
        # The email package promises no exception and raises many kinds on damaged headers.
        draft.add_problem(name, "a damaged MIME message: left out", _AGAIN)
        return []
    return [content for content in contents if content.strip(_WHITE)]


def _decoded(message: bytes) -> list[bytes]:
    parts = [part for part in BytesParser().parsebytes(message).walk() if not part.is_multipart()]
    return [_headed(part.get_content_type(), part.get_payload(decode=True)) for part in parts]


def _headed(kind: str, content: object) -> bytes:
    """Return a part's content, with a #cloud-config line if only its header has that type."""
    if not isinstance(content, bytes):
        return b""
    bare = kind == "text/cloud-config" and not content.lstrip(_WHITE).startswith((b"#", GZIP))
    return b"#cloud-config\n" + content if bare else content
