"""Decide what to do with each device of some disks. Decisions are made one after the other, so that two
devices never get the same mountpoint; they are carried out in parallel.
"""

from __future__ import annotations

import contextlib
from functools import partial

from agent.config.settings import MountMode
from agent.context import record
from agent.disks import gather, policy
from agent.disks.base.facts import Facts, Format, Leave, MountAt, Mounted
from agent.disks.base.locks import LOCKS
from agent.disks.base.record import DiskState, Records, current, renewed
from agent.host import processes
from agent.lib.errors import HostError
from agent.lib.records import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from agent.block.storage import Device, Disk
    from agent.config.settings import Settings
    from agent.context import Context
    from agent.disks.base.facts import Decision
    from agent.disks.base.record import Record
    from agent.disks.base.system import System
    from agent.host.host import Host


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
    with LOCKS.decisions(ctx.host) if claim else contextlib.nullcontext():
        records = Records(ctx.host)
        every = records.all()
        pending = LOCKS.pending_mounts(every)
        done = {name: known for name, known in every.items() if known.is_done}
        known = gather.gather(ctx.host, system, settings, done)
        released = gather.released(known, done, disks)
        if explicit and claim:
            _take_back(ctx, records, every, released & set(done), disks)
            names = [device.name for disk in disks for device in disk.devices]
            record(ctx, partial(records.try_again, every, names))
        known = replace(known, released=frozenset() if explicit else released)
        remembered = ctx.state.disks()
        for disk, device in ((each, device) for each in disks for device in each.devices):
            now = replace(known, filesystems=(*known.filesystems, *pending.values()))
            facts = Facts(disk, device, now, _as_if_direct(settings), remembered, is_new)
            decision = policy.decide(facts)
            if device.devno in pending:
                decision = Leave("being mounted now", quiet=True)
            if ctx.host.debug:
                ctx.host.debug(_explained(facts, decision))
            before = current(every.get(device.name), disk, device)
            grows = settings.grow_disks and not policy.why_not_grown(facts)
            is_root = disk.name in known.root_disks
            entry = remembered.get(device.uuid, {}) if device.uuid else {}
            choice = Choice(disk, device, decision, settings.mount_mode, grows, is_root, before, entry)
            if claim and isinstance(decision, MountAt):
                try:
                    choice = _claimed(ctx, records, choice, decision.mountpoint)
                    pending[device.devno] = choice.record.filesystem
                except HostError as error:
                    why = Leave(error.message, remedy=error.hint or "make room in /run")
                    choice = replace(choice, decision=why)
            chosen.append(choice)
    return chosen


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
