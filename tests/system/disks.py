"""Real disks for tests: loop devices with real tables and filesystems, and the handler's system without
systemd.

The kernel, mkfs, sfdisk, mount and the lock are real. Replaced are the bus (a loop device is never a data
disk), udev's record (by libblkid), mount units (by mount(8)) and transient units (by the command itself).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from agent.block import storage
from agent.block.mounts import mounts
from agent.block.transport import Transport
from agent.config.settings import SettingsFile
from agent.context import Context
from agent.disks.base.system import System
from agent.host.host import Host
from agent.lib.records import dataclass, replace
from agent.report import StatusFile
from agent.state.store import State
from tests.contents import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.block.storage import Device, Disk

MIB = 1 << 20
#: linux/loop.h: LOOP_CTL_ADD, LOOP_CTL_REMOVE.
_ADD, _REMOVE = 0x4C80, 0x4C81
MKFS = {"ext4": ("mkfs.ext4", "-q"), "xfs": ("mkfs.xfs", "-q", "-f"), "btrfs": ("mkfs.btrfs", "-q", "-f")}


def sh(*argv: str, stdin: str = "") -> str:
    """Run a tool of the build host."""
    return subprocess.run(argv, check=True, capture_output=True, text=True, input=stdin).stdout.strip()


def unmount(disk: LoopDisk, at: Path | str, seconds: float = 60) -> None:
    """Unmount a filesystem, by its mountpoint or node, in all namespaces: one that another program made
    in the meantime has a copy of the mount, and the filesystem writes its last blocks, and its disk is free,
    only when the last copy is gone. Raise OSError (EBUSY) when that takes too long.
    """
    sh("umount", str(at))
    deadline = time.monotonic() + seconds
    while True:
        try:
            os.close(os.open(disk.node, os.O_RDWR | os.O_EXCL))
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


@dataclass(slots=True)
class LoopDisk:
    """An image on a loop device."""

    image: Path
    name: str

    @classmethod
    def make(cls, image: Path, size: int) -> LoopDisk:
        """Make and attach a blank disk of ``size`` bytes."""
        with image.open("wb") as file:
            file.truncate(size)
        return cls(image, Path(sh("losetup", "--find", "--show", str(image))).name)

    @property
    def node(self) -> str:
        """Return the whole disk's node."""
        return f"/dev/{self.name}"

    def part(self, number: int) -> str:
        """Return a partition's kernel name."""
        return f"{self.name}p{number}"

    def is_source(self, node: str) -> bool:
        """Return whether a name is the whole disk or a partition of it; /dev/loop10 is none of
        /dev/loop1.
        """
        return node == self.node or node.startswith(f"{self.node}p")

    def table(self, script: str) -> None:
        """Write a partition table and have the kernel read it."""
        sh("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", self.node, stdin=script)
        subprocess.run(("partx", "--update", self.node), check=True, capture_output=True)
        # That adds no logical partitions. Without any, this fails.
        subprocess.run(("partx", "--add", "--nr", "5:", self.node), check=False, capture_output=True)

    def dump(self) -> str:
        """Return the partition table in sfdisk's format, without the values that change when a
        disk grows.
        """
        lines = sh("sfdisk", "--dump", self.node).splitlines()
        return "\n".join(line for line in lines if not line.startswith("last-lba"))

    def digest(self) -> str:
        """Return a digest of what is on the disk. The kernel keeps older blocks of the disk's node, which a
        partition's do not update, while any other program has it open: they are given up first.
        """
        for node in (self.node, *map(str, Path("/dev").glob(f"{self.name}p*"))):
            sh("blockdev", "--flushbufs", node)
        return digest(self.image)

    def resize(self, size: int) -> None:
        """Resize the disk as a platform does on a running machine."""
        os.truncate(self.image, size)
        sh("losetup", "--set-capacity", self.node)

    def detach(self) -> None:
        """Detach the disk at the end of a test."""
        for mount in mounts(Host()):
            if self.is_source(mount.source):
                sh("umount", "--lazy", mount.mountpoint)
        subprocess.run(("partx", "--delete", self.node), check=False, capture_output=True)
        # The kernel keeps that flag for the next disk on this loop device.
        subprocess.run(("blockdev", "--setrw", self.node), check=False, capture_output=True)
        subprocess.run(("losetup", "--detach", self.node), check=False, capture_output=True)

    def wait_detached(self, seconds: float = 10) -> None:
        """Wait until it is detached: when the last program that has it open, such as a prober, closes it."""
        deadline = time.monotonic() + seconds
        while os.path.exists(f"/sys/block/{self.name}/loop"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.node} is still attached")
            time.sleep(0.02)


@contextlib.contextmanager
def own_loop_device(image: Path) -> Iterator[LoopDisk]:
    """Attach an image to a loop device that is made for it and removed afterwards: while it is detached, no
    other test is given it, and what cannot be set back stays on no other's.
    """
    number = 100_000 + os.getpid() % 100_000
    node = f"/dev/loop{number}"
    with open("/dev/loop-control", "rb", buffering=0) as control:
        fcntl.ioctl(control, _ADD, number)
        try:
            sh("losetup", node, str(image))
            try:
                yield LoopDisk(image, f"loop{number}")
            finally:
                sh("losetup", "--detach", node)
        finally:
            fcntl.ioctl(control, _REMOVE, number)


def context(root: Path, settings: str = "") -> Context:
    """Return a context for this machine, with its state, settings and status in a folder."""
    (root / "etc/default").mkdir(parents=True, exist_ok=True)
    (root / "srv").mkdir(exist_ok=True)
    (root / "etc/default/gandi").write_text(f"CONFIG_DISK_ROOT={root}/srv\n{settings}")
    aside = Host(root)
    return Context(Host(), SettingsFile(aside), State(aside), StatusFile(aside))


def system(*disks: LoopDisk) -> System:
    """Return the handler's system, in which only these disks exist, on a platform's bus."""
    known = {disk.name for disk in disks}

    def read(host: Host, name: str) -> Disk | None:
        found = storage.read(host, name, lambda _name: {}) if name in known else None
        if found is None or not found.device.size:
            return None
        parts = tuple(_asked(host, part) for part in found.partitions)
        return replace(
            found,
            device=_asked(host, found.device),
            partitions=parts,
            transport=Transport.VIRTIO,
            excluded="",
        )

    return System(
        read,
        lambda _host: [disk.name for disk in disks],
        mount=_mount,
        unmount=_unmount,
        write=_write,
        release=_release,
    )


def without(here: System, *gone: LoopDisk) -> System:
    """Return the system after these disks have gone: the kernel removes no loop device that is mounted."""
    names = {disk.name for disk in gone}

    def read(host: Host, name: str) -> Disk | None:
        return None if name in names else here.read(host, name)

    def name_of(host: Host, devno: str) -> str:
        name = here.name_of(host, devno)
        return "" if storage.whole_disk(host, name) in names else name

    return replace(here, read=read, name_of=name_of)


def _asked(host: Host, device: Device) -> Device:
    return replace(device, udev=storage.probe(host, device.node))


def _mount(host: Host, node: str, at: str, fstype: str, options: str) -> None:
    host.run(("mount", "-t", fstype, "-o", options, node, at))


def _unmount(host: Host, at: str) -> None:
    host.run(("umount", "--lazy", at))


def _release(host: Host, at: str) -> None:
    host.run(("umount", at))


def _write(host: Host, _unit: str, disk: str, argv: Sequence[str], stdin: str = "") -> None:
    host.run(("udevadm", "lock", f"--device={disk}", "--", *argv), stdin=stdin.encode())
