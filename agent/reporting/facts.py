"""Facts for the verdict about a boot that has ended."""

from __future__ import annotations

import time

from agent.block import mounts
from agent.disks.decide import canonical, effective_settings
from agent.reporting.verdict import Facts
from agent.stages import Stage
from agent.state import settled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent.context import Context


def data_disks(ctx: Context) -> int:
    """Return how many disks are mounted where data disks are, by the kernel's table of mounts: only root may
    read the agent's records, and a boot with nothing new has none.
    """
    root, found = canonical(ctx.host, effective_settings(ctx).disk_root), mounts.mounts(ctx.host)
    system = {number for mount in found if mount.mountpoint == "/" for number in mount.devnos}
    data = (m for m in found if m.mountpoint.rpartition("/")[0] == root and m.source.startswith("/dev/"))
    return len({mount.devnos for mount in data if not mount.devnos & system})


def may_have_ended(ctx: Context, document: dict[str, Any]) -> bool:
    """Return whether all stages have ended, or none is needed: only then the disks are worth counting."""
    stages = document["stages"]
    ended = [stage for stage in Stage if stages.get(stage, {}).get("state") in ("done", "failed")]
    return len(ended) == len(Stage) or settled.is_settled(ctx.host)


def after_boot(ctx: Context, document: dict[str, Any]) -> Facts:
    """Return what the verdict needs once the stages have ended; ``document`` is status.json."""
    return Facts(
        document,
        daemon="",
        now=int(time.time()),
        settled=settled.is_settled(ctx.host),
        data_disks=data_disks(ctx),
    )
