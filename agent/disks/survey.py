"""List everything that the platform can attach, with the agent's decision and its reason, for
``gandi-agent disks`` and ``resources``. This changes nothing, takes no lock, and ends in bounded time: a
disk that does not answer is a row.
"""

from __future__ import annotations

import importlib
from functools import partial

from agent.block.storage import Disk
from agent.disks import removed
from agent.disks.base.facts import Format, Leave, MountAt, Mounted
from agent.disks.base.record import DiskState, Records
from agent.disks.base.system import SYSTEMD
from agent.disks.decide import choose
from agent.disks.usage.holders import Holder, summary
from agent.host import processes
from agent.lib.errors import HostError
from agent.lib.parallel import run_parallel
from agent.lib.records import dataclass
from agent.report import Outcome
from agent.systemd import boot_mounts, units
from agent.systemd.journal import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence
    from typing import Any

    from agent.context import Context
    from agent.disks.base.record import Record
    from agent.disks.base.system import System
    from agent.disks.decide import Choice

    Survey = Callable[[Context], Iterator[tuple[str, str, str, str]]]

#: Seconds that all disks together may take to answer.
_TIMEOUT = 15.0


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of any kind: its state, the agent's decision, and the reason."""

    kind: str
    name: str
    state: str
    decision: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One block device. ``size`` in bytes; ``holders``: the users of one that has gone."""

    device: str
    size: int
    fstype: str
    label: str
    state: str
    decision: str
    mountpoint: str = ""
    reason: str = ""
    holders: tuple[Holder, ...] = ()


def disks(ctx: Context, *, system: System = SYSTEMD) -> list[Row]:
    """Return each block device that has or could have data, in bus order, then those that have gone and are
    still in use.
    """
    names = system.names(ctx.host)
    work = {name: partial(_read, ctx, system, name) for name in names}
    found, silent = run_parallel(work, _TIMEOUT, partial(_defect, ctx))
    present = [disk for disk in map(found.get, names) if isinstance(disk, Disk) and disk.device.size]
    unread = {name: why for name, why in found.items() if isinstance(why, str)}
    unread |= dict.fromkeys(silent, "it does not answer")
    records, status, left = Records(ctx.host).done(), ctx.status.read(), boot_mounts.agent_units(ctx.host)
    rows = [_row(choice, records, status, left) for choice in choose(ctx, system, present, claim=False)]
    rows += [Row(name, 0, "", "", "failed", "none", "", unread[name]) for name in names if name in unread]
    return rows + [_gone(key, *value) for key, value in removed.in_use(ctx).items()]


def resources(ctx: Context, *, system: System = SYSTEMD) -> list[Resource]:
    """Return all disks, CPUs, ranges of memory blocks and NICs."""
    found = [
        Resource("disk", row.device, row.state, row.decision, row.reason)
        for row in disks(ctx, system=system)
    ]
    for kind, module in _OTHERS:
        survey: Survey = importlib.import_module(module).survey
        found += [Resource(kind, *answer) for answer in survey(ctx)]
    return found


#: Each other kind of resource: its name, and the module with a ``survey``, which yields the name, state,
#: decision and reason of each.
_OTHERS = (
    ("CPU", "agent.hotplug.cpu"),
    ("memory", "agent.hotplug.memory"),
    ("NIC", "agent.hotplug.nic"),
)


def _read(ctx: Context, system: System, name: str) -> Disk | str | None:
    """Return the disk, why it cannot be read, or None for one that has gone."""
    try:
        return system.read(ctx.host, name)
    except HostError as error:
        return error.message


def _defect(ctx: Context, name: str, error: Exception) -> str:
    Journal(ctx.host).defect(name, error)
    return f"unexpected {type(error).__name__}"


def _row(
    choice: Choice, records: Mapping[str, Record], status: Mapping[str, Any], left: Container[str]
) -> Row:
    """Return the row of a device; ``left``: the units by which PID 1 may have mounted it for the agent."""
    device = choice.device
    state, decision, mountpoint, reason = _decided(choice, records.get(device.name), left)
    label = device.label.decode("utf-8", "replace")
    trouble = None if isinstance(choice.decision, Leave) else _trouble(choice, status)
    if trouble:  # a mounted device with a failure is still mounted
        state, reason = (state if isinstance(choice.decision, Mounted) else trouble[0]), trouble[1]
    return Row(device.name, device.size, device.fstype, label, state, decision, mountpoint, reason)


def _decided(choice: Choice, known: Record | None, left: Container[str]) -> tuple[str, str, str, str]:
    """Return state, decision, mountpoint and reason, from the device alone."""
    done = known.state if known else ""
    match choice.decision:
        case Mounted(mountpoint):
            is_own = known or units.of_path(mountpoint, "mount") in left
            return "mounted", "keep", mountpoint, "" if is_own else "not by the agent"
        case MountAt(mountpoint, _, warning) if done == DiskState.OFFERED:
            return "offered", "keep", mountpoint, warning or "mounted on access"
        case MountAt(mountpoint) if done == DiskState.ANNOUNCED:
            return "announced", "keep", mountpoint, "mount mode notify"
        case MountAt(mountpoint, _, warning):
            return "not mounted", "mount", mountpoint, warning
        case Format(fstype):
            return "blank", "format", "", f"CONFIG_DISK_FORMAT={fstype}"
        case Leave(reason, remedy=remedy) if remedy:
            return "failed", "leave", "", reason
        case Leave(reason):
            is_released = done in (DiskState.RELEASED, DiskState.MOUNTED)
            return ("released" if is_released else "left"), "leave", "", reason


def _trouble(choice: Choice, status: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the state "at work" or "failed" with the details, or None."""
    names = (choice.device.name, choice.disk.name)
    for name in names:
        work = status["work"].get(name)
        if work and processes.is_alive(work):
            return "at work", f"{work.get('step', '')}: {work.get('waiting') or 'running'}"
    entries = [item for name in names for item in status["devices"].get(name, {}).get("items", ())]
    if not any(name in status["devices"] for name in names):  # not looked at since the boot
        steps = [step for stage in status["stages"].values() for step in stage.get("steps", ())]
        entries += [item for step in steps for item in step["items"]]
    for item in entries:
        if item.get("name") == choice.device.name and item.get("outcome") == Outcome.FAILED:
            return "failed", item.get("detail", "")
    return None


def _gone(key: str, known: Record, held: Sequence[Holder]) -> Row:
    device = key.partition("@")[0]
    reason = f"removed while in use: held by {summary(held)}"
    return Row(device, 0, known.fstype, known.label, "gone", "none", known.mountpoint, reason, tuple(held))
