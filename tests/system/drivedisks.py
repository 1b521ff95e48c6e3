"""Configuration drives on loop devices, for any build host's kernel.

Labels are read from real images of ISO 9660 and FAT (libblkid needs no kernel support for that), a drive's
content from ext4, which has everything that Rock Ridge can hold. Both together are in
tests/vm/test_platforms.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.block import detached_mount, storage
from agent.host.host import Host
from agent.sources import config_drives
from agent.sources.drive_files import Tree
from agent.sources.superblock import LabelledDevice
from tests import drives as media
from tests.system.disks import MIB, LoopDisk, sh

Attach = Callable[[Path], LoopDisk]
OnExt4 = Callable[..., Path]


@pytest.fixture
def attach(tmp_path: Path) -> Iterator[Callable[[Path], LoopDisk]]:
    """Attach an image to a loop device."""
    made: list[LoopDisk] = []

    def attach(image: Path) -> LoopDisk:
        os.truncate(image, -(-image.stat().st_size // 4096) * 4096)
        made.append(LoopDisk(image, Path(sh("losetup", "--find", "--show", str(image))).name))
        return made[-1]

    yield attach
    for disk in made:
        disk.detach()


@pytest.fixture
def on_ext4(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Make images of a folder with a filesystem of this kernel; the device is accepted as a drive."""

    def probed(host: Host, name: str, labels: object) -> LabelledDevice | None:
        found = storage.probe(host, f"/dev/{name}")
        label = found.get("ID_FS_LABEL", "").lower()
        return (
            LabelledDevice(name, storage.devno_of(host, name), found["ID_FS_TYPE"], label) if label else None
        )

    monkeypatch.setattr(config_drives, "labelled", probed)

    def make(folder: Path, label: str, size: int = 64 * MIB) -> Path:
        image = tmp_path / f"drive{len(list(tmp_path.iterdir()))}.img"
        with image.open("wb") as file:
            file.truncate(size)
        sh("mke2fs", "-q", "-t", "ext4", "-L", label, "-d", str(folder), str(image))
        return image

    return make


def make_folder(path: Path, content: dict[str, bytes]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return media.write_tree(path, content)


def read_tree(disk: LoopDisk) -> Tree:
    tree = Tree()
    with detached_mount.mounted(disk.node, "ext4", storage.devno_of(Host(), disk.name)) as root:
        tree.add_folder(root)
    return tree


def blank(path: Path) -> Path:
    """Make an empty image."""
    with path.open("wb") as file:
        file.truncate(4 * MIB)
    return path
