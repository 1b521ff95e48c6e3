"""Decide what to do with each device of some disks. Decisions are made one after the other, so that two
devices never get the same mountpoint; they are carried out in parallel. The facts about the rest of the
machine are gathered again for each decision.
"""

from __future__ import annotations

import contextlib
import os
import stat
from functools import partial

from agent.block import mounts, storage
from agent.config.settings import MountMode
from agent.context import record
from agent.disks import policy
from agent.disks.base.facts import Facts, Filesystem, Format, Leave, Machine, MountAt, Mounted, Place
from agent.disks.base.locks import LOCKS
from agent.disks.base.record import DiskState, Records, current, renewed
from agent.host import processes
from agent.host.sysfs import listed
from agent.lib.errors import HostError
from agent.lib.records import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from agent.block.storage import Device, Disk
    from agent.config.settings import Settings
    from agent.context import Context
    from agent.disks.base.facts import Decision
    from agent.disks.base.record import Record
    from agent.disks.base.system import System
    from agent.host.host import Host

#: The major number of mounts without a block device (Documentation/admin-guide/devices.txt).
_NO_DEVICE = "0:"


@dataclass(frozen=True, slots=True)
class Choice:
    """The decision on one device. ``mode``: how it is to be mounted; ``grows``: it may be grown, also if the
    agent has not mounted it. ``record``: that of its present attachment, stored before it is mounted;
    ``remembered``: what State.disks() has on its filesystem.
    """

    disk: Disk
    device: Device
    decision: Decision
    mode: MountMode
    grows: bool
    is_root: bool
    record: Record
    remembered: Mapping[str, Any]


def choose(
    ctx: Context,
    system: System,
    disks: Sequence[Disk],
    *,
    explicit: bool = False,
    insist: bool = False,
    claim: bool = True,
    is_new: bool = False,
) -> list[Choice]:
    """Return the decision on each device of the disks, in their order. With ``claim``, the mountpoint of a
    decision is taken from then on; without, nothing is changed.

    ``explicit``: the disk has just been added, or the administrator asked for it, so nothing counts as
    released, or as tried and failed. ``insist``: they asked for this disk, so it is mounted in mount
    modes notify and off too. ``is_new``: it has not been handled since it was attached. Raise Busy.
    """
    settings, chosen = effective_settings(ctx, insist=insist), list[Choice]()
    if not explicit and (decided := _decided_at_once(ctx, settings, disks, is_new=is_new)):
        return decided
    with LOCKS.decisions(ctx.host) if claim else contextlib.nullcontext():
        records = Records(ctx.host)
        every = records.all()
        pending = LOCKS.pending_mounts(every)
        done = {name: known for name, known in every.items() if known.is_done}
        known = gather(ctx.host, system, settings, done)
        free = released(known, done, disks)
        if explicit and claim:
            _take_back(ctx, records, every, free & set(done), disks)
            names = [device.name for disk in disks for device in disk.devices]
            record(ctx, partial(records.try_again, every, names))
        known = replace(known, released=frozenset() if explicit else free)
        remembered = ctx.state.disks()
        for disk, device in ((each, device) for each in disks for device in each.devices):
            now = replace(known, filesystems=(*known.filesystems, *pending.values()))
            facts = Facts(disk, device, now, _as_if_direct(settings), remembered, is_new)
            decision = policy.decide(facts)
            if device.devno in pending:
                decision = Leave("being mounted now", quiet=True)
            before = current(every.get(device.name), disk, device)
            choice = _choice(ctx, settings, facts, decision, before)
            if claim and isinstance(decision, MountAt):
                try:
                    choice = _claimed(ctx, records, choice, decision.mountpoint)
                    pending[device.devno] = choice.record.filesystem
                except HostError as error:
                    why = Leave(error.message, remedy=error.hint or "make room in /run")
                    choice = replace(choice, decision=why)
            chosen.append(choice)
    return chosen


def _decided_at_once(
    ctx: Context, settings: Settings, disks: Sequence[Disk], *, is_new: bool
) -> list[Choice]:
    """Return the decision on each device if none depends on other disks, else nothing: an event of a mounted
    disk without partitions costs the same, however many others there are.
    """
    host, records = ctx.host, Records(ctx.host)
    found = mounts.mounts(host)
    machine = Machine(mounts=found, root_disks=mounts.root_disks(host, found))
    decided: list[tuple[Facts, Decision, Record]] = []
    remembered = ctx.state.disks()
    for disk, device in ((each, device) for each in disks for device in each.devices):
        facts = Facts(disk, device, machine, _as_if_direct(settings), remembered, is_new)
        decision, before = policy.at_once(facts), records.current(disk, device)
        if decision is None or before.is_being_mounted:
            return []
        decided.append((facts, decision, before))
    return [_choice(ctx, settings, *one) for one in decided]


