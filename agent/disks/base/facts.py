"""The input and the results of a decision on a disk, as plain values: policy.py and sizing.py decide,
handler.py acts.
"""

from __future__ import annotations

from enum import StrEnum

from agent.lib.records import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from agent.block.mounts import Claim, Mount
    from agent.block.storage import Device, Disk
    from agent.config.settings import Settings


class Place(StrEnum):
    """The kind of an entry in CONFIG_DISK_ROOT."""

    EMPTY = "an empty folder"
    FULL = "a folder that is not empty"
    OTHER = "a link or a file"


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A filesystem that is mounted or about to be. ``devno`` is the device's major:minor; ``ours``: the
    agent mounted it as a data disk.
    """

    devno: str
    uuid: str
    label: bytes
    mountpoint: str
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Machine:
    """The facts about the machine that the decision on one device needs. ``disk_root`` is
    CONFIG_DISK_ROOT with symbolic links resolved.
    """

    disk_root: str = "/srv"
    mounts: tuple[Mount, ...] = ()
    swaps: frozenset[str] = frozenset()
    claims: tuple[Claim, ...] = ()
    root_disks: frozenset[str] = frozenset()
    filesystems: tuple[Filesystem, ...] = ()
    places: Mapping[str, Place] = field(default_factory=dict)
    #: Names of devices that an administrator has released (gather.released).
    released: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class MountAt:
    """Mount the device. ``warning`` is part of the report, unless it is ""."""

    mountpoint: str
    options: str
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Mounted:
    """The device is mounted already, by the agent or by another program."""

    mountpoint: str


@dataclass(frozen=True, slots=True)
class Format:
    """Make a filesystem on the newly attached disk, if it proves to be blank."""

    fstype: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Leave the device alone, for this reason. ``quiet``: only ``gandi-agent disks`` shows it."""

    reason: str
    quiet: bool = field(default=False, compare=False)
    #: The remedy, if the reason is a failure.
    remedy: str = field(default="", compare=False)


Decision = MountAt | Mounted | Format | Leave


@dataclass(frozen=True, slots=True)
class Facts:
    """The complete input of the decision on one device. ``remembered`` is the result of State.disks()."""

    disk: Disk
    device: Device
    machine: Machine
    settings: Settings
    remembered: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: The disk was attached while the machine runs, and the agent has not handled it yet.
    is_new: bool = False
