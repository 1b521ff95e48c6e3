"""Handle that the machine was restored or resumed: the clock, its identity, what is attached, the hook."""

from __future__ import annotations

from contextlib import suppress

from agent.disks import scsi_rescan
from agent.host.sysfs import listed
from agent.lib.errors import HostError
from agent.programs import hooks
from agent.report import failed, guarded
from agent.restored import clock, identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.report import Item

HOOK = "post-restore"
_PCI, _SCSI = "/sys/bus/pci/rescan", "/sys/class/scsi_host"


def handle(ctx: Context, action: str) -> Iterator[Item]:
    """Set right what a restore changes; the daemon scans all devices itself. ``action`` is "restored", or
    "resumed" from suspend; the hook gets it.
    """
    yield from guarded("clock", clock.check(ctx))
    yield from guarded("identity", identity.check(ctx))
    yield from _rescan(ctx)
    yield from hooks.run(ctx, HOOK, environment={"ACTION": action})


def _rescan(ctx: Context) -> Iterator[Item]:
    """Have the kernel search its buses: the platform may have attached disks, or resized them, while the
    machine was saved. What it finds causes events as usual.
    """
    host = ctx.host
    if host.exists(_PCI):
        try:
            host.sysfs_write(_PCI, "1")
        except HostError as error:
            yield failed("PCI devices", error.message, "attach new devices again")
    for controller in listed(host, _SCSI):
        with suppress(HostError):  # it has gone since, or cannot be searched
            host.sysfs_write(f"{_SCSI}/{controller}/scan", "- - -")
        scsi_rescan.rescan(host, controller.removeprefix("host"))
