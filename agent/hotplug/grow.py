"""The chain that makes a mounted filesystem as large as its disk: table, partition, filesystem.

Each link may have been done already: the chain computes from what is there, so a power cut or a killed
daemon costs nothing. Success is the new size, never an exit status. Devices below dm (LVM, LUKS) have no
such chain here.
"""

from __future__ import annotations

from agent import mounts
from agent.errors import HostError
from agent.hotplug import filesystem, growth, table
from agent.hotplug.facts import Leave
from agent.hotplug.system import unit_name
from agent.plain import dataclass, field
from agent.report import Item, changed, failed, skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.hotplug.system import System
    from agent.storage import Device, Disk

_QUIET = (growth.NOT_GROWN, growth.FULL)


@dataclass(slots=True)
class _GivenUp:
    """Growths that failed: the attachment and size of the disk, by device.

    The writer's own close() makes udev send another event; without this the next look would try again for
    ever.
    """

    seen: dict[str, tuple[str, int]] = field(default_factory=dict)

    def holds(self, case: growth.Case) -> bool:
        return self.seen.get(case.device.name) == (case.disk.sequence, case.disk.device.size)

    def note(self, case: growth.Case) -> None:
        self.seen[case.device.name] = (case.disk.sequence, case.disk.device.size)


_given_up = _GivenUp()


def grow(
    ctx: Context, system: System, disk: Disk, device: Device, at: str, *, root: bool = False
) -> Iterator[Item]:
    """Grow the filesystem of ``device``, mounted at ``at``, if the disk has grown. Says nothing when it
    has not.
    """
    if not filesystem.grower(device.fstype, device.node, at):
        return
    case = _case(ctx, disk, device, at, root=root)
    decision = growth.decide(case)
    if isinstance(decision, Leave):
        if decision in _QUIET:
            _settle(ctx, device, disk.device.size)
        else:
            yield skipped(device.name, f"not grown: {decision.reason}")
        return
    if device.fstype == "btrfs" and len(mounts.btrfs_members(ctx.host, device.name)) > 1:
        yield skipped(device.name, "not grown: a btrfs of several devices (run: btrfs filesystem resize)")
        return
    if _given_up.holds(case):
        yield failed(device.name, "growing failed and is not tried again by itself", _hint(device))
        return
    ctx.waiting(f"{device.name} to grow")
    yield _do(ctx, system, case, decision, at)
    if decision.warning:
        yield failed(device.name, decision.warning)


def _do(ctx: Context, system: System, case: growth.Case, decision: growth.Grow, at: str) -> Item:
    host, disk, device = ctx.host, case.disk, case.device
    if case.table and case.table.covered and not case.settled:
        # Writing the table removes the evidence that the disk has grown; a power cut must not lose it.
        _settle(ctx, device, case.table.covered)
    try:
        if decision.partition and case.table:
            table.extend(host, system, case.table, disk, device)
        argv = filesystem.grower(device.fstype, device.node, at)
        system.write(host, unit_name("grow", device.name), disk.device.node, argv)
        if host.dry_run:
            return changed(device.name, "would grow")
        spans = filesystem.size(host, device.fstype, device.node, at)
        if spans <= case.spans:
            raise HostError(f"{at}: still {_gib(spans)} after {argv[0]}", hint=_hint(device))
    except HostError:
        _given_up.note(case)
        raise
    _settle(ctx, device, disk.device.size)
    return changed(device.name, f"grown from {_gib(case.spans)} to {_gib(spans)}")


def _case(ctx: Context, disk: Disk, device: Device, at: str, *, root: bool) -> growth.Case:
    return growth.Case(
        disk,
        device,
        filesystem.size(ctx.host, device.fstype, device.node, at),
        int(ctx.state.disks().get(device.uuid, {}).get("size", 0)) if device.uuid else 0,
        table.read(ctx.host, disk) if device.partition else None,
        root,
    )


def _settle(ctx: Context, device: Device, size: int) -> None:
    if device.uuid:
        ctx.state.remember_disk(device.uuid, size=size)


def _hint(device: Device) -> str:
    return f"see: journalctl -b -u {unit_name('grow', device.name)}.service"


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.2f} GiB"
