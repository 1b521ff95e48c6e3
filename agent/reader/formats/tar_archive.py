"""Read the tar archive on the swap disk, member by member, without extracting or trusting it.

Not by tarfile, for three reasons. This must return where on the device the archive ends, since those bytes
are overwritten later; it must distinguish a damaged archive from its end (tarfile takes a bad header for the
end); and a size in a header must not decide how much memory is allocated. Format: tar(5), POSIX.1-2017 pax,
"ustar Interchange Format".
"""

from __future__ import annotations

import os
import re

from agent.lib.records import dataclass, field
from agent.reader.common.archive_layout import (
    BLOCK,
    CONFIG,
    INIT,
    SCRIPT,
    WIPED,
    has_magic,
    mark,
    modules_release,
)
from agent.reader.common.problem import HARMLESS, Problem, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: Bytes of each member at the most. A configuration is far smaller than its limit: what is too large in it
#: is then named by its own path.
LIMITS = {CONFIG: 64 << 20, SCRIPT: 8 << 20}
MODULES_LIMIT = 1 << 30
MEMBERS = 1000
_EXTENDED = 64 << 10  # maximum bytes of a pax or long-name record
_RECORD = 20 * BLOCK  # tar pads an archive to a multiple of this (its default blocking factor)
_REGULAR = (b"0", b"\0", b"7")
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device node",
    b"4": "a device node",
    b"5": "a folder",
    b"6": "a FIFO",
    b"S": "a sparse file",
}
#: Headers that describe the next member: pax (for one member, for all), GNU's long name and long link.
_EXTENDING = (b"x", b"g", b"L", b"K")
#: Types without content blocks in the archive, even if their size is not 0.
_EMPTY = (b"1", b"2", b"3", b"4", b"5", b"6")


class Damaged(Exception):
    """The rest of the archive cannot be read; members read before stay valid."""


@dataclass(frozen=True, slots=True)
class Header:
    """A header block: the member's name, its size in bytes, and its type flag."""

    name: str
    size: int
    kind: bytes


@dataclass(frozen=True, slots=True)
class Member:
    """A member that the agent uses; ``offset`` of its content on the device and ``size`` are in bytes."""

    name: str
    offset: int
    size: int

    def read(self, descriptor: int) -> bytes:
        """Return the content. Raise Damaged if the device ends before it does."""
        return _pread(descriptor, self.size, self.offset)


@dataclass(slots=True)
class Archive:
    """The archive at ``offset`` bytes of the device, ``length`` bytes long."""

    offset: int
    length: int = 0
    members: dict[str, Member] = field(default_factory=dict)
    #: Whether the end mark was found.
    is_complete: bool = False
    #: Whether a member is below gandi/.
    is_recognised: bool = False
    #: Why it is not the platform's, so that none of it is used; "" if every member is below gandi/.
    foreign: str = ""
    problems: list[Problem] = field(default_factory=list)


@dataclass(slots=True)
class _Overrides:
    """Values from extended headers for the member that follows them."""

    name: str = ""
    size: int | None = None
    sparse: bool = False
    #: The real name of a sparse member: GNU tar writes another one into its header.
    sparse_name: str = ""


def header(block: bytes) -> Header | None:
    """Return a ustar or GNU header; None if the block is not one (wrong magic, checksum or number)."""
    if len(block) != BLOCK or not has_magic(block):
        return None
    size, checksum = _number(block[124:136]), _number(block[148:156])
    if size is None or checksum != sum(block[:148]) + 8 * ord(" ") + sum(block[156:]):
        return None
    name = _text(block[:100])
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return Header(f"{prefix}/{name}" if prefix else name, size, block[156:157])


