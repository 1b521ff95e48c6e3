"""The swap disk, in the reader: which of its two places holds the platform's archive, its members, its
document, and a name for the whole delivery.
"""

from __future__ import annotations

import os
from base64 import b64encode

from agent import __version__
from agent.lib.digest import sha256
from agent.lib.records import dataclass
from agent.reader.common.archive_layout import BLOCK, CONFIG, MODULES, OFFSETS, SCRIPT
from agent.reader.common.document import read_json, too_large
from agent.reader.common.problem import Problem
from agent.reader.common.result import Reading, encoded, told
from agent.reader.formats import tar_archive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from agent.reader.formats.tar_archive import Archive

    #: A dialect's ``reading``: of the document and the script.
    Parse = Callable[[dict[str, Any], bytes | None], Reading]

#: Bytes of a configuration that are handed back to be kept as it was spelled.
RAW_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class _Delivery:
    """What was found at one of the two places."""

    archive: Archive
    raw: bytes | None = None
    script: bytes | None = None
    #: Whether it is the agent's own mark: the archive was being overwritten.
    wiped: bool = False


def prepare(known: str) -> Callable[[], dict[str, Any]]:
    """What answers for the disk on standard input; with ``known``, only whether it is that delivery."""
    parse: Parse | None = None
    if not known:
        from agent.reader.dialects import gandi

        parse = gandi.reading
    return lambda: _answer(parse, known)


def _answer(parse: Parse | None, known: str) -> dict[str, Any]:
    """What the disk holds; without ``parse``, only whether that is the known delivery."""
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
            if MODULES.fullmatch(member.name)
        ],
        "digest": digest,
        "same": digest == known,
    }
    if parse is not None and raw is not None:
        answer |= _document(found, parse, raw, script)
    return answer | {"whole": found.whole, "problems": told(found.problems)}


def _chosen() -> tuple[_Delivery | None, int]:
    """What counts of the two places, and where what lies before it ends (0: nothing does).

    What begins at 0 is read first: where it reaches to the other place, or its end is unknown, an archive
    there is only a part of it. Raise OSError for a disk that cannot be read.
    """
    late, early = OFFSETS
    first = _at(early)
    if first and (first.archive.foreign or not first.archive.whole or first.archive.length > late):
        return first, 0
    second = _at(late)
    return (second, first.archive.length if first else 0) if second else (first, 0)


def _at(offset: int) -> _Delivery | None:
    """What lies at ``offset``; None where that is nothing of the platform's, and no archive of others."""
    block = os.pread(0, BLOCK, offset)
    if (size := tar_archive.marked(block)) is not None:
        return _Delivery(tar_archive.Archive(offset, BLOCK + size, whole=True), wiped=True)
    if tar_archive.header(block) is None:
        return None
    found = tar_archive.read(0, offset)
    if found.foreign:
        return _Delivery(found)
    raw, script = (_content(found, name) for name in (CONFIG, SCRIPT))
    is_ours = found.ours and (raw is not None or any(not p.harmless for p in found.problems))
    return _Delivery(found, raw, script) if is_ours else None


def _content(found: Archive, name: str) -> bytes | None:
    """A member's bytes; None where it is not there, or (told as a problem) not whole."""
    member = found.members.get(name)
    try:
        return member.read(0) if member else None
    except tar_archive.Damaged as error:
        found.whole = False
        found.problems.append(Problem(name, str(error), "the platform has to deliver it again"))
        return None


def _digest(found: Archive, raw: bytes | None, script: bytes | None) -> str:
    """A name for everything that was delivered, by the version that read it; dates do not count."""
    digest = sha256(__version__.encode())
    for name, member in sorted(found.members.items()):
        digest.update(f"\0{name}\0{member.size}\0".encode())
    for content in (raw, script):
        digest.update(sha256(content or b"").digest())
    return digest.hexdigest()


def _document(found: Archive, parse: Parse, raw: bytes, script: bytes | None) -> dict[str, Any]:
    kept = b64encode(raw).decode() if len(raw) <= RAW_LIMIT else None
    if kept is None:
        what = f"{len(raw)} bytes; at most {RAW_LIMIT} are kept as /gandi/config"
        found.problems.append(Problem(CONFIG, what, "deliver a smaller document"))
    try:
        document = read_json(CONFIG, raw, found.problems)
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
            Problem(CONFIG, "holds a password in plain text: not kept", hint, harmless=True)
        )
        kept = None
    return answer | {"raw": kept}
