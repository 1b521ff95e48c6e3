"""Coldplug: the first scan of CPUs, memory and NICs in a boot. What is added after it counts as new.

The daemon's socket receives device events before the scan begins, so no device is missed in between.
"""

from __future__ import annotations

from agent.hotplug import cpu, memory, nic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.report import Item


def apply(ctx: Context) -> Iterator[Item]:
    """Record the CPUs and NICs that are present, and bring offline memory online."""
    nic.record_first_scan(ctx)
    yield from cpu.handle(ctx)
    yield from memory.apply(ctx)
