"""Handle disks: mount new ones, grow enlarged ones, clean up after removed ones.

An event only names a disk: everything is computed from its present state, for the whole disk with its
partitions, under the disk's lock. Decisions are made one after the other, so that two disks never get the
same mountpoint; they are carried out in parallel. Modules that are needed only after the mount are imported
then: the daemon may have been started for this disk, which should be mounted first.
"""

from __future__ import annotations

import time
from functools import partial

from agent.block import storage, unresponsive
from agent.block.transport import Transport
from agent.config.settings import MountMode
from agent.context import attempt, defect, record, report_progress
from agent.disks import mounting
from agent.disks.base import filesystem
from agent.disks.base.automounter import has_automounter
from agent.disks.base.facts import Format, Leave, MountAt, Mounted
from agent.disks.base.locks import LOCKS
from agent.disks.base.record import Records
from agent.disks.base.system import SYSTEMD
from agent.disks.decide import choose
from agent.lib.records import replace
from agent.report import Item, Outcome, failed, items, skipped, unchanged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from agent.block.storage import Disk
    from agent.context import Context
    from agent.disks.base.system import System
    from agent.disks.decide import Choice

#: Seconds that the mount stage waits for the facts about all disks; a disk that does not answer by then is
#: handled later.
_FACTS_TIMEOUT = 15.0


def handle(ctx: Context, name: str, action: str, *, system: System = SYSTEMD) -> Iterator[Item]:
    """Handle an event of one disk, by its kernel name. Its present state decides; the action "add" only ends
    the release of its devices. Raise Busy, and HostError if the disk cannot be read.
    """
    if unresponsive.is_unresponsive(ctx.host, name):
        _report_hang(ctx, name, "does not answer")
        _wait_for_answer(ctx, name)
    with LOCKS.disk(ctx.host, name):
        yield from handle_locked(ctx, name, system, explicit=action == "add")


def handle_locked(
    ctx: Context, name: str, system: System, *, explicit: bool = False, insist: bool = False
) -> Iterator[Item]:
    """Handle one disk in its present state. The caller holds its lock; ``explicit`` and ``insist`` are those
    of ``decide.choose``.
    """
    disk = system.read(ctx.host, name)
    if disk and disk.transport is Transport.SCSI and not disk.device.size:
        from agent.disks import scsi_rescan

        disk = system.read(ctx.host, name) if scsi_rescan.gets_size(ctx, name) else disk
    records = Records(ctx.host)
    if disk and explicit and records.has_done(name):
        disk = storage.with_beginnings(ctx.host, disk)  # a released disk, which other events do not open
    if disk and any(device.is_raw for device in disk.devices):
        from agent.disks import missed

        disk = missed.read_again(ctx.host, system, disk)
    present = {(device.name, disk.diskseq) for device in disk.devices} if disk else set()
    if any((device, known.diskseq) not in present for device, known in records.of(name).items()):
        from agent.disks import removed

        yield from attempt(ctx, name, partial(removed.clean_up, ctx, system, name, disk)).items
    # Not after the mount: the users of the disk before are found by the number that both have.
    is_reported = disk is not None and records.is_devno_reused(disk)
    if is_reported:
        yield from _report_users(ctx, name)
    switched = _switched(ctx, system)
    yield from switched
    if disk:
        is_stuck = any(item.outcome is Outcome.FAILED for item in switched)
        yield from _act(ctx, system, disk, records, explicit=explicit, insist=insist, is_stuck=is_stuck)
    if not is_reported:
        yield from _report_users(ctx, name)


def _report_users(ctx: Context, name: str) -> Sequence[Item]:
    from agent.disks import removed

    return attempt(ctx, name, partial(removed.report_users, ctx, name)).items


