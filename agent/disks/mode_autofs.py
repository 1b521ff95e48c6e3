"""Mount mode *autofs*: the automounter mounts a data disk when its folder is accessed.

The agent creates a link in /etc/auto.master.d to the file from the package, and a map of the disks, which
that file's program (autofs/auto.gandi) reads. An administrator may replace the link with a file of their
own, to choose another folder. Disks get the same names as in direct mode. The two modes are never active at
once: the mounts of one end before the other begins.
"""

from __future__ import annotations

import os
import select
import time
from enum import StrEnum

from agent.block import mounts
from agent.config.settings import MountMode
from agent.disks.base.automounter import AUTOFS_LINK, AUTOFS_STATE
from agent.disks.base.record import DiskState, Records, exclusive, renewed
from agent.disks.base.system import is_mounted
from agent.disks.policy import identity
from agent.disks.usage import holders
from agent.host.chroot_path import link_target
from agent.host.sysfs import devnode
from agent.lib.errors import HostError
from agent.lib.records import replace
from agent.lib.text import lines, words
from agent.report import changed, skipped
from agent.systemd import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.block.storage import Device, Disk
    from agent.context import Context
    from agent.disks.base.facts import MountAt
    from agent.disks.base.record import Record
    from agent.disks.base.system import System
    from agent.host.host import Host
    from agent.report import Item

LINK = AUTOFS_LINK
SHIPPED = "/usr/share/gandi-agent/gandi.autofs"
#: The map for auto.gandi, a line for each disk: its folder's name, a tab, and the entry (autofs(5)).
MAP = f"{AUTOFS_STATE}.map"
#: Mount options. CONFIG_MOUNT_PARAMS is for direct mode only.
OPTIONS = "rw,nosuid,nodev,noatime"
_UNIT = "autofs.service"
#: The file with the mode's state; and the one that shows that the agent started the automounter.
_ON, _STARTED = AUTOFS_STATE, f"{AUTOFS_STATE}.started"
#: Seconds for the automounter to release its folder after the link is removed; also used for locks.
_TIMEOUT = 20.0
#: Seconds for the automounter to start during a boot.
_START_TIMEOUT = 120.0


class _State(StrEnum):
    """The state of the mode in the file; OUT has no file."""

    OUT = ""
    ON = "on"
    LEAVING = "leaving"


def wanted(ctx: Context) -> bool:
    """Return whether disks are to be offered to the automounter."""
    return ctx.settings.allow_mount and ctx.settings.mount_mode is MountMode.AUTOFS


def root(host: Host) -> str:
    """Return the automounter's folder: the first word of the administrator's file, or of the package's."""
    for name in (LINK, SHIPPED):
        for line in lines(host.read(name) or ""):
            fields = words(line)
            if fields and fields[0].startswith("/") and fields[0] != "/-":
                return fields[0].rstrip("/")
    return "/srv"


def switch(ctx: Context, system: System) -> Iterator[Item]:
    """Enable or disable the automounter to match the settings.

    Raise HostError if a mount of the other mode is in use: then neither mode mounts anything new.
    """
    if (wanted(ctx), _state(ctx.host)) in ((True, _State.ON), (False, _State.OUT)):
        return
    with exclusive(ctx.host, "mount mode", _TIMEOUT * 3):
        if not wanted(ctx):
            yield from _switch_off(ctx)
        elif _state(ctx.host) != _State.ON:
            yield from _switch_on(ctx, system)


def offer(ctx: Context, disk: Disk, device: Device, decision: MountAt) -> Iterator[Item]:
    """Add the device to the map; its mountpoint is stored as in direct mode."""
    records, mountpoint = Records(ctx.host), decision.mountpoint
    known = records.current(disk, device)
    record = replace(renewed(known, disk, device), state=DiskState.OFFERED, mountpoint=mountpoint)
    records.put(device.name, record)
    if device.uuid:
        ctx.state.remember_disk(device.uuid, at=mountpoint, on=identity(disk, device) or None)
    write_map(ctx)
    if known != record:
        yield changed(device.name, f"mounted at {mountpoint} on access")
    else:
        yield skipped(device.name, f"mounted at {mountpoint} on access")


def write_map(ctx: Context) -> None:
    """Write the map from the records; do nothing if the mode is not on."""
    if _state(ctx.host) != _State.ON:
        return
    with exclusive(ctx.host, "map", _TIMEOUT):
        records = sorted(Records(ctx.host).all().items())
        lines = [_entry(name, record) for name, record in records if record.state == DiskState.OFFERED]
        ctx.host.write(MAP, "".join(lines))


def _entry(name: str, record: Record) -> str:
    """Return a line of the map. The folder's name has no white space (policy.folder_name)."""
    key, node = record.mountpoint.rpartition("/")[2], devnode(name)
    return f"{key}\t-fstype={record.fstype},{OPTIONS}\t:{node}\n"


