"""What udev has missed: it does not see a writer that closes a device while it examines it. After a mkfs(8)
right behind a wipefs(8), its record may say that nothing is there, until the next event.

udev is made to examine such a device again, so that its rules decide on what is there, as on any content.
"""

from __future__ import annotations

import os
import stat

from agent.block import storage
from agent.disks.base.record import Records
from agent.disks.base.system import UDEV_TIMEOUT
from agent.host.sysfs import listed
from agent.lib.errors import HostError
from agent.lib.records import replace
from agent.lib.text import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.block.storage import Device, Disk
    from agent.disks.base.system import System
    from agent.host.host import Host

#: How the line with the flags of open(2) begins, which are octal.
_FLAGS = b"flags:\t"
#: Set by udev's rules for a device that is not to be examined (60-persistent-storage.rules).
_NOT_EXAMINED = "UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG"


def read_again(host: Host, system: System, disk: Disk) -> Disk | None:
    """Return the disk after udev has examined again each device with a content that it has missed; None if
    the disk has gone. It does so once for each content of an attachment: a rule may hide it.
    """
    if host.dry_run:
        return disk
    missed, records = list(_missed(host, disk)), Records(host)
    try:
        for device, content in missed:
            records.put(device.name, replace(records.current(disk, device), missed=content))
        if missed:
            nodes = (device.node for device, _ in missed)
            host.run(("udevadm", "trigger", "--settle", *nodes), check=False, timeout=UDEV_TIMEOUT)
    except HostError:
        # /run is full, or udev waits for a program that has locked the disk: there is an event at its end.
        return disk
    return system.read(host, disk.name) if missed else disk


def _missed(host: Host, disk: Disk) -> Iterator[tuple[Device, str]]:
    """Yield each device on which libblkid finds what udev has not, and what that is. What is being written
    is left out: udev sees the end of that.
    """
    records = Records(host)
    for device in disk.devices:
        if device.is_raw and device.udev.get(_NOT_EXAMINED) != "1":
            found = replace(device, udev=storage.probe(host, device.node))
            content = f"{found.fstype or found.udev.get('ID_PART_TABLE_TYPE', '')} {found.uuid}"
            is_known = not found.has_contents or records.current(disk, device).missed == content
            if not is_known and not storage.is_claimed(host, device.node) and not _has_writer(host, disk):
                yield device, content


def _has_writer(host: Host, disk: Disk) -> bool:
    """Return whether a process has the disk or a partition of it open to write: dd claims neither."""
    numbers = {device.devno for device in disk.devices}
    processes = (name for name in listed(host, "/proc") if number(name) is not None)
    return any(_writes(host.path(f"/proc/{process}"), numbers) for process in processes)


def _writes(process: str, numbers: set[str]) -> bool:
    for name in _open_files(process):
        try:
            found = os.stat(f"{process}/fd/{name}")
            devno = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
            if stat.S_ISBLK(found.st_mode) and devno in numbers:
                with open(f"{process}/fdinfo/{name}", "rb") as lines:  # proc_pid_fdinfo(5)
                    flags = next(line for line in lines if line.startswith(_FLAGS))
                if int(flags.removeprefix(_FLAGS), 8) & os.O_ACCMODE != os.O_RDONLY:
                    return True
        except OSError:
            continue  # it has been closed
    return False


def _open_files(process: str) -> list[str]:
    try:
        return os.listdir(f"{process}/fd")
    except OSError:
        return []  # it has ended