def read(descriptor: int, offset: int) -> Archive:
    """Return the archive at ``offset`` bytes of the open device; damage and refused members are in
    ``problems``.

    Reading stops at the first member that is not the platform's, or after ``MEMBERS``: the archive is then
    ``foreign``. A second archive after the end mark is checked too, but its members are not used.
    """
    archive = Archive(offset)
    walk = _members(descriptor, archive)
    try:
        for count, (head, place) in enumerate(walk):
            archive.foreign = _foreign(head) if count < MEMBERS else f"more than {MEMBERS} members in it"
            if archive.foreign:
                return archive
            if not archive.is_complete:
                _take(archive, head, place)
    except Damaged as error:
        # After the end mark, damage may be the rest of an older archive.
        if not archive.is_complete:
            archive.problems.append(
                Problem("the archive", str(error), "the platform must deliver it again; nothing is wiped")
            )
    return archive


def marked(block: bytes) -> int | None:
    """Return the number of bytes after the block that are being overwritten, if it is one of ``mark``; None
    for a block that differs in any byte, as another program's header of that name does.
    """
    head = header(block)
    is_mark = head is not None and head.name == WIPED and head.size < 8**11 and block == mark(head.size)
    return head.size if head and is_mark else None


def _members(descriptor: int, archive: Archive) -> Iterator[tuple[Header, int]]:
    """Yield each member's header, changed by its extended headers, and the place of its content in bytes."""
    place, overrides = archive.offset, _Overrides()
    while True:
        block = _pread(descriptor, BLOCK, place)
        place += BLOCK
        if not any(block):
            if not archive.is_complete:
                archive.length = place + BLOCK - archive.offset
                archive.is_complete = True
            following = _next_archive(descriptor, place)
            if following is None:
                return
            place = following
            continue
        head = header(block)
        if head is None:
            raise Damaged(f"damaged {place - BLOCK - archive.offset} bytes after its beginning")
        if not archive.is_complete:
            archive.length = place - archive.offset
        if head.kind in _EXTENDING:
            _extend(overrides, head.kind, _extended(descriptor, head, place))
        else:
            if head.kind == b"S":
                place = _sparse_map(descriptor, block, place)
            head = _overridden(head, overrides)
            yield head, place
            overrides = _Overrides()
        place += 0 if head.kind in _EMPTY else -(-head.size // BLOCK) * BLOCK


def _extend(overrides: _Overrides, kind: bytes, content: bytes) -> None:
    """Add the values of an extended header. Raise Damaged for a global one that would change all members."""
    if kind == b"L":
        overrides.name = _text(content)
    elif kind == b"x":
        _pax(content, overrides)
    elif kind == b"g":
        _pax(content, for_all := _Overrides())
        if for_all != _Overrides():
            raise Damaged("a header that renames or resizes every member")


def _overridden(head: Header, overrides: _Overrides) -> Header:
    size = head.size if overrides.size is None else overrides.size
    name = overrides.sparse_name or overrides.name or head.name
    return Header(name, size, b"S" if overrides.sparse else head.kind)


def _take(archive: Archive, head: Header, place: int) -> None:
    """Add a member of the platform, or the reason why it is not used."""
    name = _plain(head.name)
    if _is_folder(head) and name in ("", "gandi"):
        archive.is_recognised |= name == "gandi"
        return
    archive.is_recognised = True
    limit = MODULES_LIMIT if modules_release(name) else LIMITS.get(name)
    if head.kind not in _REGULAR:
        why = f"{_KINDS.get(head.kind, 'of an unknown type')}, not a regular file"
        hint = "only regular files below gandi/ are read; it was left as it is"
        archive.problems.append(Problem(shown(head.name), why, hint))
    elif name == INIT:
        pass  # The platform's own program: the agent does the same without it.
    elif limit is None:
        archive.problems.append(
            Problem(shown(head.name), "ignored: the agent reads no member of that name", severity=HARMLESS)
        )
    elif name in archive.members:
        archive.problems.append(Problem(name, "appears twice; the first is used", "deliver it once"))
    elif head.size > limit:
        what = f"{head.size} bytes; at most {limit} are read"
        archive.problems.append(Problem(name, what, "deliver a smaller file"))
    else:
        archive.members[name] = Member(name, place, head.size)


def _foreign(head: Header) -> str:
    """Return why a member is not the platform's, "" if it is below gandi/ or a folder above it."""
    name = _plain(head.name)
    below = name.startswith("gandi/") and ".." not in name.split("/")
    if below or (_is_folder(head) and name in ("", "gandi")):
        return ""
    return f"{shown(head.name) or 'a member without a name'} in it"


def _next_archive(descriptor: int, end: int) -> int | None:
    """Return where another archive begins after the end mark, as "tar --ignore-zeros" reads it: directly, or
    after the record of 10 KiB; None if there is none.

    Other bytes there are ignored: the disk may have been used as swap before.
    """
    try:
        rest = os.pread(descriptor, _RECORD + BLOCK, end)
    except OSError:
        return None
    blocks = ((end + n, rest[n : n + BLOCK]) for n in range(0, len(rest), BLOCK))
    first = next(((place, block) for place, block in blocks if any(block)), None)
    return first[0] if first and header(first[1]) else None


def _plain(name: str) -> str:
    """Return a member's name without a leading ``./`` and trailing slashes."""
    name = "" if name in (".", "./") else name.removeprefix("./")
    return name.rstrip("/")


def _is_folder(head: Header) -> bool:
    """Return whether a member is a folder; before POSIX only a slash at the end of the name showed it."""
    return head.kind == b"5" or (head.kind in _REGULAR and head.name.endswith("/"))


def _pread(descriptor: int, size: int, offset: int) -> bytes:
    content = bytearray()
    while len(content) < size:
        try:
            chunk = os.pread(descriptor, min(size - len(content), 1 << 20), offset + len(content))
        except (OSError, OverflowError) as error:
            raise Damaged(f"cannot be read at byte {offset + len(content)}: {error}") from error
        if not chunk:
            raise Damaged("cut short: the device ends before the archive does")
        content += chunk
    return bytes(content)


def _number(digits: bytes) -> int | None:
    """Return a header's number: octal digits (0 without any), or GNU's base-256 after a byte 0x80; None for
    anything else.
    """
    if digits[0] == 0x80:
        return int.from_bytes(digits[1:], "big")
    text = digits.strip(b" \0")
    return int(text, 8) if re.fullmatch(rb"[0-7]+", text) else (None if text else 0)


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "replace")


