"""The rig: real Debian machines in QEMU; QMP commands stand in for the platform. The API is in
../README.md.
"""

from .channel import GuestError, Pending, Result
from .command import RigError
from .disks import copy_disk, make_disk, make_filesystem, make_table, put
from .image import Image, build, newest_deb
from .machine import Machine
from .spec import (
    GIB,
    MIB,
    Architecture,
    Bus,
    Disk,
    Firmware,
    GuestFile,
    ImageSpec,
    MachineSpec,
    Network,
    Nic,
    Release,
    RootFs,
    Table,
    multiqueue_nic,
)
from .state import State, booted, saved

__all__ = [
    "GIB",
    "MIB",
    "Architecture",
    "Bus",
    "Disk",
    "Firmware",
    "GuestError",
    "GuestFile",
    "Image",
    "ImageSpec",
    "Machine",
    "MachineSpec",
    "Network",
    "Nic",
    "Pending",
    "Release",
    "Result",
    "RigError",
    "RootFs",
    "State",
    "Table",
    "booted",
    "build",
    "copy_disk",
    "make_disk",
    "make_filesystem",
    "make_table",
    "multiqueue_nic",
    "newest_deb",
    "put",
    "saved",
]
