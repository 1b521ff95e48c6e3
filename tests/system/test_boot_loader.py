"""GRUB on the disks of images and instances, made by each way that there is, as a node does it."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from agent.__main__ import main
from tests import creation
from tests.system.instances import SIZE, boots_by_a_bios, has_grub, is_left_alone, opened, probed, root_of
from tests.vm.rig import MIB, ImageSpec, Table, newest_deb
from tests.vm.rig.rootdisk import Extent, loop_device, write_disk
from tests.vm.rig.tree import merged

PACKAGES = ("grub-efi-amd64-bin", "grub-pc-bin", "grub2-common")
NATIVE = {"version": 1, "id": "1", "hostname": "vm1", "consoles": ["ttyS1"]}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with the agent, GRUB and a kernel, as an archive and as disks with a table."""
    folder = tmp_path_factory.mktemp("images")
    with merged(ImageSpec(extra=PACKAGES, debs=(newest_deb(),))) as tree:
        subprocess.run(["chroot", tree, "systemctl", "-q", "enable", "systemd-networkd.service"], check=True)
        subprocess.run(["tar", "-C", tree, "-cf", folder / "tree.tar", "."], check=True)
        for table in (Table.GPT, Table.MSDOS, Table.NONE):
            write_disk(tree, ImageSpec(table=table), folder / f"{table}.raw")
    return folder


@pytest.fixture
def disk(node: Path, images: Path, tmp_path: Path) -> Path:
    """Return the instance's disk, with nothing on it; the node has the images."""
    (node / "images").symlink_to(images)
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(SIZE)
    return path


def create(node: Path, disk: Path, **parameters: str) -> subprocess.CompletedProcess[str]:
    chosen = {"DISK_0_PATH": str(disk), "OSP_BOOTLOADER": "grub"} | parameters
    return creation.script("create", node, **creation.ENVIRONMENT | chosen)


@pytest.mark.slow
@pytest.mark.parametrize(("partition", "types"), [("msdos", ["ext4"]), ("", [None, "vfat", "swap", "ext4"])])
def test_an_instance_from_a_tree_and_its_backup(
    node: Path, disk: Path, partition: str, types: list[str | None]
) -> None:
    """The default is a GPT; the machine that boots from it is in tests/vm/test_boot_loader.py."""
    swap = "64" if "swap" in types else ""
    done = create(node, disk, OSP_IMAGE="tree.tar", OSP_PARTITION=partition, OSP_SWAP=swap)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed: boot record: for a BIOS, in the " in done.stderr
    is_left_alone(disk, node)
    former = boots(disk, types)
    with root_of(disk) as (target, _):
        (target / "etc/kernel/cmdline").write_text(f"root=UUID={former} ro\n")
    backup, second = disk.with_name("backup"), disk.with_name("second")
    same = creation.ENVIRONMENT | {"OSP_BOOTLOADER": "grub"}
    with backup.open("wb") as file:
        saved = creation.start("export", node, same | {"EXPORT_DISK_PATH": str(disk)}, stdout=file)
    assert saved.returncode == 0, saved.stderr
    assert b"format=tar\n" in backup.read_bytes()[:512]
    with second.open("wb") as file:
        file.truncate(SIZE)
    with backup.open("rb") as file:
        chosen = same | {"IMPORT_DISK_PATH": str(second)}
        again = creation.start("import", node, chosen, stdin=file, stdout=subprocess.PIPE)
    assert (again.returncode, again.stdout) == (0, b""), again.stderr
    assert f"/etc/kernel/cmdline: root=: UUID={former} -> UUID=".encode() in again.stderr
    is_left_alone(second, node)
    assert boots(second, types) != former