def trigger_mount(host: Host, mountpoint: str) -> None:
    """Access the folder, so that the automounter mounts its disk. During a boot, wait for the automounter,
    which starts after the agent. Raise HostError.
    """
    folder = mountpoint.rpartition("/")[0]
    if not _wait(host, lambda: _is_held(host, folder), _START_TIMEOUT):
        raise HostError(f"the automounter does not serve {folder}", hint=f"see: systemctl status {_UNIT}")
    host.run(("stat", "--", f"{mountpoint}/."), timeout=60.0)


def _switch_on(ctx: Context, system: System) -> Iterator[Item]:
    host = ctx.host
    if not host.which("automount"):
        raise HostError("CONFIG_MOUNT_MODE=autofs: autofs is not installed", hint="run: apt install autofs")
    for name, record in Records(host).all().items():
        if record.state == DiskState.MOUNTED and is_mounted(host, record.mountpoint):
            yield from _unmount_direct(ctx, system, name, record)
    if not host.exists(LINK):
        host.symlink(LINK, SHIPPED)
    is_active = units.is_active(host, _UNIT)
    if not is_active and not units.is_enabled(host, _UNIT):
        host.write(_STARTED, "")
    host.write(_ON, _State.ON)
    write_map(ctx)
    if is_active:
        # It exits if its maps are empty, as after the last folder was removed: then the reload is lost.
        host.run(("systemctl", "reload", _UNIT), check=False)
        is_active = _wait(host, lambda: _is_held(host, root(host)), _TIMEOUT) or units.is_active(host, _UNIT)
    if not is_active:
        # Never waited for: during a boot it starts long after the agent.
        host.run(("systemctl", "--no-block", "start", _UNIT))
    yield changed("autofs", f"mounts data disks below {root(host)}")


def _unmount_direct(ctx: Context, system: System, name: str, record: Record) -> Iterator[Item]:
    if found := holders.find_by_mountpoint(ctx.host, (record.mountpoint,)).found:
        raise HostError(
            f"CONFIG_MOUNT_MODE=autofs: {record.mountpoint} is in use: {holders.summary(found)}",
            hint="end them, then run: systemctl reload gandi-agent",
        )
    system.release(ctx.host, record.mountpoint)
    if record.made:
        ctx.host.remove(record.mountpoint)
    Records(ctx.host).put(name, record.cleared())
    yield changed(name, f"unmounted from {record.mountpoint}: the automounter takes over")


def _switch_off(ctx: Context) -> Iterator[Item]:
    host, folder, is_first = ctx.host, root(ctx.host), _state(ctx.host) != _State.LEAVING
    if is_first:
        was_started = host.exists(_STARTED)
        if link_target(host, LINK) == SHIPPED:
            host.remove(LINK)
        host.remove(MAP)
        host.write(_ON, _State.LEAVING)
        if units.is_active(host, _UNIT):
            host.run(("systemctl", "stop" if was_started else "reload", _UNIT))
        yield changed("autofs", f"mounts nothing below {folder} any more")
    if not host.exists(LINK):  # a file of the administrator's own keeps the folder
        _wait_for_end(ctx, folder, _TIMEOUT if is_first else 0.0)
    for name, record in Records(host).all().items():
        if record.state == DiskState.OFFERED:
            Records(host).put(name, record.cleared())
    for name in (_ON, _STARTED):
        host.remove(name)


def _wait_for_end(ctx: Context, folder: str, seconds: float) -> None:
    """Wait until the automounter has released the folder. Raise HostError if it does not."""
    host = ctx.host
    if not _wait(host, lambda: not _is_held(host, folder), seconds):
        below = [
            mount.mountpoint for mount in mounts.mounts(host) if mount.mountpoint.startswith(f"{folder}/")
        ]
        used = holders.summary(holders.find_by_mountpoint(host, below).found)
        raise HostError(
            f"the automounter still uses {folder}: {used or 'it does not answer'}",
            hint="end them, then run: systemctl reload autofs gandi-agent",
        )


def _wait(host: Host, until: Callable[[], bool], seconds: float) -> bool:
    """Wait up to ``seconds`` until ``until`` returns True, which is called after each change of the kernel's
    mount table (proc_pid_mounts(5)). Return whether it did. A dry run changes nothing, so it does not wait.
    """
    if host.dry_run:
        return True
    deadline = time.monotonic() + seconds
    with host.opened(mounts.MOUNTINFO, os.O_RDONLY) as table:
        poll = select.poll()
        poll.register(table, select.POLLPRI | select.POLLERR)
        while not until():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            poll.poll(left * 1000)
    return True


def _is_held(host: Host, folder: str) -> bool:
    return any(mount.mountpoint == folder and mount.fstype == "autofs" for mount in mounts.mounts(host))


def _state(host: Host) -> str:
    """Return the mode's state. "former": nothing was done in this boot, but the link of an earlier one is
    left; it is neither ON nor OUT, so ``switch`` acts.
    """
    return host.read(_ON) or ("former" if link_target(host, LINK) == SHIPPED else _State.OUT)
