"""The first look of a boot at CPUs, memory and NICs: what comes after it is new.

It begins when the daemon hears of devices already, so that nothing comes between.
"""

from __future__ import annotations

from agent.hotplug import cpu, memory, nic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.report import Item


def apply(ctx: Context) -> Iterator[Item]:
    """Remember who is there, and bring the memory online that nobody has yet."""
    nic.first(ctx)
    yield from cpu.look(ctx)
    yield from memory.apply(ctx)