def boots(disk: Path, types: list[str | None]) -> str:
    """Check all that the firmware and GRUB find on the disk; return the UUID of the root filesystem."""
    assert boots_by_a_bios(disk)
    with root_of(disk) as (target, parts):
        assert [part.get("TYPE") for part in parts] == types
        has_grub(target, parts[-1]["UUID"])
        entries = (target / "etc/fstab").read_text().splitlines()
        fats = [f"UUID={part['UUID']} /boot/efi" for part in parts if part.get("TYPE") == "vfat"]
        assert [entry.partition(" vfat")[0] for entry in entries if " vfat " in entry] == fats
        if fats:
            program = (target / "boot/grub/x86_64-efi/core.efi").read_bytes()
            argv = ["mtype", "-i", f"{disk}@@2M", "::EFI/BOOT/BOOTX64.EFI"]
            assert subprocess.run(argv, check=True, capture_output=True).stdout == program
        return parts[-1]["UUID"]


def test_an_instance_from_a_disk_has_what_its_table_has_room_for(node: Path, disk: Path) -> None:
    done = create(node, disk, OSP_IMAGE="gpt.raw")
    assert done.returncode == 0, done.stdout + done.stderr
    assert boots_by_a_bios(disk)
    with root_of(disk) as (target, parts):
        has_grub(target, parts[-1]["UUID"])
    done = create(node, disk, OSP_IMAGE="none.raw")
    assert done.returncode == 1
    assert "no partition table: no BIOS boots it" in done.stderr
    assert probed(disk, 0, SIZE) == {}


def test_an_image_without_grub_fails_the_creation(node: Path, disk: Path, tmp_path: Path) -> None:
    with merged(ImageSpec(debs=(newest_deb(),))) as tree:
        subprocess.run(["chroot", tree, "systemctl", "-q", "enable", "systemd-networkd.service"], check=True)
        (node / "images").unlink()
        (node / "images").mkdir()
        subprocess.run(["tar", "-C", tree, "-cf", node / "images/tree.tar", "."], check=True)
    done = create(node, disk, OSP_IMAGE="tree.tar")
    assert done.returncode == 1
    assert "the image has no GRUB for this disk: grub-pc-bin and grub-efi-amd64-bin" in done.stderr
    is_left_alone(disk, node)
    assert probed(disk, 0, SIZE) == {}


