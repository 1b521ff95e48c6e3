"""Disks: what comes is mounted, what is enlarged grows, what has gone is cleaned up after.

An event only says "look at this disk": everything is computed from what is there now, for the whole disk
and its partitions together, one look at a disk at a time. Decisions are made one after the other, so
that two disks never get the same mountpoint; what they lead to is done in parallel.
"""

from __future__ import annotations

import time
from functools import partial

from agent import storage
from agent.context import record, working
from agent.errors import AgentError
from agent.hotplug import grow, machine, mounting, policy, root
from agent.hotplug.facts import Facts, Filesystem, Format, Leave, MountAt, Mounted
from agent.hotplug.once import Once
from agent.hotplug.record import Records
from agent.hotplug.system import SYSTEMD
from agent.hotplug.together import together
from agent.hotplug.turns import Turns
from agent.journal import Journal
from agent.plain import dataclass, replace
from agent.report import Item, failed, items, skipped, unchanged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from agent.context import Context
    from agent.hotplug.facts import Decision
    from agent.hotplug.system import System
    from agent.storage import Device, Disk

#: Seconds that the mount stage waits for the facts about all disks; a disk that does not answer by then
#: comes later.
_FACTS_TIMEOUT = 15.0


_turns = Turns()


@dataclass(frozen=True, slots=True)
class Row:
    """One device and what the agent thinks of it, for people. ``size`` in bytes."""

    device: str
    size: int
    fstype: str
    label: str
    decision: Decision


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do with one device; ``grows``: whether it may be grown, whoever mounted it."""

    disk: Disk
    device: Device
    decision: Decision
    grows: bool
    is_root: bool


def handle(ctx: Context, sysname: str, _action: str, *, system: System = SYSTEMD) -> Iterator[Item]:
    """Look at one disk and make it as it should be. The action is not needed: what is there now decides."""
    name = storage.whole(ctx.host, sysname)
    with _turns.of(name):
        disk = system.read(ctx.host, name)
        yield from _forget_gone(ctx, system, name, disk)
        is_new = disk is not None and not disk.excluded and Once(ctx.host).is_new(disk)
        choices = _decide(ctx, system, [disk] if disk else [], is_new=is_new)
        for choice in choices:
            yield from _guarded(ctx, choice.device.name, partial(_mount, ctx, system, choice))
            yield from _guarded(ctx, choice.device.name, partial(_grow, ctx, system, choice))
        if disk is not None and is_new:
            Once(ctx.host).looked(disk)
        if any(choice.is_root for choice in choices) and ctx.settings.grow_root:
            yield from _guarded(ctx, name, partial(_grow_root_on, ctx, system, name))


def mount_all(ctx: Context, *, system: System = SYSTEMD) -> Iterator[Item]:
    """Mount every data disk that is present, all at the same time; mountpoints are given out in bus
    order.

    Waits CONFIG_MOUNT_TIMEOUT seconds in all. A disk that takes longer is a failure that names it; the
    work on it goes on, and its end is recorded with the devices. Growth follows afterwards, waited for
    by nobody.
    """
    begun, timeout = time.monotonic(), ctx.settings.mount_timeout
    Once(ctx.host).coldplugged()
    names = system.names(ctx.host)
    ctx.waiting("the facts about all disks")
    facts, silent = together({name: partial(_read, ctx, system, name) for name in names}, _FACTS_TIMEOUT)
    yield from (item for found in facts.values() if isinstance(found, list) for item in found)
    for name in sorted(silent):
        hint = "to have it looked at again: udevadm trigger --subsystem-match=block"
        yield failed(name, f"did not answer within {_FACTS_TIMEOUT:g} s", hint)
    known = {name: found for name, found in facts.items() if not isinstance(found, list)}
    for name in sorted(recorded(ctx) - silent - (set(facts) - set(known))):
        yield from _forget_gone(ctx, system, name, known.get(name))
    disks = [disk for name in names if (disk := known.get(name)) and not disk.excluded]
    choices = _decide(ctx, system, disks, explicit=True)
    work = {
        choice.device.name: partial(
            _apart, ctx, choice, "mount", partial(_mount, system=system, choice=choice)
        )
        for choice in choices
    }
    ctx.waiting(", ".join(choice.device.name for choice in choices if isinstance(choice.decision, MountAt)))
    left = max(begun + timeout - time.monotonic(), 0.0)
    done, late = together(work, left, partial(_record, ctx))
    for name in work:
        yield from done.get(name, ())
    for name in sorted(late):
        yield failed(name, f"not ready within {timeout} s; the work goes on", "see: gandi-agent status")
    grown = {
        choice.device.name: partial(
            _apart, ctx, choice, "grow", partial(_grown, system=system, choice=choice)
        )
        for choice in choices
        if choice.grows and choice.device.name in done
    }
    # A plan tells what would grow; a boot does not wait for it.
    planned, _ = together(grown, _FACTS_TIMEOUT if ctx.host.dry_run else 0.0, partial(_record, ctx))
    yield from (item for name in planned if ctx.host.dry_run for item in planned[name])


def grow_root(ctx: Context, *, system: System = SYSTEMD) -> Iterator[Item]:
    """Let the root filesystem fill its disk; waits for a growth that is under way."""
    found = root.find(ctx, system)
    if isinstance(found, str):
        yield skipped("root disk", found)
        return
    with _turns.of(found.disk.name):
        # Looked at again: what was under way has changed the sizes.
        found = root.find(ctx, system)
        if isinstance(found, root.Root):
            yield from root.apply(ctx, system, found)


def recorded(ctx: Context) -> set[str]:
    """The disks of which something is mounted by us, or was when they went away unseen."""
    return {known.disk for known in Records(ctx.host).all().values()}


def describe(ctx: Context, *, system: System = SYSTEMD) -> list[Row]:
    """Each block device that holds or could hold data, in bus order, and what would happen to it."""
    disks = [disk for name in system.names(ctx.host) if (disk := system.read(ctx.host, name))]
    choices = _decide(ctx, system, [disk for disk in disks if disk.device.size], claim=False)
    return [
        Row(
            device.name, device.size, device.fstype, device.label.decode("utf-8", "replace"), choice.decision
        )
        for choice in choices
        for device in (choice.device,)
    ]


# -- deciding -------------------------------------------------------------------------------------


def _decide(
    ctx: Context,
    system: System,
    disks: Sequence[Disk],
    *,
    explicit: bool = False,
    claim: bool = True,
    is_new: bool = False,
) -> list[Choice]:
    """The decision on each device of the disks, in their order; a mountpoint that is given out is taken
    from then on.

    ``explicit``: the administrator asked for it (gandi-mount was started), so nothing counts as
    released.
    """
    chosen = list[Choice]()
    with _turns.deciding:
        records = Records(ctx.host).all()
        known = machine.gather(ctx.host, system, ctx.settings, records)
        released = frozenset[str]() if explicit else machine.released(known, records)
        remembered = ctx.state.disks()
        for disk, device in ((each, device) for each in disks for device in each.devices):
            used = (*known.filesystems, *_turns.pending.values())
            now = replace(known, filesystems=used, released=released)
            facts = Facts(disk, device, now, ctx.settings, remembered, is_new)
            decision = policy.decide(facts)
            if device.number in _turns.pending:
                decision = Leave("being mounted now", quiet=True)
            if claim and isinstance(decision, MountAt):
                taken = Filesystem(device.number, device.uuid, device.label, decision.at, ours=True)
                _turns.pending[device.number] = taken
            grows = ctx.settings.grow_disks and not policy.grown_apart(facts)
            is_root = disk.name in known.root_disks
            chosen.append(Choice(disk, device, decision, grows, is_root))
    return chosen


# -- acting ---------------------------------------------------------------------------------------


def _mount(ctx: Context, system: System, choice: Choice) -> Iterator[Item]:
    """Carry out the decision on one device."""
    device = choice.device
    match choice.decision:
        case Leave(reason, quiet):
            if not quiet:
                yield skipped(device.name, reason)
        case Mounted(at):
            known = device.name in Records(ctx.host).all()
            if not known and ctx.state.disks().get(device.uuid, {}).get("at") == at:
                mounting.adopt(ctx, choice.disk, device, at)
            yield unchanged(device.name, f"mounted at {at}")
        case Format(fstype):
            from agent.hotplug import format

            yield from format.apply(ctx, system, choice.disk, fstype)
        case decision:
            try:
                yield from mounting.mount(ctx, system, choice.disk, device, decision)
            finally:
                _turns.pending.pop(device.number, None)


def _grow(ctx: Context, system: System, choice: Choice) -> Iterator[Item]:
    if not choice.grows:
        return
    at = choice.decision.at if isinstance(choice.decision, MountAt | Mounted) else ""
    if at and mounting.is_mounted(ctx, choice.device.number, at):
        yield from grow.grow(ctx, system, choice.disk, choice.device, at)
    elif choice.device.fstype in policy.STACKED:
        from agent.hotplug import volumes

        yield from volumes.pass_on(ctx, system, choice.disk, choice.device)


def _grown(ctx: Context, system: System, choice: Choice) -> Iterator[Item]:
    """Growth after the mount stage: one look at the disk at a time there too."""
    with _turns.of(choice.disk.name):
        yield from _grow(ctx, system, choice)


def _apart(
    ctx: Context, choice: Choice, action: str, work: Callable[[Context], Iterable[Item]]
) -> list[Item]:
    """Do the work on one device in a thread that may outlast the stage: what it waits for is told under
    the device's name, never as what a later step waits for.
    """
    name = choice.device.name
    try:
        own = replace(ctx, waiting=partial(working, ctx, name, action))
        return _guarded(ctx, name, lambda: work(own))
    finally:
        record(ctx, lambda: ctx.status.merge("work", name, None))


def _grow_root_on(ctx: Context, system: System, name: str) -> Iterator[Item]:
    """A root disk that was resized while the machine runs grows too. The caller holds the disk."""
    found = root.find(ctx, system)
    if isinstance(found, root.Root) and found.disk.name == name:
        yield from root.apply(ctx, system, found)


def _forget_gone(ctx: Context, system: System, name: str, disk: Disk | None) -> Iterator[Item]:
    """Clean up after devices of this disk that are there no longer, or in whose place another one has
    come. None is a disk that has gone; one that could not be read has not.
    """
    present = {device.name for device in disk.devices} if disk else set[str]()
    for device, known in Records(ctx.host).all().items():
        is_same = disk is not None and known.sequence == disk.sequence and device in present
        if known.disk == name and not is_same:
            yield from _guarded(ctx, device, partial(mounting.forget, ctx, system, device, known))


def _read(ctx: Context, system: System, name: str) -> Disk | list[Item] | None:
    """The disk, None when it is gone, or what kept it from being read."""
    found: Disk | None = None

    def read() -> Iterable[Item]:
        nonlocal found
        found = system.read(ctx.host, name)
        return ()

    return _guarded(ctx, name, read) or found


def _guarded(ctx: Context, name: str, work: Callable[[], Iterable[Item]]) -> list[Item]:
    """Do the work on one device; its failure is a record and costs no other device anything."""
    done = list[Item]()
    try:
        done.extend(work())
    except AgentError as error:
        done.append(failed(name, error.message, error.hint))
    except Exception as error:
        Journal(ctx.host).defect(name, error)
        done.append(failed(name, f"unexpected {type(error).__name__}", "see: journalctl -b -t gandi-agent"))
    return done


def _record(ctx: Context, name: str, done: Sequence[Item]) -> None:
    """Record what ended after the stage had stopped waiting for it."""
    if done:
        entry = {"outcome": done[-1].outcome, "items": items(done)}
        record(ctx, lambda: ctx.status.merge("devices", name, entry))
