"""The attachment of a disk, read from its path in sysfs. An allow-list: a disk with an unknown transport is
never a data disk.

A disk that other machines may use too (iSCSI, Fibre Channel, NVMe over fabrics, nbd, rbd, DRBD), or a
portable one (USB), was not attached by the platform, so the agent does not mount it.
"""

from __future__ import annotations

import contextlib
import os
import re
from enum import StrEnum

from agent.host.sysfs import attribute, listed
from agent.lib.text import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host


class Transport(StrEnum):
    """The attachments that the platform uses for disks."""

    VIRTIO = "virtio-blk"
    SCSI = "SCSI"
    SATA = "SATA"
    NVME = "NVMe"
    XEN = "Xen"


#: Subsystems of real SCSI hosts: without one of them, software makes the disk (scsi_debug, tcm_loop).
_SCSI_ON = frozenset({"virtio", "pci", "vmbus", "xen"})
#: Components of a SCSI device's path that show a network: the kernel's names in the iSCSI, FC and SRP
#: transport classes.
_REMOTE = (
    (r"session[0-9]+", "an iSCSI disk"),
    (r"rport-.+", "a Fibre Channel disk"),
    (r"srp-.+", "an SRP disk"),
)
#: SCSI peripheral device type of CD and DVD drives (SPC, include/scsi/scsi_proto.h: TYPE_ROM).
_OPTICAL = "5"


def attachment(host: Host, path: str) -> tuple[Transport | None, str]:
    """Return the bus of the disk at a sysfs path, and why it is never a data disk (or "")."""
    if _optical(host, path):
        return None, "an optical drive"
    bus, why = _attached(host, path)
    if bus and attribute(host, f"{path}/removable") == "1":
        return None, "a removable disk"
    return bus, why


def why_not_platform_disk(host: Host, path: str) -> str:
    """Return why a configuration drive on the disk at a sysfs path is ignored, or "": only the platform's
    buses count, with optical drives. A drive that a local user can make or plug in could give them root's
    access.
    """
    return _attached(host, path)[1]


def _optical(host: Host, path: str) -> bool:
    name = path.rpartition("/")[2]
    is_sr = name.startswith("sr") and number(name[2:]) is not None
    return is_sr or attribute(host, f"{path}/device/type") == _OPTICAL


def _attached(host: Host, path: str) -> tuple[Transport | None, str]:
    name = path.rpartition("/")[2]
    parts, subsystems = path.split("/"), _subsystems(host, path)
    if path.startswith("/sys/devices/virtual/block/"):
        return None, f"a virtual device ({name.rstrip('0123456789').rstrip('-')})"
    if "usb" in subsystems:
        return None, "a USB disk"
    if subsystems & {"nvme", "nvme-subsystem"}:
        return _nvme(host, path)
    if "scsi" in subsystems:
        return _scsi(parts, subsystems)
    if "virtio" in subsystems:
        return Transport.VIRTIO, ""
    if "xen" in subsystems:
        return Transport.XEN, ""
    return None, f"not on a disk bus of the platform ({', '.join(sorted(subsystems)) or 'none'})"


def _scsi(parts: list[str], subsystems: set[str]) -> tuple[Transport | None, str]:
    for pattern, what in _REMOTE:
        if any(re.fullmatch(pattern, part) for part in parts):
            return None, what
    if not subsystems & _SCSI_ON:
        return None, "a SCSI disk without a bus (made by software)"
    return (
        Transport.SATA if any(re.fullmatch(r"ata[0-9]+", part) for part in parts) else Transport.SCSI
    ), ""


def _nvme(host: Host, path: str) -> tuple[Transport | None, str]:
    """Judge an NVMe disk by its controllers: the parent, or with native multipath those linked from it."""
    parent = path.rpartition("/")[0]
    linked = [entry for entry in listed(host, parent) if re.fullmatch(r"nvme[0-9]+", entry)]
    controllers = [f"{parent}/{entry}" for entry in linked] or [parent]
    transports = {attribute(host, f"{controller}/transport") for controller in controllers}
    if transports == {"pcie"}:
        return Transport.NVME, ""
    return None, f"an NVMe disk over {', '.join(sorted(transports)).strip(', ') or 'an unknown transport'}"


def _subsystems(host: Host, path: str) -> set[str]:
    """Return the subsystems of all devices above the disk."""
    subsystems = set[str]()
    while (path := path.rpartition("/")[0]).count("/") > 2:
        with contextlib.suppress(OSError):  # most folders of a path are no devices
            subsystems.add(os.path.basename(os.readlink(os.path.join(host.path(path), "subsystem"))))
    return subsystems - {"block"}