def _act(
    ctx: Context,
    system: System,
    disk: Disk,
    records: Records,
    *,
    explicit: bool,
    insist: bool,
    is_stuck: bool,
) -> Iterator[Item]:
    """Decide on a present disk and act. While a switch of the mount mode has failed (``is_stuck``), nothing
    is mounted; what needs no mount goes on.
    """
    # Only formatting depends on it. Otherwise it is found out after the mount.
    is_new = bool(ctx.settings.disk_format) and not disk.excluded and records.is_new(disk)
    choices = choose(
        ctx, system, [disk], explicit=explicit, insist=insist, is_new=is_new, claim=not is_stuck
    )
    for choice in choices:
        if is_stuck and isinstance(choice.decision, MountAt | Format):
            continue
        yield from attempt(ctx, choice.device.name, partial(_mount, ctx, system, choice)).items
        yield from attempt(ctx, choice.device.name, partial(_grow, ctx, system, choice)).items
    if not disk.excluded and not is_stuck and records.is_new(disk):
        record(ctx, partial(records.put, disk.name, records.current(disk, disk.device)))
    if any(choice.is_root for choice in choices) and ctx.settings.grow_root:
        from agent.disks.growth import root

        yield from attempt(ctx, disk.name, partial(root.grow_on, ctx, disk.name, system)).items


def mount_all(ctx: Context, *, system: System = SYSTEMD) -> Iterator[Item]:
    """Mount all present data disks in parallel; mountpoints are assigned in bus order.

    This waits CONFIG_MOUNT_TIMEOUT seconds in all, and unresponsive.STALL_TIMEOUT seconds for a disk that
    does not answer or for a check: all services, ssh too, wait as long. The work on such a disk goes on, and
    its end is recorded with the devices. Growth begins afterwards, and the boot does not wait for it.
    """
    deadline = time.monotonic() + ctx.settings.mount_timeout
    from agent.disks import removed
    from agent.disks.base import diskseq

    # If it cannot be stored (/run is full), no disk counts as new.
    record(ctx, partial(diskseq.note_coldplug, ctx.host))
    switched = _switched(ctx, system)
    yield from switched
    if not ctx.settings.allow_mount:
        yield skipped("disks", "CONFIG_ALLOW_MOUNT=0")
        return
    if any(item.outcome is Outcome.FAILED for item in switched):
        return
    names = system.names(ctx.host)
    known, silent = yield from _read_all(ctx, system, names)
    for name in sorted(Records(ctx.host).disks() - (set(names) - set(known))):
        yield from attempt(ctx, name, partial(removed.clean_up, ctx, system, name, known.get(name))).items
        yield from _report_users(ctx, name)
    disks = [disk for name in names if (disk := known.get(name)) and not disk.excluded]
    choices = choose(ctx, system, disks, explicit=True)
    late = yield from _mount_chosen(ctx, system, choices, deadline)
    if not silent and not late:
        yield from mounting.tidy(ctx, {choice.device.uuid for choice in choices})
    ready = [choice for choice in choices if choice.device.name not in late]
    yield from _grow_all(ctx, system, ready)


def is_known(ctx: Context, name: str) -> bool:
    """Return whether the disk was used as a data disk in this boot. Then it must not be opened to find out
    whether it is a configuration drive: an administrator may be working on it.
    """
    return Records(ctx.host).has_done(name)


# -- the parts of the mount stage -----------------------------------------------------------------


def _read_all(
    ctx: Context, system: System, names: Sequence[str]
) -> Generator[Item, None, tuple[dict[str, Disk | None], set[str]]]:
    """Read all disks in parallel. Return those that could be read, None for one that has gone, and the names
    of those that do not answer; ``_handle_late`` handles these later.
    """
    from agent.lib.parallel import run_parallel

    ctx.on_wait("the facts about all disks")
    facts, silent = run_parallel(
        {name: partial(_read, ctx, system, name) for name in names},
        _FACTS_TIMEOUT,
        partial(_defect, ctx),
        partial(_handle_late, ctx, system),
        should_stop=unresponsive.StallDetector(ctx.host, {name: name for name in names}).all_stalled,
    )
    yield from (item for found in facts.values() if isinstance(found, tuple) for item in found)
    for name in sorted(silent):
        record(ctx, partial(unresponsive.record_unresponsive, ctx.host, name))
        yield _report_hang(ctx, name, "does not answer")
    return {name: found for name, found in facts.items() if not isinstance(found, tuple)}, silent