def test_a_hostile_tree_leads_nowhere_else(node: Path, disk: Path, images: Path, tmp_path: Path) -> None:
    """GRUB's folders are links out of the tree, to a file of the node."""
    outside = tmp_path / "outside"
    outside.mkdir()
    hostile = tmp_path / "hostile.tar"
    subprocess.run(["cp", "--reflink=auto", images / "tree.tar", hostile], check=True)
    with tarfile.open(hostile, "a") as tar:
        for name in ("./boot/grub", "./etc/default/grub.d"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"../../../../../../../..{outside}"
            tar.addfile(link)
    (node / "images").unlink()
    (node / "images").mkdir()
    os.rename(hostile, node / "images/hostile.tar")
    create(node, disk, OSP_IMAGE="hostile.tar")
    assert list(outside.iterdir()) == []
    is_left_alone(disk, node)


def test_the_hook_installs_it_with_an_msdos_table(node: Path, images: Path, tmp_path: Path) -> None:
    disk = tmp_path / "root.img"
    subprocess.run(["cp", "--sparse=always", images / "msdos.raw", disk], check=True)
    refused = creation.hook(tmp_path, node, "none", OSP_BOOTLOADER="grub", TARGET="/")
    assert "OSP_BOOTLOADER: no BIOS boots a disk without a partition table: set PARTITION" in refused.stderr
    uuid = probed(disk, MIB, disk.stat().st_size - MIB)["UUID"]
    with loop_device(disk) as whole, opened(disk, Table.MSDOS) as target:
        argv = ["findmnt", "-n", "-o", "SOURCE", str(target)]
        root = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
        devices = {"BLOCKDEV": whole, "FSYSDEV": root}
        done = creation.hook(target, node, "msdos", OSP_BOOTLOADER="grub", **devices)
        assert done.returncode == 0, done.stdout + done.stderr
        has_grub(target, uuid)
        other = tmp_path / "other"
        subprocess.run(["cp", "--sparse=always", images / "none.raw", other], check=True)
        with loop_device(other) as wrong:
            done = creation.hook(
                target, node, "msdos", OSP_BOOTLOADER="grub", **devices | {"BLOCKDEV": wrong}
            )
        assert done.returncode == 1
        assert "BLOCKDEV: not the disk of FSYSDEV: nothing was written to it" in done.stderr
    assert boots_by_a_bios(disk)


def test_apply_installs_it_on_the_disk_of_a_mounted_image(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk, document, target = tmp_path / "disk.img", tmp_path / "gandi.json", tmp_path / "target"
    subprocess.run(["cp", "--sparse=always", images / "msdos.raw", disk], check=True)
    document.write_text(json.dumps(NATIVE))
    apply = ["apply", "--root", str(target), "--source", str(document), "--bootloader", "grub"]
    uuid = probed(disk, MIB, disk.stat().st_size - MIB)["UUID"]
    with opened(disk, Table.MSDOS):
        assert main(apply) == 0, capsys.readouterr()
        assert "boot loader: changed" in capsys.readouterr().out
        has_grub(target, uuid, "ttyS1")
        # The same again.
        assert main(apply) == 0
    assert boots_by_a_bios(disk)
    assert main([*apply[:2], str(images), *apply[3:]]) == 1
    assert "no system is mounted there" in capsys.readouterr().err


def test_a_lost_root_is_mended(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A disk with GRUB comes from another bus and gets a new UUID, then all that leads to it is mended."""
    disk, target = tmp_path / "disk.img", tmp_path / "target"
    subprocess.run(["cp", "--sparse=always", images / "msdos.raw", disk], check=True)
    repair = ["apply", "--root", str(target), "--repair"]
    size = disk.stat().st_size - MIB
    old = probed(disk, MIB, size)["UUID"]
    with opened(disk, Table.MSDOS):
        assert main([*repair, "--bootloader", "grub"]) == 0, capsys.readouterr()
        assert "repair: unchanged" in capsys.readouterr().out
        (target / "etc/fstab").write_text("/dev/sda1 / ext4 noatime 0 1\nLABEL=data /srv ext4 nofail 0 2\n")
        (target / "etc/default/grub").write_text('GRUB_CMDLINE_LINUX="root=/dev/sda1 quiet"\n')
        (target / "etc/default/grub").chmod(0o600)
        (target / "etc/initramfs-tools/conf.d/resume").write_text(f"RESUME=UUID={old}\n")
    with loop_device(disk, Extent(MIB, size)) as part:
        subprocess.run(["e2fsck", "-f", "-y", part], check=False, capture_output=True)
        subprocess.run(["tune2fs", "-U", "random", part], check=True, capture_output=True)
    new = probed(disk, MIB, size)["UUID"]
    assert new != old
    with opened(disk, Table.MSDOS):
        assert main(repair) == 1
        said = capsys.readouterr().out
        for line in (
            f"/etc/fstab: / /dev/sda1 -> UUID={new}",
            "kept: /etc/fstab: /srv: LABEL=data leads to no part of this disk",
            f"/etc/default/grub: root= /dev/sda1 -> UUID={new}",
            f"/etc/initramfs-tools/conf.d/resume: RESUME= UUID={old} -> none",
            "initrd made again",
            f"/boot/grub/grub.cfg root=UUID={new}",
            "failed: i386-pc: GRUB on the disk looks for the root filesystem by another UUID",
            "--bootloader grub",
        ):
            assert line in said, said
        assert (target / "etc/default/grub").stat().st_mode & 0o777 == 0o600
        assert old not in (target / "boot/grub/grub.cfg").read_text()
        assert main([*repair, "--bootloader", "grub"]) == 0, capsys.readouterr()
        assert main(repair) == 0
        assert old not in (target / "boot/grub/i386-pc/load.cfg").read_text()
    assert main(["apply", "--root", str(target)]) == 1
    assert "--source is missing" in capsys.readouterr().err


@pytest.mark.soak
def test_an_instance_from_a_release(node: Path, disk: Path) -> None:
    """By mmdebstrap, from Debian's servers."""
    done = create(node, disk, OSP_SUITE="trixie")
    assert done.returncode == 0, done.stdout + done.stderr
    is_left_alone(disk, node)
    assert boots_by_a_bios(disk)
    with root_of(disk) as (target, parts):
        has_grub(target, parts[-1]["UUID"])
