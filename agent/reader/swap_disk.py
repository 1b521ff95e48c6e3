"""Read the swap disk, in the reader: find the platform's archive at one of two places, and return its
members, its document, and a digest of the whole delivery.
"""

from __future__ import annotations

import os
from binascii import b2a_base64

from agent import __version__
from agent.lib.digest import sha256
from agent.lib.records import dataclass
from agent.reader.common.archive_layout import BLOCK, CONFIG, OFFSETS, SCRIPT, modules_release
from agent.reader.common.bounds import read_json
from agent.reader.common.document import too_large
from agent.reader.common.problem import HARMLESS, Problem
from agent.reader.common.result import Reading, encoded, problem_rows
from agent.reader.formats import tar_archive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from agent.reader.formats.tar_archive import Archive

    #: A dialect's ``reading``: of the document and the script.
    Parse = Callable[[dict[str, Any], bytes | None], Reading]

#: Most bytes of a document that is returned unparsed, to be stored.
RAW_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class _Delivery:
    """An archive, or the agent's mark, at one of the two places."""

    archive: Archive
    raw: bytes | None = None
    script: bytes | None = None
    #: Whether it is the agent's own mark: the archive was being overwritten.
    wiped: bool = False


def prepare(dialect: str, known: str) -> Callable[[], dict[str, Any]]:
    """Return the function that reads standard input; with ``known``, it only compares digests.

    ``dialect`` is "gandi", or "native" if that was the answer.
    """
    parse: Parse | None = None
    if known:
        return lambda: _answer(None, known)
    if dialect == "native":
        from agent.reader.dialects import native

        parse = native.reading
    else:
        from agent.reader.dialects import gandi

        parse = gandi.reading
    return lambda: _answer(parse, known)


def _answer(parse: Parse | None, known: str) -> dict[str, Any]:
    """Return the answer for the disk; without ``parse``, only whether its digest is ``known``."""
    try:
        delivery, before = _chosen()
    except OSError as error:
        return {"defect": f"the disk cannot be read: {error.strerror}"}
    if delivery is None:
        return {"ours": False, "problems": []}
    found, raw, script = delivery.archive, delivery.raw, delivery.script
    answer: dict[str, Any] = {"extent": [found.offset, found.length], "before": before}
    if delivery.wiped or found.foreign:
        wiped = delivery.wiped
        return answer | {"ours": False, "wiped": wiped, "foreign": found.foreign, "problems": []}
    digest = _digest(found, raw, script)
    answer |= {
        "modules": [
            [member.name, member.offset, member.size]
            for member in found.members.values()
            if modules_release(member.name)
        ],
        "digest": digest,
        "same": digest == known,
    }
    if parse is not None and raw is not None:
        answer |= _document(found, parse, raw, script)
    return answer | {"whole": found.is_complete, "problems": problem_rows(found.problems)}


def _chosen() -> tuple[_Delivery | None, int]:
    """Return the delivery that is used, and the end of another archive before it (0: there is none).

    The archive at 0 is read first: if it extends beyond the other place, or its end is unknown, an archive
    there is a part of it. Raise OSError if the disk cannot be read.
    """
    late, early = OFFSETS
    first = _at(early)
    if first and (first.archive.foreign or not first.archive.is_complete or first.archive.length > late):
        return first, 0
    second = _at(late)
    return (second, first.archive.length if first else 0) if second else (first, 0)


def _at(offset: int) -> _Delivery | None:
    """Return the platform's archive, a foreign one, or the agent's mark, at ``offset``; otherwise None."""
    block = os.pread(0, BLOCK, offset)
    if (size := tar_archive.marked(block)) is not None:
        return _Delivery(tar_archive.Archive(offset, BLOCK + size, is_complete=True), wiped=True)
    if tar_archive.header(block) is None:
        return None
    found = tar_archive.read(0, offset)
    if found.foreign:
        return _Delivery(found)
    raw, script = (_content(found, name) for name in (CONFIG, SCRIPT))
    is_ours = found.is_recognised and (raw is not None or any(p.is_error for p in found.problems))
    return _Delivery(found, raw, script) if is_ours else None


def _content(found: Archive, name: str) -> bytes | None:
    """Return a member's bytes; None if it is absent, or damaged, which is recorded as a problem."""
    member = found.members.get(name)
    try:
        return member.read(0) if member else None
    except tar_archive.Damaged as error:
        found.is_complete = False
        found.problems.append(Problem(name, str(error), "the platform must deliver it again"))
        return None


def _digest(found: Archive, raw: bytes | None, script: bytes | None) -> str:
    """Return the digest of the agent's version and all that was delivered, without the members' dates."""
    digest = sha256(__version__.encode())
    for name, member in sorted(found.members.items()):
        digest.update(f"\0{name}\0{member.size}\0".encode())
    for content in (raw, script):
        digest.update(sha256(content or b"").digest())
    return digest.hexdigest()


def _document(found: Archive, parse: Parse, raw: bytes, script: bytes | None) -> dict[str, Any]:
    kept = b2a_base64(raw, newline=False).decode() if len(raw) <= RAW_LIMIT else None
    if kept is None:
        what = f"{len(raw)} bytes; at most {RAW_LIMIT} are kept as /gandi/config"
        found.problems.append(Problem(CONFIG, what, "deliver a smaller document"))
    try:
        document = read_json(CONFIG, raw, found.problems, is_only=True)
        reading = parse(document, script) if document is not None else None
    except MemoryError:
        reading = too_large(CONFIG)
    if reading is None:
        return {"raw": kept}
    answer = encoded(reading)
    found.problems.extend(reading.problems)
    if reading.secrets and kept is not None:
        hint = "give a crypt(3) hash instead, and it is kept as /gandi/config"
        found.problems.append(
            Problem(CONFIG, "contains a password in plain text: not kept", hint, severity=HARMLESS)
        )
        kept = None
    return answer | {"raw": kept}
