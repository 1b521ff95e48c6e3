"""Step: the root filesystem's own counters (ext2, ext3, ext4; tune2fs(8)): checked every 42 mounts or two
months, where it was made without a limit on mounts.

A limit that somebody has set is left alone.
"""

from __future__ import annotations

import os
import struct

from agent.block import mounts
from agent.lib.records import dataclass
from agent.report import unchanged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.report import Item

MOUNTS, MONTHS = 42, 2
#: Of the superblock (ext4's on-disk format, the kernel's Documentation/filesystems/ext4/super.rst): where it
#: is, its size, and in it s_max_mnt_count, s_magic and s_checkinterval in seconds.
_AT, _SIZE = 1024, 1024
_MAX_MOUNTS, _MAGIC_AT, _INTERVAL = 0x36, 0x38, 0x44
_MAGIC = 0xEF53
#: tune2fs counts a month as 30 days.
_MONTH = 30 * 24 * 3600
#: Seconds: it writes one block.
_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Counters:
    """How often it is checked: mounts (0 or less: never), seconds (0: never)."""

    mounts: int
    interval: int

    def __str__(self) -> str:
        return f"{self.mounts} mounts, {self.interval} s"


WANTED = Counters(MOUNTS, MONTHS * _MONTH)


def apply(ctx: Context) -> Iterator[Item]:
    """Settle them as one item; nothing to do on another filesystem."""
    root = [mount for mount in mounts.mounts(ctx.host) if mount.at == "/"]
    if not root or not root[-1].fstype.startswith("ext"):
        return
    node = f"/dev/block/{next(iter(root[-1].numbers))}"
    live = read(ctx, node)
    if live is None:
        return
    state, name = ctx.state.system(), "fsck"
    if live.mounts > 0 and live != WANTED and not state.applied(name):
        yield unchanged(name, f"already set: {live}")
        return
    yield state.settle(
        name,
        delivered=str(WANTED),
        wanted=str(WANTED),
        live=str(live),
        apply=lambda: _set(ctx, node),
        detail=str(WANTED),
    )


def read(ctx: Context, node: str) -> Counters | None:
    """The counters of the filesystem on a device, None where there is no such filesystem."""
    with ctx.host.opened(node, os.O_RDONLY) as device:
        block = os.pread(device, _SIZE, _AT)
    if len(block) < _SIZE or struct.unpack_from("<H", block, _MAGIC_AT)[0] != _MAGIC:
        return None
    return Counters(
        struct.unpack_from("<h", block, _MAX_MOUNTS)[0], struct.unpack_from("<I", block, _INTERVAL)[0]
    )


def _set(ctx: Context, node: str) -> None:
    # It writes the superblock at once, and nothing else: it needs no unit that outlives us.
    argv = ("tune2fs", "-c", str(MOUNTS), "-i", f"{MONTHS}m", os.path.realpath(ctx.host.path(node)))
    ctx.host.run(argv, timeout=_TIMEOUT)
