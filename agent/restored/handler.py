"""Handle that the machine was restored or resumed: its identity, what is attached, the hook. The clock was
set by bin/gandi-restored before that.
"""

from __future__ import annotations

from contextlib import suppress

from agent.disks import scsi_rescan
from agent.host.sysfs import listed
from agent.lib.errors import HostError
from agent.lib.text import lines
from agent.programs import hooks
from agent.report import Item, Outcome, failed, guarded
from agent.restored import identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context

HOOK = "post-restore"
#: The outcome of the clock, "changed: was 600.2 s behind the RTC: set by date", and the most bytes of it.
_CLOCK, _MOST = "/run/gandi/clock", 1024
_LOG = "see: journalctl -b -u gandi-restored -u gandi-resumed -u gandi-jumped"
_PCI, _SCSI = "/sys/bus/pci/rescan", "/sys/class/scsi_host"


def handle(ctx: Context, action: str) -> Iterator[Item]:
    """Set right what a restore changes; the daemon scans all devices itself. ``action`` is "restored",
    "resumed" from suspend, or "jumped", where only the clock tells; the hook gets it.
    """
    yield from guarded("clock", _clock(ctx))
    yield from guarded("identity", identity.check(ctx))
    yield from _rescan(ctx)
    yield from hooks.run(ctx, HOOK, environment={"ACTION": action})


def _clock(ctx: Context) -> Iterator[Item]:
    """Yield what bin/gandi-restored has noted of the clock."""
    noted = lines(ctx.host.read(_CLOCK, limit=_MOST) or "")
    # The next restore has its own.
    ctx.host.remove(_CLOCK)
    outcome, _, detail = noted[0].partition(": ") if noted else ("", "", "")
    if outcome in list(Outcome) and detail:
        yield Item("clock", Outcome(outcome), detail, _LOG if outcome == Outcome.FAILED else "")
    else:
        yield failed("clock", "not compared with another", _LOG)


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
