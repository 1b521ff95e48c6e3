"""The end state that an administrator's machine must have: the rules of docs/decisions/disks.md and gandi(5)
as a model of their own, which shares no code with the agent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

#: Filesystems that grow while they are mounted.
GROWING = ("ext4", "xfs")
#: The part of its device that a filesystem's blocks are at least, as statvfs(2) counts them: XFS keeps a log
#: of 64 MiB on the smallest disk. A disk grows by half, so that this is more than what it had before.
LEAST = 0.75


class Owner(StrEnum):
    """Who decides on a disk that is mounted nowhere, in one attachment."""

    #: The agent, which has not mounted it in this attachment, or was given it back.
    AGENT = "agent"
    #: The administrator, as soon as it is mounted nowhere: the agent has mounted it before.
    UNMOUNTER = "unmounter"
    #: The administrator, who released it by `gandi-agent detach`.
    RELEASED = "released"


@dataclass(slots=True)
class Settings:
    """Those of /etc/default/gandi that the campaign edits."""

    allow: bool = True
    grow: bool = True
    root: str = "/srv"
    params: str = "rw,nosuid,nodev,noatime"
    ignore: str = ""
    idle: int = 60

    def lines(self) -> str:
        """Return the file's lines."""
        return (
            f"CONFIG_ALLOW_MOUNT={self.allow:d}\nCONFIG_GROW_DISKS={self.grow:d}\nCONFIG_DISK_ROOT={self.root}\n"
            f'CONFIG_MOUNT_PARAMS="{self.params}"\nCONFIG_DISK_IGNORE="{self.ignore}"\n'
            f"CONFIG_IDLE_EXIT={self.idle}\n"
        )


@dataclass(slots=True)
class Volume:
    """The content of a disk: a filesystem, or swap. ``spans``: bytes that it covers at least; ``at``: where
    the agent has mounted it last; ``marked``: it has a file with its UUID.
    """

    fs: str
    uuid: str
    label: str
    spans: int
    at: str = ""
    marked: bool = False


@dataclass(slots=True)
class Disk:
    """One disk of the platform. ``mounts`` has the options that each mount must have."""

    name: str
    size: int
    volume: Volume
    attached: bool = False
    owner: Owner = Owner.AGENT
    mounts: dict[str, str] = field(default_factory=dict)
    swapping: bool = False

    @property
    def is_released(self) -> bool:
        """Whether the agent must leave it alone, whatever the settings."""
        return self.owner is Owner.RELEASED or (self.owner is Owner.UNMOUNTER and not self.mounts)

    @property
    def is_idle(self) -> bool:
        """Whether the administrator may write to it."""
        return self.attached and not self.mounts and not self.swapping

    @property
    def state(self) -> str:
        """The state in the table of `gandi-agent disks`."""
        if self.mounts:
            return "mounted"
        return "left" if self.owner is Owner.AGENT else "released"


class Oracle:
    """The whole machine. Each method is an action, or what the agent must do on its own."""

    def __init__(self) -> None:
        self.disks: dict[str, Disk] = {}
        self.settings = Settings()
        #: Mountpoints whose disk has gone, which must not be there.
        self.gone: set[str] = set()
        #: Folders that an administrator's umount(8) has left; they may stay.
        self.left: set[str] = set()

    # -- the platform ------------------------------------------------------------------------------

    def attach(self, disk: Disk) -> None:
        """A new attachment: whatever was done to the disk in a former one is over."""
        disk.attached, disk.owner = True, Owner.AGENT
        self.examine(disk)

    def unplug(self, disk: Disk) -> None:
        """No mount of it stays, if ``ends_mounts``, and no mountpoint that the agent made."""
        self.gone |= {path for path in disk.mounts if path == disk.volume.at} - self.left
        disk.attached = False
        disk.mounts.clear()

    def ends_mounts(self, disk: Disk) -> bool:
        """Whether every mount of it ends when it goes. Those that the administrator made do only if the
        agent has mounted it in this attachment, or released it, and may mount.
        """
        is_own = set(disk.mounts) <= {disk.volume.at}
        return is_own or (self.settings.allow and disk.owner is not Owner.AGENT)

    def resize(self, disk: Disk, size: int) -> None:
        """Enlarge it."""
        disk.size = size
        self.examine(disk)

    # -- the administrator -------------------------------------------------------------------------

    def umount(self, disk: Disk, path: str) -> None:
        """It stays unmounted if the agent has mounted it in this attachment."""
        del disk.mounts[path]
        self.left.add(path)

    def mount_elsewhere(self, disk: Disk, path: str) -> None:
        """It is left there."""
        disk.mounts[path] = ""

    def release(self, disk: Disk) -> None:
        """`gandi-agent detach`: unmounted and left alone."""
        disk.mounts.clear()
        disk.owner = Owner.RELEASED

    def give_back(self, disk: Disk) -> None:
        """`gandi-agent mount`, or an event "add"."""
        if disk.is_released:
            disk.owner = Owner.AGENT
        self.examine(disk)

    def make(self, disk: Disk, volume: Volume) -> None:
        """Another filesystem, or swap; that changes nothing about who decides on the disk."""
        disk.volume = volume
        self.examine(disk)

    def mount_stage(self) -> None:
        """The mount stage again: every disk is given back. Without mounts it does nothing."""
        for disk in self.present() if self.settings.allow else ():
            self.give_back(disk)

    # -- the agent ---------------------------------------------------------------------------------

    def present(self) -> Iterator[Disk]:
        """Yield the attached disks."""
        return (disk for disk in self.disks.values() if disk.attached)

    def examine_all(self) -> None:
        """All devices are examined: a start of the daemon, or events of all."""
        for disk in self.present():
            self.examine(disk)

    def examine(self, disk: Disk) -> None:
        """What must follow when the agent examines a disk."""
        settings, volume = self.settings, disk.volume
        ignored = settings.ignore == disk.name
        if settings.allow and not ignored and not disk.is_released and disk.is_idle and volume.fs != "swap":
            if volume.at.rpartition("/")[0] != settings.root:
                volume.at = f"{settings.root}/{volume.label}"
            disk.mounts[volume.at] = settings.params
            disk.owner = Owner.UNMOUNTER
            self.gone.discard(volume.at)
        if disk.mounts and settings.grow and not ignored and volume.fs in GROWING:
            volume.spans = disk.size

    # -- what must be seen -------------------------------------------------------------------------

    def wanted(self) -> dict[str, Any]:
        """Return the state as `seen.py` compares it in the guest."""
        mounts = {
            path: {
                "disk": disk.name,
                "fs": disk.volume.fs,
                "least": disk.volume.spans * LEAST,
                "most": disk.size if disk.volume.fs in GROWING else disk.volume.spans,
                "options": options,
                "marker": disk.volume.uuid if disk.volume.marked else "",
            }
            for disk in self.present()
            for path, options in disk.mounts.items()
        }
        # Not enlarged: it must have less than an enlarged one. An event may have come since it was mounted
        # by hand, so only a setting that forbids growing is certain.
        for disk in self.present():
            if not self.settings.grow or self.settings.ignore == disk.name:
                for path in disk.mounts:
                    mounts[path]["most"] = disk.volume.spans
        return {
            "mounts": mounts,
            "disks": {disk.name: [disk.size, disk.state] for disk in self.present()},
            "swaps": sorted(disk.name for disk in self.present() if disk.swapping),
            "absent": sorted(self.gone),
        }
