"""Images of disks with a small system, and the command that configures one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.disks.growth import lvm
from agent.host.host import Host
from tests.system.disks import MIB, MKFS, LoopDisk, sh, unmount

SMALL, LARGE = 400 * MIB, 900 * MIB
#: The table's name -> sfdisk's input for SMALL, and the root partition's number.
TABLES = {
    "none": ("", 0),
    "msdos": ("label: dos\nstart=2048, size=40960, type=82\nstart=43008, type=83, bootable\n", 2),
    "logical": (
        "label: dos\nstart=2048, size=40960, type=82\nstart=43008, type=5\nstart=45056, type=83\n",
        5,
    ),
    "gpt": ("label: gpt\nsize=20M, type=uefi\ntype=linux, name=root\n", 2),
}
DOCUMENT = {
    "version": 1,
    "id": "image-1",
    "hostname": "vm1.example.org",
    "files": [{"path": "/etc/injected", "content": "text\n"}],
}
#: What the steps of that document run.
_PROGRAMS = ("true", "sh", "mkswap")


def tree(folder: Path) -> Path:
    """Make a small system: the files that show one, and the programs that are run in it."""
    for name in ("etc", "usr/bin", "usr/lib", "proc", "sys", "dev", "run", "tmp", "var/lib", "root"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for program in _PROGRAMS:
        real = os.path.realpath(shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") or program)
        shutil.copy(real, folder / "usr/bin" / program)
        for library in re.findall(r"/\S+", sh("ldd", real)):
            (folder / library[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, folder / library[1:])
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\n")
    (folder / "etc/shadow").write_text("root:*:19000:0:99999:7:::\n")
    (folder / "etc/os-release").write_text("ID=small\n")
    (folder / "etc/fstab").write_text("# its own table\n")
    return folder


@contextmanager
def disk(image: Path) -> Iterator[LoopDisk]:
    """Attach the image, with the partitions that it has."""
    found = LoopDisk(image, Path(sh("losetup", "--find", "--show", "--partscan", str(image))).name)
    if not list(Path(f"/sys/block/{found.name}").glob(f"{found.name}p*")):
        subprocess.run(("partx", "--add", found.node), check=False, capture_output=True)
    try:
        yield found
    finally:
        found.detach()
        found.wait_detached()


@contextmanager
def opened(image: Path, number: int) -> Iterator[Path]:
    """Mount the filesystem on a partition of the image (0: on the whole disk)."""
    at = image.parent / "opened"
    at.mkdir(exist_ok=True)
    with disk(image) as found:
        node = f"/dev/{found.part(number)}" if number else found.node
        sh("mount", node, str(at))
        try:
            yield at
        finally:
            unmount(found, at)


def blank(image: Path, table: str, size: int = SMALL) -> Path:
    """Make an image with a partition table."""
    with image.open("wb") as file:
        file.truncate(size)
    if table:
        sh("sfdisk", "--quiet", str(image), stdin=table)
    return image


def made(folder: Path, kind: str, fstype: str) -> Path:
    """Make an image with a small system in the last partition, and enlarge it to LARGE."""
    table, number = TABLES[kind]
    image = blank(folder / "disk.raw", table)
    with disk(image) as found:
        sh(*MKFS[fstype], f"/dev/{found.part(number)}" if number else found.node)
    fill(image, number)
    os.truncate(image, LARGE)
    return image


def with_volumes(folder: Path, kind: str, *volumes: str) -> Path:
    """Make an image with a volume group in the last partition, and volumes (NAME=EXTENTS) in it, each with
    an ext4; enlarge it to LARGE. The first has the system.
    """
    table, number = TABLES[kind]
    image = blank(folder / "disk.raw", table)
    with disk(image) as found:
        node = f"/dev/{found.part(number)}" if number else found.node
        options = lvm.isolated(node)
        sh("pvcreate", "-q", *options, node)
        sh("vgcreate", "-q", *options, "vg0", node)
        for volume in volumes:
            name, _, extents = volume.partition("=")
            sh("lvcreate", "-q", "-an", "-Zn", "-Wn", *options, f"-l{extents}", f"-n{name}", "vg0")
    for volume in volumes:
        with on_volume(image, number, volume.partition("=")[0]) as node:
            sh(*MKFS["ext4"], node)
    source = tree(folder / "tree")
    with opened_volume(image, number, volumes[0].partition("=")[0]) as at:
        sh("cp", "-a", f"{source}/.", str(at))
    os.truncate(image, LARGE)
    return image


@contextmanager
def on_volume(image: Path, number: int, name: str) -> Iterator[str]:
    """Yield a device with a volume in one piece, without the device mapper."""
    with disk(image) as found:
        node = f"/dev/{found.part(number)}" if number else found.node
        (piece,) = (one for one in lvm.pieces(Host(), node, lvm.isolated(node)) if one.volume == name)
        place = ("--offset", str(piece.offset), "--sizelimit", str(piece.size))
        volume = LoopDisk(image, Path(sh("losetup", "--find", "--show", *place, node)).name)
        try:
            yield volume.node
        finally:
            volume.detach()
            volume.wait_detached()


@contextmanager
def opened_volume(image: Path, number: int, name: str) -> Iterator[Path]:
    """Mount the filesystem in a volume."""
    at = image.parent / "opened"
    at.mkdir(exist_ok=True)
    with on_volume(image, number, name) as node:
        sh("mount", node, str(at))
        try:
            yield at
        finally:
            unmount(LoopDisk(image, Path(node).name), at)


def fill(image: Path, number: int) -> None:
    """Copy a small system to a filesystem of the image."""
    source = tree(image.parent / "tree")
    with opened(image, number) as at:
        sh("cp", "-a", f"{source}/.", str(at))


def command(image: Path, *words: str, source: str = "-") -> list[str]:
    """Return the command that configures the image."""
    return [sys.executable, "-m", "agent", "apply", "--image", str(image), "--source", source, *words]


def apply(image: Path, *words: str, status: int = 0, document: object = DOCUMENT) -> str:
    """Configure the image, check the exit status and that nothing is left; return what was said."""
    mounts = _mounts()
    done = subprocess.run(
        command(image, *words),
        input=json.dumps(document).encode(),
        capture_output=True,
        check=False,
        timeout=120,
    )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == status, said
    assert _mounts() <= mounts
    assert not is_attached(image)
    return said


def _mounts() -> set[str]:
    """Return the lines of the mounts; the kernel takes one away if another program removes its folder."""
    return set(Path("/proc/mounts").read_text().splitlines())


def is_attached(image: Path) -> bool:
    """Return whether a loop device has the image."""
    return bool(sh("losetup", "--associated", str(image)))


def size_of(at: Path) -> int:
    """Return the bytes of a mounted filesystem, as statvfs(2) counts them."""
    found = os.statvfs(at)
    return found.f_blocks * found.f_frsize
