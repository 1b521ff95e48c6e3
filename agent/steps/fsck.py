"""Step: have the root filesystem (ext2, ext3, ext4) checked every 42 mounts or two months (tune2fs(8)).

Only if it was made without a limit on mounts: a limit that is already set is left as it is.
"""

from __future__ import annotations

import os
import struct

from agent.block import mounts, storage
from agent.lib.records import dataclass
from agent.report import unchanged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.report import Item

MOUNTS, MONTHS = 42, 2
#: The superblock (the kernel's Documentation/filesystems/ext4/super.rst): its offset and size on the device;
#: in it, the offsets of s_max_mnt_count, s_magic and s_checkinterval (seconds).
_AT, _SIZE = 1024, 1024
_MAX_MOUNTS, _MAGIC_AT, _INTERVAL = 0x36, 0x38, 0x44
_MAGIC = 0xEF53
#: tune2fs counts a month as 30 days.
_MONTH = 30 * 24 * 3600
#: Seconds for tune2fs, which writes one block.
_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Counters:
    """The limits for a check: mounts (0 or less: none) and seconds (0: none)."""

    mounts: int
    interval: int

    def __str__(self) -> str:
        return f"{self.mounts} mounts, {self.interval} s"


WANTED = Counters(MOUNTS, MONTHS * _MONTH)


def apply(ctx: Context) -> Iterator[Item]:
    """Reconcile the limits as one item; yield nothing on another filesystem."""
    root = [mount for mount in mounts.mounts(ctx.host) if mount.mountpoint == "/"]
    if not root or not root[-1].fstype.startswith("ext"):
        return
    node = f"/dev/block/{next(iter(root[-1].devnos))}"
    live = read(ctx, node)
    if live is None:
        return
    state, name = ctx.state.system(), "fsck"
    if live.mounts > 0 and live != WANTED and not state.recorded_items(name):
        yield unchanged(name, f"already set: {live}")
        return
    yield state.reconcile(
        name,
        wanted=str(WANTED),
        live=str(live),
        apply=lambda: _set_counters(ctx, node),
        detail=str(WANTED),
    )


def read(ctx: Context, node: str) -> Counters | None:
    """Return the limits of the ext filesystem on a device, None if there is none."""
    block = storage.read_at(ctx.host, node, _SIZE, _AT)
    if len(block) < _SIZE or struct.unpack_from("<H", block, _MAGIC_AT)[0] != _MAGIC:
        return None
    return Counters(
        struct.unpack_from("<h", block, _MAX_MOUNTS)[0], struct.unpack_from("<I", block, _INTERVAL)[0]
    )


def _set_counters(ctx: Context, node: str) -> None:
    # It writes only the superblock, at once, so it needs no unit that outlives the agent.
    argv = ("tune2fs", "-c", str(MOUNTS), "-i", f"{MONTHS}m", os.path.realpath(ctx.host.path(node)))
    ctx.host.run(argv, timeout=_TIMEOUT)
