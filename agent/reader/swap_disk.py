"""The swap disk's archive, in the reader: its members, its document, and a name for the whole delivery."""

from __future__ import annotations

from base64 import b64encode

from agent import __version__
from agent.lib.digest import sha256
from agent.reader.common.document import read_json, too_large
from agent.reader.common.problem import Problem
from agent.reader.common.result import Reading, encoded, told
from agent.reader.formats import tar_archive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from agent.reader.formats.tar_archive import Archive

    #: A dialect's ``parse``: of the document and the script.
    Parse = Callable[[dict[str, Any], bytes | None], Reading]

#: Bytes of a configuration that are handed back to be kept as it was spelled.
RAW_LIMIT = 1 << 20


def prepare(dialect: str, known: str, offset: int) -> Callable[[], dict[str, Any]]:
    """What answers for the archive at ``offset``; with ``known``, only whether it is that one."""
    parse = None if known else _dialect(dialect)
    return lambda: _answer(offset, parse, known)


def _dialect(name: str) -> Parse:
    match name:
        case "gandi":
            from agent.reader.dialects import gandi

            return gandi.reading
        case "native":
            from agent.reader.dialects import native

            return native.parse_archived
    raise ValueError(f"no dialect {name} of a swap disk")


def _answer(offset: int, parse: Parse | None, known: str) -> dict[str, Any]:
    """What the archive at ``offset`` holds; without ``parse``, only whether it is the known one."""
    found = tar_archive.read(0, offset)
    if found.foreign:
        return {"ours": False, "foreign": found.foreign, "problems": []}
    raw, script = (_content(found, name) for name in (tar_archive.CONFIG, tar_archive.SCRIPT))
    digest = _digest(found, raw, script)
    answer: dict[str, Any] = {
        "ours": found.ours and (raw is not None or any(not p.harmless for p in found.problems)),
        "extent": [found.offset, found.length],
        "modules": [
            [member.name, member.offset, member.size]
            for member in found.members.values()
            if tar_archive.MODULES.fullmatch(member.name)
        ],
        "digest": digest,
        "same": digest == known,
    }
    if parse is not None and raw is not None:
        answer |= _document(found, parse, raw, script)
    return answer | {"whole": found.whole, "problems": told(found.problems)}


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
        found.problems.append(Problem(tar_archive.CONFIG, what, "deliver a smaller document"))
    try:
        document = read_json(tar_archive.CONFIG, raw, found.problems)
        reading = parse(document, script) if document is not None else None
    except MemoryError:
        reading = too_large(tar_archive.CONFIG)
    if reading is None:
        return {"raw": kept}
    answer = encoded(reading)
    found.problems.extend(reading.problems)
    if reading.secrets and kept is not None:
        hint = "give a crypt(3) hash instead, and it is kept as /gandi/config"
        found.problems.append(
            Problem(tar_archive.CONFIG, "holds a password in plain text: not kept", hint, harmless=True)
        )
        kept = None
    return answer | {"raw": kept}
