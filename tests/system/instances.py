"""Disks of instances that a Ganeti node has, for the tests of the OS definition's scripts."""

from __future__ import annotations

import json
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import creation
from tests.vm.rig import ImageSpec, Table
from tests.vm.rig.rootdisk import Extent, loop_device

NEW = "vm9.example.net"
#: What Ganeti has for the instance after its new name and another address.
RENAMED = creation.ENVIRONMENT | {
    "INSTANCE_NAME": NEW,
    "OLD_INSTANCE_NAME": creation.NAME,
    "NIC_0_IP": "203.0.113.77",
}
#: Seconds at most for any wait here.
BOUND = 30
#: Bytes of the disk of a new instance.
SIZE = 2 << 30


@contextmanager
def opened(disk: Path, style: Table) -> Iterator[Path]:
    """The root filesystem of an instance's disk, mounted."""
    offset, target = creation.STYLES[style], disk.parent / "target"
    target.mkdir(exist_ok=True)
    with loop_device(disk, Extent(offset, disk.stat().st_size - offset)) as device:
        subprocess.run(["mount", device, target], check=True)
        try:
            yield target
        finally:
            subprocess.run(["umount", target], check=True)


def instance(tmp_path: Path, node: Path, style: Table) -> Path:
    """Return the disk of an instance that the hook has configured and that has booted: it has a machine-id
    and host keys.
    """
    folder = tmp_path / "instance"
    folder.mkdir()
    with creation.instance(ImageSpec(table=style), folder) as (target, _):
        done = creation.hook(target, node, style)
        assert done.returncode == 0, done.stdout + done.stderr
        (target / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        for kind in ("ed25519", "ecdsa"):
            key = target / f"etc/ssh/ssh_host_{kind}_key"
            comment = f"root@{creation.NAME}"
            argv = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", comment, "-f", key]
            subprocess.run(argv, check=True)
    return folder / "root.img"


def copied(disk: Path, folder: Path) -> Path:
    """Return a copy of a disk, for a test that changes it."""
    copy = folder / "copy.img"
    subprocess.run(["cp", "--sparse=always", disk, copy], check=True)
    return copy


def larger(folder: Path) -> Path:
    """Return an empty disk."""
    path = folder / "larger"
    with path.open("wb") as file:
        file.truncate(SIZE)
    return path


@contextmanager
def root_of(disk: Path) -> Iterator[tuple[Path, list[dict[str, str]]]]:
    """The root filesystem, which is the last partition or the whole disk, mounted; and the partitions."""
    said = subprocess.run(["sfdisk", "--json", disk], check=False, capture_output=True, text=True)
    parts = json.loads(said.stdout)["partitiontable"]["partitions"] if said.returncode == 0 else []
    offset = parts[-1]["start"] * 512 if parts else 0
    size = parts[-1]["size"] * 512 if parts else disk.stat().st_size
    target = disk.parent / "target"
    target.mkdir(exist_ok=True)
    with loop_device(disk, Extent(offset, size)) as device:
        subprocess.run(["mount", device, target], check=True)
        try:
            yield target, [probed(disk, part["start"] * 512, part["size"] * 512) for part in parts]
        finally:
            subprocess.run(["umount", target], check=True)


def probed(disk: Path, offset: int, size: int) -> dict[str, str]:
    argv = ["blkid", "-p", "-O", str(offset), "-S", str(size), "-o", "export", str(disk)]
    said = subprocess.run(argv, check=False, capture_output=True, text=True).stdout
    return dict(line.split("=", 1) for line in said.splitlines())


def boots_by_a_bios(disk: Path) -> bool:
    """Return whether the disk has a boot record that leads to an image of GRUB."""
    with disk.open("rb") as file:
        record = file.read(512)
        (sector,) = struct.unpack_from("<Q", record, 0x5C)
        file.seek(sector * 512)
        first = file.read(512)
    start, sectors, address = struct.unpack_from("<QHH", first, 0x1F4)
    return b"GRUB " in record and (start, address) == (sector + 1, 0x820) and sectors > 0


def has_grub(target: Path, uuid: str, console: str = "ttyS0") -> None:
    """Check GRUB's menu in a mounted root filesystem."""
    text = (target / "boot/grub/grub.cfg").read_text().replace("  ", " ")
    assert f"search --no-floppy --fs-uuid --set=root {uuid}" in text
    assert f" root=UUID={uuid} ro console=tty0 console={console},115200n8" in text
    unit = console.removeprefix("ttyS")
    assert f"serial --unit={unit} --speed=115200\nterminal_input console serial" in text
    assert "/dev/" not in text, "nothing of the node"
    assert not (target / "var/lib/gandi/boot-loader").exists()


def with_name(tree: Path, text: str) -> list[str]:
    """Return the files of the agent and of /etc that have a text."""
    found = subprocess.run(
        ["grep", "-rlIF", text, "etc", "var/lib/gandi", "root"],
        cwd=tree,
        check=False,
        capture_output=True,
        text=True,
    )
    return sorted(found.stdout.splitlines())


def is_left_alone(disk: Path, node: Path) -> None:
    """Check that the node has nothing of the disk: no mount, no loop device, no folder."""
    assert [path.name for path in node.iterdir() if path.suffix not in (".deb", ".json", "")] == []
    assert not is_attached(disk)
    assert f"{node}/" not in Path("/proc/mounts").read_text()


def is_attached(disk: Path) -> bool:
    """Return whether a loop device has the disk."""
    said = subprocess.run(["losetup", "--list"], check=True, capture_output=True, text=True).stdout
    return str(disk) in said


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, at most BOUND seconds."""
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