def _extended(descriptor: int, head: Header, place: int) -> bytes:
    if head.size > _EXTENDED:
        raise Damaged(f"a header record of {head.size} bytes")
    return _pread(descriptor, head.size, place)


def _pax(content: bytes, overrides: _Overrides) -> None:
    """Add the values of pax records ("LENGTH KEY=VALUE\\n" each) for the next member."""
    while content:
        length, _, rest = content.partition(b" ")
        # Nine digits are enough for any record; int() raises for thousands of them.
        if not re.fullmatch(rb"[0-9]{1,9}", length) or not len(length) + 2 < int(length) <= len(content):
            raise Damaged("a damaged pax record")
        key, _, value = rest[: int(length) - len(length) - 2].partition(b"=")
        if key == b"path":
            overrides.name = _text(value)
        elif key == b"GNU.sparse.name":
            overrides.sparse_name = _text(value)
        elif key == b"size" and re.fullmatch(rb"[0-9]{1,20}", value):
            overrides.size = int(value)
        overrides.sparse |= key.startswith(b"GNU.sparse")
        content = content[int(length) :]


def _sparse_map(descriptor: int, block: bytes, place: int) -> int:
    """Return where the content of an old GNU sparse member begins, after the blocks of its map."""
    more = block[482]
    for _ in range(MEMBERS):
        if not more:
            return place
        more = _pread(descriptor, BLOCK, place)[504]
        place += BLOCK
    raise Damaged("a sparse member with an endless map")
