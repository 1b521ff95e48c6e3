"""Step: publish the drive's metadata of the machine for all its users (``gandi-agent get``)."""

from __future__ import annotations

from agent.report import unchanged
from agent.state import instance_metadata

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.report import Item


def apply(ctx: Context) -> Iterator[Item]:
    """Write the values below /run; that counts as unchanged, since it configures nothing."""
    values = dict(ctx.config.metadata) if ctx.config else {}
    instance_metadata.publish(ctx.host, values)
    yield unchanged("metadata", f"{len(values)} values")