def _choice(ctx: Context, settings: Settings, facts: Facts, decision: Decision, before: Record) -> Choice:
    if ctx.host.debug:
        ctx.host.debug(_explained(facts, decision))
    disk, device = facts.disk, facts.device
    grows = settings.grow_disks and not policy.why_not_grown(facts)
    is_root = disk.name in facts.machine.root_disks
    entry = facts.remembered.get(device.uuid, {}) if device.uuid else {}
    return Choice(disk, device, decision, settings.mount_mode, grows, is_root, before, entry)


def gather(host: Host, system: System, settings: Settings, records: Mapping[str, Record]) -> Machine:
    """Return the present facts about the machine, except for ``released``."""
    found = mounts.mounts(host)
    root = canonical(host, settings.disk_root)
    machine = Machine(
        disk_root=root,
        mounts=found,
        swaps=mounts.swaps(host),
        claims=mounts.claims(host),
        root_disks=mounts.root_disks(host, found),
        filesystems=tuple(_filesystems(host, system, found, records)),
        places=dict(_places(host, root, found)),
    )
    return machine


def released(machine: Machine, records: Mapping[str, Record], disks: Iterable[Disk]) -> frozenset[str]:
    """Return the devices that belong to the administrator: those that were detached, those that the agent
    mounted and that are mounted nowhere now, and new devices of such disks (partitions that they make).
    ``records`` must have none of former attachments.
    """
    numbers = {number for mount in machine.mounts for number in mount.devnos}
    names = {name for name, known in records.items() if _is_released(known, numbers)}
    released_disks = {records[name].disk for name in names}
    present = {device.name for disk in disks if disk.name in released_disks for device in disk.devices}
    return frozenset(names | (present - set(records)))


def canonical(host: Host, name: str) -> str:
    """Return the folder's path with links resolved: systemd mounts at no other path."""
    path = os.path.realpath(host.path(name))
    return path if host.live else "/" + os.path.relpath(path, os.path.realpath(host.root))


def mounted_data_disks(ctx: Context) -> int:
    """Return how many disks are mounted where data disks are, by the kernel's table of mounts: only root may
    read the agent's records, and a boot with nothing new has none.
    """
    root, found = canonical(ctx.host, effective_settings(ctx).disk_root), mounts.mounts(ctx.host)
    system = {number for mount in found if mount.mountpoint == "/" for number in mount.devnos}
    data = (m for m in found if m.mountpoint.rpartition("/")[0] == root and m.source.startswith("/dev/"))
    return len({mount.devnos for mount in data if not mount.devnos & system})


def _claimed(ctx: Context, records: Records, choice: Choice, mountpoint: str) -> Choice:
    """Record what is about to be mounted, before the folder is made: this process may end, and the disk go,
    before another process handles the disk. Raise HostError if it cannot be recorded.
    """
    device, before, me = choice.device, choice.record, processes.this_process()
    is_direct = choice.mode is MountMode.DIRECT
    claim = replace(
        renewed(before, choice.disk, device),
        state=DiskState.MOUNTING,
        mountpoint=mountpoint,
        # The automounter's folder is not even looked for: that access would mount, or be answered with "no".
        made=is_direct and _makes_folder(ctx.host, choice.remembered, mountpoint),
        pid=me["pid"],
        started=me["started"],
    )
    # Records of offered and announced devices stay as they are.
    if is_direct or before.state not in (DiskState.OFFERED, DiskState.ANNOUNCED):
        LOCKS.begin_mount(records, device.name, claim, before)
    return replace(choice, record=claim)


def _makes_folder(host: Host, remembered: Mapping[str, Any], mountpoint: str) -> bool:
    """Return whether the agent makes the folder for the filesystem now, or made it for an earlier mount."""
    return not host.exists(mountpoint) or (
        remembered.get("at") == mountpoint and bool(remembered.get("made"))
    )


