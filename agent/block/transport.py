"""What a disk is attached to, read from its place in sysfs: an allow-list, so an unknown transport is
never a data disk.

A disk that another machine may use as well (iSCSI, Fibre Channel, NVMe over fabrics, nbd, rbd, DRBD) or
that somebody carries in and out (USB) is not the platform's to attach, and so not the agent's to mount.
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


class Bus(StrEnum):
    """The attachments that the platform uses for disks."""

    VIRTIO = "virtio-blk"
    SCSI = "SCSI"
    SATA = "SATA"
    NVME = "NVMe"
    XEN = "Xen"


#: Attachments below a SCSI host that are real: without one of them it is made by software (scsi_debug,
#: tcm_loop).
_SCSI_ON = frozenset({"virtio", "pci", "vmbus", "xen"})
#: Parts of a SCSI device's path that belong to a network: kernel names of the iSCSI, FC and SRP
#: transport classes.
_REMOTE = (
    (r"session[0-9]+", "an iSCSI disk"),
    (r"rport-.+", "a Fibre Channel disk"),
    (r"srp-.+", "an SRP disk"),
)
#: SCSI peripheral device type of CD and DVD drives (SPC, include/scsi/scsi_proto.h: TYPE_ROM).
_OPTICAL = "5"


def attachment(host: Host, path: str) -> tuple[Bus | None, str]:
    """The bus of the disk at a sysfs path, and "" or why a disk there is never a data disk."""
    if _optical(host, path):
        return None, "an optical drive"
    bus, why = _attached(host, path)
    if bus and attribute(host, f"{path}/removable") == "1":
        return None, "a removable disk"
    return bus, why


def undelivered(host: Host, path: str) -> str:
    """Why a configuration drive on the disk at a sysfs path does not count, "" where it may: on the
    platform's buses, optical drives included. What a local user can make or plug in would hand him root's
    keys.
    """
    return _attached(host, path)[1]


def _optical(host: Host, path: str) -> bool:
    name = path.rpartition("/")[2]
    is_sr = name.startswith("sr") and number(name[2:]) is not None
    return is_sr or attribute(host, f"{path}/device/type") == _OPTICAL


def _attached(host: Host, path: str) -> tuple[Bus | None, str]:
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
        return Bus.VIRTIO, ""
    if "xen" in subsystems:
        return Bus.XEN, ""
    return None, f"not on a disk bus of the platform ({', '.join(sorted(subsystems)) or 'none'})"


def _scsi(parts: list[str], subsystems: set[str]) -> tuple[Bus | None, str]:
    for pattern, what in _REMOTE:
        if any(re.fullmatch(pattern, part) for part in parts):
            return None, what
    if not subsystems & _SCSI_ON:
        return None, "a SCSI disk without a bus (made by software)"
    return (Bus.SATA if any(re.fullmatch(r"ata[0-9]+", part) for part in parts) else Bus.SCSI), ""


def _nvme(host: Host, path: str) -> tuple[Bus | None, str]:
    """The controller is the parent, or with native multipath each controller linked from the parent."""
    parent = path.rpartition("/")[0]
    linked = [entry for entry in listed(host, parent) if re.fullmatch(r"nvme[0-9]+", entry)]
    controllers = [f"{parent}/{entry}" for entry in linked] or [parent]
    transports = {attribute(host, f"{controller}/transport") for controller in controllers}
    if transports == {"pcie"}:
        return Bus.NVME, ""
    return None, f"an NVMe disk over {', '.join(sorted(transports)).strip(', ') or 'an unknown transport'}"


def _subsystems(host: Host, path: str) -> set[str]:
    """The subsystems of everything that the disk hangs from."""
    found = set[str]()
    while (path := path.rpartition("/")[0]).count("/") > 2:
        with contextlib.suppress(OSError):  # most folders of a path are no devices
            found.add(os.path.basename(os.readlink(os.path.join(host.path(path), "subsystem"))))
    return found - {"block"}