def _mount_chosen(
    ctx: Context, system: System, choices: Sequence[Choice], deadline: float
) -> Generator[Item, None, set[str]]:
    """Carry out all decisions in parallel, until ``deadline`` by time.monotonic(). Return the names of the
    devices that are not ready by then, or hang; the work on them goes on.
    """
    from agent.lib.parallel import run_parallel

    still = unresponsive.StallDetector(
        ctx.host, {choice.device.name: choice.disk.name for choice in choices}
    )
    work = {
        choice.device.name: partial(
            _run_in_thread, ctx, choice, "mount", partial(_mount, system=system, choice=choice), still
        )
        for choice in choices
    }
    ctx.on_wait(", ".join(choice.device.name for choice in choices if isinstance(choice.decision, MountAt)))
    left = max(deadline - time.monotonic(), 0.0)
    done, late = run_parallel(
        work, left, partial(_defect, ctx), partial(_record, ctx), should_stop=still.all_stalled
    )
    for name in work:
        yield from done.get(name, ())
    is_over = time.monotonic() >= deadline
    for name in sorted(late):
        if is_over:
            why = f"not ready within {ctx.settings.mount_timeout} s; the work goes on"
            yield failed(name, why, "see: gandi-agent status")
        else:
            yield _report_hang(ctx, name, still.reason(name))
    return late


def _grow_all(ctx: Context, system: System, choices: Sequence[Choice]) -> Iterator[Item]:
    """Begin to grow the devices that may grow. A boot does not wait for it; a dry run reports it."""
    from agent.lib.parallel import run_parallel

    work = {
        choice.device.name: partial(
            _run_in_thread, ctx, choice, "grow", partial(_grow_locked, system=system, choice=choice)
        )
        for choice in choices
        if choice.grows
    }
    timeout = _FACTS_TIMEOUT if ctx.host.dry_run else 0.0
    planned, _ = run_parallel(work, timeout, partial(_defect, ctx), partial(_record, ctx))
    if ctx.host.dry_run:
        yield from (item for found in planned.values() for item in found)


# -- acting ---------------------------------------------------------------------------------------


def _mount(ctx: Context, system: System, choice: Choice) -> Iterator[Item]:
    """Carry out the decision on one device. Raise HostError."""
    device = choice.device
    match choice.decision:
        case Leave(reason, remedy=remedy) if remedy:
            yield failed(device.name, reason, remedy)
        case Leave(reason, quiet):
            if not quiet:
                yield skipped(device.name, reason)
        case Mounted(mountpoint):
            if not choice.record.is_done and choice.remembered.get("at") == mountpoint:
                mounting.record_existing_mount(ctx, choice.disk, device, mountpoint)
                yield unchanged(device.name, f"mounted at {mountpoint}")
        case Format(fstype):
            from agent.disks import mkfs

            yield from mkfs.apply(ctx, system, choice.disk, fstype)
        case decision:
            try:
                yield from _begin(ctx, system, choice, decision)
            finally:
                LOCKS.end_mount(ctx.host, device.name)


def _switched(ctx: Context, system: System) -> Sequence[Item]:
    """Enable or disable autofs to match the mount mode. Return what was done, or a failure."""
    if not has_automounter(ctx):
        return ()
    from agent.disks import mode_autofs

    done = attempt(ctx, "autofs", partial(mode_autofs.switch, ctx, system)).items
    mode_autofs.write_map(ctx)
    return done


def _begin(ctx: Context, system: System, choice: Choice, decision: MountAt) -> Iterator[Item]:
    """Mount the device, offer it to the automounter, or announce it to the users, by the mount mode."""
    disk, device = choice.disk, choice.device
    match choice.mode:
        case MountMode.AUTOFS:
            from agent.disks import mode_autofs

            yield from mode_autofs.offer(ctx, disk, device, decision)
        case MountMode.NOTIFY:
            from agent.disks import mode_notify

            yield from mode_notify.announce(ctx, disk, device, decision.mountpoint)
        case _:
            is_full = (
                choice.grows and "size" not in choice.remembered and filesystem.fills_disk(ctx.host, device)
            )
            yield from mounting.mount(ctx, system, disk, device, decision, choice.record, grown=is_full)