def _explained(facts: Facts, decision: Decision) -> str:
    """Return one line for debugging: the decision, and the facts of the device that led to it."""
    device, machine = facts.device, facts.machine
    return (
        f"disk {device.name}: {_named(decision)}; {device.size} bytes, content {device.fstype or 'unknown'}"
        f" ({device.usage or 'no usage'}), label {device.label!r}, UUID {device.uuid or 'none'},"
        f" partition {device.partition} {device.part_name!r}, read-only {device.readonly},"
        f" held by {device.holders}, error {device.error!r}, excluded {facts.disk.excluded!r},"
        f" new {facts.is_new} (with CONFIG_DISK_FORMAT only), released {device.name in machine.released},"
        f" remembered {facts.remembered.get(device.uuid, {})}, mount mode {facts.settings.mount_mode},"
        f" root disks {sorted(machine.root_disks)}"
    )


def _named(decision: Decision) -> str:
    match decision:
        case Leave(reason):
            return f"leave it: {reason}"
        case Mounted(mountpoint):
            return f"keep it mounted at {mountpoint}"
        case MountAt(mountpoint, options, warning):
            return f"mount it at {mountpoint} with {options}{f' ({warning})' if warning else ''}"
        case Format(fstype):
            return f"format it as {fstype} if it is blank"


def effective_settings(ctx: Context, *, insist: bool = False) -> Settings:
    """Return the settings for choosing a mountpoint: with autofs, CONFIG_DISK_ROOT is its folder."""
    settings = ctx.settings
    match settings.mount_mode:
        case MountMode.AUTOFS:
            from agent.disks import mode_autofs

            return replace(settings, disk_root=mode_autofs.root(ctx.host), mount_params=mode_autofs.OPTIONS)
        case MountMode.NOTIFY | MountMode.OFF if insist:
            return replace(settings, mount_mode=MountMode.DIRECT)
    return settings


def _as_if_direct(settings: Settings) -> Settings:
    """Return the settings with mode direct instead of autofs or notify: all three choose a mountpoint in the
    same way, only off chooses none.
    """
    if settings.mount_mode in (MountMode.AUTOFS, MountMode.NOTIFY):
        return replace(settings, mount_mode=MountMode.DIRECT)
    return settings


def _take_back(
    ctx: Context, records: Records, every: dict[str, Record], released: Iterable[str], disks: Sequence[Disk]
) -> None:
    """End the release of these disks' devices, whatever is decided on them; change their records in
    ``every`` too.
    """
    here = {disk.name for disk in disks}
    for name in released if not ctx.host.dry_run else ():
        if every[name].disk in here:
            every[name] = every[name].cleared()
            records.put(name, every[name])


def _is_released(known: Record, mounted: Container[str]) -> bool:
    if known.state == DiskState.MOUNTED:
        return known.devno not in mounted
    return known.state == DiskState.RELEASED


def _filesystems(
    host: Host, system: System, found: tuple[mounts.Mount, ...], records: Mapping[str, Record]
) -> Iterator[Filesystem]:
    """Yield what is mounted, or is offered to autofs: data disks from the records, others from udev."""
    ours = {known.devno: known for known in records.values()}
    mounted: dict[str, str] = {}
    for mount in found:
        for devno in mount.devnos:
            mounted.setdefault(devno, mount.mountpoint)
    for known in ours.values():
        if known.state == DiskState.OFFERED and known.devno not in mounted:
            yield known.filesystem
    for devno, mountpoint in mounted.items():
        if devno in ours:
            known = ours[devno]
            yield Filesystem(
                devno,
                known.uuid,
                os.fsencode(known.label),
                mountpoint,
                ours=known.mountpoint == mountpoint,
            )
        elif not devno.startswith(_NO_DEVICE) and (name := storage.name_of(host, devno)):
            disk = system.read(host, storage.whole_disk(host, name))
            for device in disk.devices if disk else ():
                if device.devno == devno:
                    yield Filesystem(devno, device.uuid, device.label, mountpoint)


def _places(host: Host, root: str, found: Iterable[mounts.Mount]) -> Iterator[tuple[str, Place]]:
    """Yield the entries of the folder. Mountpoints are left out: they are taken anyway, and a server or a
    disk that hangs there would block every decision. In an automounter's folder nothing is read: that would
    make it mount.
    """
    mounted = {mount.mountpoint: mount.fstype for mount in found}
    if mounted.get(root) == "autofs":
        return
    for name in listed(host, root):
        if f"{root}/{name}" in mounted:
            continue
        path = os.path.join(host.path(root), name)
        try:
            is_folder = stat.S_ISDIR(os.lstat(path).st_mode)
            kind = (Place.FULL if _has_any(path) else Place.EMPTY) if is_folder else Place.OTHER
        except OSError:
            # It has gone since: the agent must not use it.
            kind = Place.OTHER
        yield f"{root}/{name}", kind


def _has_any(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return any(True for _ in entries)
