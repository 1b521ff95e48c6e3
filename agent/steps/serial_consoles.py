"""Step: enable a login prompt on each serial terminal that the document names (``consoles``).

The link is the one of ``systemctl enable``, so it works in an image too. It holds for each boot: who
delivers the document knows the terminals of the machine, unlike the step ``console``, which looks for them.
"""

from __future__ import annotations

import os
from functools import partial

from agent.host.chroot_path import link_target
from agent.report import kept, skipped
from agent.systemd import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

TEMPLATE = "/usr/lib/systemd/system/serial-getty@.service"
_WANTS = "/etc/systemd/system/getty.target.wants"
_ITEM = "console:"


def apply(ctx: Context) -> Iterator[Item]:
    """Reconcile one link for each terminal, and withdraw those that the document has no longer."""
    config = ctx.config
    if config is None:
        return
    consoles = config.system.consoles if config.system else ()
    for console in consoles:
        yield _enabled(ctx, console)
    if config.partial:
        return
    for name in ctx.state.recorded_items(_ITEM):
        if name.removeprefix(_ITEM) not in consoles:
            path = _link(name.removeprefix(_ITEM))
            # A login on it is not ended.
            yield ctx.state.withdraw(
                name, live=link_target(ctx.host, path), undo=partial(ctx.host.remove, path)
            )


def _enabled(ctx: Context, console: str) -> Item:
    name, path = f"{_ITEM}{console}", _link(console)
    if units.is_masked(ctx.host, os.path.basename(path)):
        return kept(name, "masked by the administrator")
    if not ctx.host.exists(TEMPLATE):
        return skipped(name, f"there is no {TEMPLATE}")
    return ctx.state.reconcile(
        name,
        delivered=console,
        wanted=TEMPLATE,
        live=link_target(ctx.host, path),
        apply=partial(_enable, ctx.host, path),
    )


def _enable(host: Host, path: str) -> None:
    host.symlink(path, TEMPLATE)
    if host.live:
        # A getty is ordered after the boot's services, this stage among them: do not wait.
        host.run(("systemctl", "--no-block", "start", os.path.basename(path)))


def _link(console: str) -> str:
    return f"{_WANTS}/serial-getty@{console}.service"
