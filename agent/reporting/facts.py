"""Facts for the verdict about a boot that has ended."""

from __future__ import annotations

import time

from agent.disks.decide import mounted_data_disks
from agent.reporting.verdict import Facts
from agent.stages import Stage
from agent.state import settled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent.context import Context


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
        data_disks=mounted_data_disks(ctx),
    )
