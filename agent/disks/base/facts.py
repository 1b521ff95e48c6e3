"""What a decision on a disk is made from, and what it can be. Plain values: policy.py and sizing.py
think, handler.py acts.
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
    """What stands at a name below CONFIG_DISK_ROOT."""

    EMPTY = "an empty folder"
    FULL = "a folder that is not empty"
    OTHER = "a link or a file"


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A filesystem that is in use (or about to be mounted); ``ours``: the agent mounted it as a data
    disk.
    """

    number: str
    uuid: str
    label: bytes
    at: str
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Machine:
    """The facts about the machine that the decision on one device needs. ``disk_root`` is free of links."""

    disk_root: str = "/srv"
    mounts: tuple[Mount, ...] = ()
    swaps: frozenset[str] = frozenset()
    claims: tuple[Claim, ...] = ()
    root_disks: frozenset[str] = frozenset()
    filesystems: tuple[Filesystem, ...] = ()
    places: Mapping[str, Place] = field(default_factory=dict)
    #: Names of devices that we mounted in this boot and somebody unmounted.
    released: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class MountAt:
    """Mount it there. ``warning`` is worth telling, "" otherwise."""

    at: str
    options: str
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Mounted:
    """It is mounted there already, by us or by somebody else."""

    at: str


@dataclass(frozen=True, slots=True)
class Format:
    """Make a filesystem on it, if it is proven blank: it has just been attached."""

    fstype: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Leave it alone, for this reason; ``quiet`` ones go without saying, except in ``gandi-agent disks``."""

    reason: str
    quiet: bool = field(default=False, compare=False)
    #: What is to be done about it, where the reason is a failure.
    remedy: str = field(default="", compare=False)


Decision = MountAt | Mounted | Format | Leave


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that one decision is made from. ``remembered``: State.disks()."""

    disk: Disk
    device: Device
    machine: Machine
    settings: Settings
    remembered: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: The disk was attached while the machine runs, and nobody has looked at it yet.
    is_new: bool = False
