"""A root disk from a tree: partition table, filesystem and fstab, written into a sparse file."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .command import RigError, run
from .spec import MIB, ImageSpec, RootFs, Table

BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"
LINUX_ROOT = (
    "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"  # x86-64 root of the Discoverable Partitions Specification
)
GPT_TAIL = 1 * MIB  # room for the backup header (33 sectors), rounded up


@dataclass(frozen=True, slots=True)
class Extent:
    """Offset and size of the root filesystem on the disk, in bytes."""

    offset: int
    size: int


def write_disk(tree: Path, spec: ImageSpec, target: Path) -> str:
    """Make `target` from `tree` as `spec` says; return the UUID of the root filesystem."""
    with open(target, "wb") as disk:
        disk.truncate(spec.size)
    extent = _write_table(target, spec)
    identity = str(uuid.uuid4())
    options = {"ext4": "errors=remount-ro", "xfs": "defaults", "btrfs": "defaults"}[spec.root_fs]
    fsck = 1 if spec.root_fs == RootFs.EXT4 else 0
    (tree / "etc/fstab").write_text(f"UUID={identity} / {spec.root_fs} {options} 0 {fsck}\n")
    match spec.root_fs:
        case RootFs.EXT4:
            _make_ext4(tree, target, extent, identity)
        case RootFs.XFS:
            _make_xfs(tree, target, extent, identity)
        case RootFs.BTRFS:
            with loop_device(target, extent) as device:
                run(["mkfs.btrfs", "-q", "-L", "root", "-U", identity, "--rootdir", tree, device])
    return identity


def _write_table(target: Path, spec: ImageSpec) -> Extent:
    size = spec.size
    match spec.table:
        case Table.NONE:
            return Extent(0, size)
        case Table.MSDOS:
            run(["sfdisk", "-q", target], stdin="label: dos\nstart=2048, type=83, bootable\n")
            return Extent(MIB, size - MIB)
        case Table.GPT:
            root = Extent(2 * MIB, size - 2 * MIB - GPT_TAIL)
            head = "label: gpt\n" + (f"label-id: {spec.disk_guid}\n" if spec.disk_guid else "")
            sectors = f"start={root.offset // 512}, size={root.size // 512}"
            parts = (
                f'start=2048, size=2048, type={BIOS_BOOT}\n{sectors}, type={LINUX_ROOT}, name="gandiroot"\n'
            )
            run(["sfdisk", "-q", target], stdin=head + parts)
            return root


def _make_ext4(tree: Path, target: Path, extent: Extent, identity: str) -> None:
    extended = f"offset={extent.offset},root_owner=0:0,lazy_itable_init=1,nodiscard"
    blocks = f"{extent.size // 1024}k"
    run(
        [
            "mke2fs",
            "-q",
            "-F",
            "-t",
            "ext4",
            "-L",
            "root",
            "-U",
            identity,
            "-E",
            extended,
            "-d",
            tree,
            target,
            blocks,
        ]
    )


def _make_xfs(tree: Path, target: Path, extent: Extent, identity: str) -> None:
    mountpoint = target.with_suffix(".mnt")
    with loop_device(target, extent) as device:
        run(["mkfs.xfs", "-q", "-L", "root", "-m", f"uuid={identity}", device])
        mountpoint.mkdir()
        run(["mount", device, mountpoint])
        try:
            run(["cp", "-a", f"{tree}/.", mountpoint])
        finally:
            run(["umount", mountpoint])
            mountpoint.rmdir()


@contextmanager
def loop_device(file: Path, extent: Extent | None = None) -> Iterator[str]:
    """Attach a loop device to `file`, or to a part of it; detach it when the context ends."""
    part = ["--offset", str(extent.offset), "--sizelimit", str(extent.size)] if extent else []
    device = run(["losetup", "--find", "--show", *part, file]).strip()
    if not device:
        raise RigError("losetup gave no loop device")
    try:
        yield device
    finally:
        run(["losetup", "--detach", device])
