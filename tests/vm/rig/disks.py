"""Disk files on the host: overlays, blank disks, filesystems and partition tables for tests.

The files belong to the caller; nothing is mounted.
"""

from __future__ import annotations

from pathlib import Path

from .command import RigError, run


def make_overlay(backing: Path, backing_format: str, target: Path, size: int = 0) -> Path:
    """Make a qcow2 overlay of `backing` with `size` bytes (0: that of `backing`)."""
    more = [str(size)] if size else []
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", backing_format, target, *more])
    return target


def make_disk(path: Path, size: int) -> Path:
    """Make an empty (sparse) raw disk file of `size` bytes."""
    with open(path, "wb") as disk:
        disk.truncate(size)
    return path


def make_filesystem(path: Path, size: int, fs: str, *, label: str = "", tree: Path | None = None) -> Path:
    """Make a raw disk of `size` bytes with a filesystem on all of it: ext4, xfs, btrfs, vfat or swap.

    `tree` is its content (ext4 and btrfs only). The label is used as it is, also a hostile one.
    """
    make_disk(path, size)
    content: list[str | Path] = []
    if tree is not None:
        content = ["--rootdir" if fs == "btrfs" else "-d", tree]
    name = ["-n" if fs == "vfat" else "-L", label] if label else []
    match fs:
        case "ext4":
            run(["mke2fs", "-q", "-F", "-t", "ext4", *name, *content, path])
        case "btrfs":
            run(["mkfs.btrfs", "-q", *name, *content, path])
        case "xfs" | "vfat" | "swap" if tree is not None:
            raise RigError(f"cannot fill a {fs} filesystem without mounting it")
        case "xfs":
            run(["mkfs.xfs", "-q", *name, path])
        case "vfat":
            run(["mkfs.vfat", *name, path])
        case "swap":
            run(["mkswap", *name, path])
        case _:
            raise RigError(f"unknown filesystem {fs}")
    return path


def make_table(path: Path, script: str) -> Path:
    """Write a partition table: `script` is sfdisk's input language, see sfdisk(8)."""
    run(["sfdisk", "-q", path], stdin=script)
    return path


def put(path: Path, offset: int, content: bytes) -> Path:
    """Write bytes at `offset` of a disk file."""
    with open(path, "r+b") as disk:
        disk.seek(offset)
        disk.write(content)
    return path


def copy_disk(path: Path, target: Path) -> Path:
    """Copy a disk file, with its holes."""
    run(["cp", "--sparse=always", "--reflink=auto", path, target])
    return target
