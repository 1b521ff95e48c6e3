"""Step: what the drive says of the machine, where everybody on it may read it (``gandi-agent get``)."""

from __future__ import annotations

from agent.report import unchanged
from agent.state import instance_metadata

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.report import Item


def apply(ctx: Context) -> Iterator[Item]:
    """Publish it for this boot: nothing of the machine changes by it."""
    values = dict(ctx.config.metadata) if ctx.config else {}
    instance_metadata.publish(ctx.host, values)
    yield unchanged("metadata", f"{len(values)} values")