def _grow(ctx: Context, system: System, choice: Choice) -> Iterator[Item]:
    if not choice.grows:
        return
    mountpoint = choice.decision.mountpoint if isinstance(choice.decision, MountAt | Mounted) else ""
    if choice.mode is MountMode.AUTOFS and isinstance(choice.decision, MountAt):
        from agent.disks import mode_autofs
        from agent.disks.growth import resize

        if resize.wants_to_grow(ctx, choice.disk, choice.device):
            mode_autofs.trigger_mount(ctx.host, mountpoint)
    if mountpoint and (device := mounting.as_mounted(ctx, choice.device, mountpoint)):
        from agent.disks.growth import resize

        yield from resize.grow(ctx, system, choice.disk, device, mountpoint)
    elif choice.device.fstype in storage.STACKED:
        from agent.disks.growth import stacked

        yield from stacked.grow(ctx, system, choice.disk, choice.device)


def _grow_locked(ctx: Context, system: System, choice: Choice) -> Iterator[Item]:
    """Grow the device after the mount stage, under the disk's lock."""
    with LOCKS.disk(ctx.host, choice.disk.name):
        yield from _grow(ctx, system, choice)


def _run_in_thread(
    ctx: Context,
    choice: Choice,
    action: str,
    work: Callable[[Context], Iterable[Item]],
    still: unresponsive.StallDetector | None = None,
) -> tuple[Item, ...]:
    """Do the work on one device in a thread that may outlast the stage. The status shows what it waits for
    under the device's name, not under that of a later step.
    """
    name, shown = choice.device.name, False

    def waiting(why: str) -> None:
        nonlocal shown
        if still:
            still.note_wait(name, why)
        if why or shown:
            shown = True
            report_progress(ctx, name, action, why)

    try:
        own_context = replace(ctx, on_wait=waiting)
        return attempt(ctx, name, lambda: work(own_context)).items
    finally:
        if shown:
            record(ctx, lambda: ctx.status.merge("work", name, None))


def _read(ctx: Context, system: System, name: str) -> Disk | tuple[Item, ...] | None:
    """Return the disk, None if it has gone, or the failure."""
    found: Disk | None = None

    def read() -> Iterable[Item]:
        nonlocal found
        found = system.read(ctx.host, name)
        return ()

    return attempt(ctx, name, read).items or found


def _defect(ctx: Context, name: str, error: Exception) -> tuple[Item, ...]:
    return (defect(ctx, name, error),)


def _report_hang(ctx: Context, name: str, why: str) -> Item:
    """Record a device that the boot does not wait for as failed, until the end of its work is recorded.
    Return the item for the stage, which does not fail.
    """
    why = f"{why}: the boot goes on without it, and so does the work on it"
    failure = items([failed(name, why, "see: journalctl -k")])
    entry = {"role": "disk", "action": "mount", "outcome": Outcome.FAILED, "items": failure}
    record(ctx, lambda: ctx.status.merge("devices", name, entry))
    return skipped(name, why)


def _handle_late(ctx: Context, system: System, name: str, _found: object) -> None:
    """Handle a disk that answers too late for the stage as if it had just been added."""
    _wait_for_answer(ctx, name)
    _record(ctx, name, attempt(ctx, name, lambda: handle(ctx, name, "add", system=system)).items)


def _wait_for_answer(ctx: Context, name: str) -> None:
    """Wait until the disk answers or has gone."""
    with ctx.waiting("its answer"):
        while unresponsive.is_unresponsive(ctx.host, name):
            time.sleep(unresponsive.STALL_TIMEOUT)  # the kernel sends no event when a disk answers again


def _record(ctx: Context, name: str, done: Sequence[Item]) -> None:
    """Record the outcome of work that ended after the stage had stopped waiting for it."""
    if done:
        entry = {"outcome": done[-1].outcome, "items": items(done)}
        record(ctx, lambda: ctx.status.merge("devices", name, entry))
