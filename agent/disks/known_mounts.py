"""Write mount units for known data disks: PID 1 mounts them in a boot without changes, when no stage runs.

In every other boot, and while the machine runs, the daemon mounts them.
"""

from __future__ import annotations

import os
import re

from agent.block import mounts
from agent.config.settings import MountMode
from agent.disks import decide, policy
from agent.disks.base import filesystem
from agent.disks.base.record import DiskState, Records
from agent.disks.base.system import SYSTEMD
from agent.lib.errors import HostError
from agent.systemd import boot_mounts, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.block.storage import Device
    from agent.context import Context
    from agent.disks.base.record import Record
    from agent.disks.base.system import System
    from agent.host.host import Host

#: UUIDs that udev does not escape in the link's name.
_UUID = re.compile(r"[0-9A-Fa-f-]{4,64}")
#: What has a meaning in the syntax of units: control characters; a backslash or blanks at a line's ends.
_ODD = re.compile(r"[\0-\x1f\x7f]|\\$|^ | $")
#: The hook that runs at each mount.
_HOOK = "post-disk-attach"
_TEXT = """\
[Unit]
Description=Data disk at {at}
Documentation=man:gandi-agent.service(8)
DefaultDependencies=no
# There where nothing is new since the last boot; in any other one the daemon mounts it.
ConditionPathExists=/run/gandi/settled
After=gandi-check.service
# Services find it mounted, unless it takes longer than that target waits.
Before=gandi-disks.target shutdown.target
Conflicts=shutdown.target

[Mount]
What=/dev/disk/by-uuid/{uuid}
Where={at}
Type={fstype}
Options={options}
LazyUnmount=yes
TimeoutSec=90s
StartupCPUWeight=1000
"""


def write_units(ctx: Context, *, system: System = SYSTEMD) -> frozenset[str]:
    """Write a unit for each data disk that the agent has mounted, and remove other such units. Return the
    UUIDs of the filesystems that PID 1 mounts at the next boot.

    The stages mount what needs more than a mount (a check that its superblock may require, a hook, autofs),
    and what conflicts with an administrator's unit.
    """
    host, wanted = ctx.host, dict(_wanted(ctx, system))
    for unit in set(boot_mounts.agent_units(host)) - set(wanted):
        boot_mounts.remove_unit(host, unit)
    return frozenset(
        uuid for unit, (uuid, text) in wanted.items() if boot_mounts.write_unit(host, unit, text)
    )


def _wanted(ctx: Context, system: System) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the name of each unit, with the filesystem's UUID and the unit's text."""
    host, settings = ctx.host, ctx.settings
    is_direct = settings.allow_mount and settings.mount_mode is MountMode.DIRECT
    if not is_direct or host.exists(os.path.join(settings.hook_dir, _HOOK)):
        return
    mounted, records = mounts.mounts(host), Records(host).done()
    root = decide.canonical(host, settings.disk_root)
    uuids = [record.uuid.lower() for record in records.values()]
    disks = {name: system.read(host, name) for name in {record.disk for record in records.values()}}
    devices = {device.name: device for disk in disks.values() if disk for device in disk.devices}
    for name, record in records.items():
        device, unit = devices.get(name), units.of_path(record.mountpoint, "mount")
        if (
            device is not None
            and record.state == DiskState.MOUNTED
            and any(m.mountpoint == record.mountpoint and device.devno in m.devnos for m in mounted)
            and record.mountpoint.rpartition("/")[0] == root
            and _UUID.fullmatch(record.uuid)
            and uuids.count(record.uuid.lower()) == 1
            and _leads_to(host, record.uuid, device)
            and not _may_need_a_check(host, device)
            and len(unit) <= boot_mounts.LONGEST_NAME
        ):
            options = policy.options(settings, device)
            if not (_ODD.search(record.mountpoint) or _ODD.search(options)):
                yield unit, (record.uuid, _text(record, device, options))


def _text(record: Record, device: Device, options: str) -> str:
    mountpoint, given = (text.replace("%", "%%") for text in (record.mountpoint, options))
    return _TEXT.format(at=mountpoint, uuid=record.uuid, fstype=device.fstype, options=given)


def _leads_to(host: Host, uuid: str, device: Device) -> bool:
    """Return whether udev's link by the UUID leads to this device, and not to a copy of it."""
    link = host.path(f"/dev/disk/by-uuid/{uuid}")
    return os.path.realpath(link) == os.path.realpath(host.path(device.node))


def _may_need_a_check(host: Host, device: Device) -> bool:
    """Return whether a later mount may need a check first: PID 1 reads no superblock."""
    if device.fstype not in filesystem.EXT:
        return False
    try:
        return filesystem.may_want_check(filesystem.superblock(host, device.node))
    except (HostError, OSError):
        return True
