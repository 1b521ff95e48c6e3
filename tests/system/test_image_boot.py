"""``apply --image`` with ``--bootloader`` and ``--repair``, also for a disk with a /boot of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agent.__main__ import main
from tests.system import imagedisks
from tests.system.disks import sh
from tests.system.instances import boots_by_a_bios, has_grub, probed, wait_until
from tests.vm.rig import MIB, ImageSpec, newest_deb
from tests.vm.rig.tree import merged

PACKAGES = ("grub-efi-amd64-bin", "grub-pc-bin", "grub2-common")
DOCUMENT = {"version": 1, "id": "1", "hostname": "vm1", "consoles": ["ttyS1"]}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A system with the agent, GRUB and a kernel, as an archive."""
    archive = tmp_path_factory.mktemp("tree") / "tree.tar"
    with merged(ImageSpec(extra=PACKAGES, debs=(newest_deb(),))) as at:
        subprocess.run(["tar", "-C", at, "-cf", archive, "."], check=True)
    return archive


def run(image: Path, *words: str, status: int = 0) -> str:
    """Run the command on the disk's image; check its status, and that nothing is left; return its output."""
    argv = [sys.executable, "-m", "agent", "apply", "--image", str(image), *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == status, done.stdout + done.stderr
    assert not imagedisks.is_attached(image)
    return done.stdout + done.stderr


def disk_image(folder: Path, tree: Path, *, boot: bool = False) -> Path:
    """Make the image of a disk for both firmwares, with /boot on partition 3 if it is its own; the root is
    the last one, which is smaller than the disk.
    """
    image, number = folder / "disk.img", 4 if boot else 3
    table = "label: gpt\nsize=1M, type=21686148-6449-6E6F-744E-656564454649\nsize=64M, type=uefi\n"
    own = "size=256M, type=linux\n" if boot else ""
    imagedisks.blank(image, f"{table}{own}type=linux\n", 1400 * MIB)
    with imagedisks.disk(image) as found:
        sh("mkfs.vfat", "-F", "32", f"/dev/{found.part(2)}")
        for each in range(3, number + 1):
            sh("mkfs.ext4", "-q", f"/dev/{found.part(each)}")
    with imagedisks.opened(image, number) as at:
        sh("tar", "-C", str(at), "-xf", str(tree))
        if boot:
            sh("mv", str(at / "boot"), str(folder))
            (at / "boot").mkdir()
    if boot:
        with imagedisks.opened(image, 3) as at:
            sh("cp", "-a", f"{folder}/boot/.", str(at))
    os.truncate(image, 1800 * MIB)
    return image


def uuids(image: Path) -> list[str]:
    """Return the UUID of the filesystem on each partition, "" for none."""
    parts = json.loads(sh("sfdisk", "--json", str(image)))["partitiontable"]["partitions"]
    return [probed(image, one["start"] * 512, one["size"] * 512).get("UUID", "") for one in parts]


def test_apply_installs_it_on_an_image_that_grows_and_gets_swap(tree: Path, tmp_path: Path) -> None:
    """Then the root gets a new UUID, and all that leads to it is mended."""
    image, document = disk_image(tmp_path, tree), tmp_path / "gandi.json"
    document.write_text(json.dumps(DOCUMENT))
    asked = ("--source", str(document), "--swap=64M:partition", "--bootloader", "grub")
    said = run(image, *asked)
    parts = ["growth: changed", "swap: changed", "hostname: changed", "boot loader: changed"]
    assert sorted(parts, key=said.index) == parts, said
    assert boots_by_a_bios(image)
    _, esp, old, swap = uuids(image)
    with imagedisks.opened(image, 3) as at:
        has_grub(at, old, "ttyS1")
        entries = (at / "etc/fstab").read_text()
        assert f"UUID={swap} none swap sw" in entries
        assert f"UUID={esp} /boot/efi vfat" in entries
        assert imagedisks.size_of(at) > 1500 * MIB
        program = (at / "boot/grub/x86_64-efi/core.efi").read_bytes()
        # This machine's kernel may have no driver for a FAT.
        kept = [entry for entry in entries.splitlines() if not re.search(" (vfat|/) ", entry)]
        kept.append(f"UUID={old} / ext4 defaults 0 1")
        (at / "etc/fstab").write_text("\n".join(kept) + "\n")
        (at / "etc/initramfs-tools/conf.d/resume").write_text("RESUME=/dev/sda4\n")
    argv = ["mtype", "-i", f"{image}@@2M", "::EFI/BOOT/BOOTX64.EFI"]
    assert subprocess.run(argv, check=True, capture_output=True).stdout == program

    with imagedisks.disk(image) as found:
        node = f"/dev/{found.part(3)}"
        subprocess.run(["e2fsck", "-f", "-y", node], check=False, capture_output=True)
        sh("tune2fs", "-U", "random", node)
    new = uuids(image)[2]
    said = run(image, "--repair", status=1)
    for line in (
        f"/etc/fstab: / UUID={old} -> UUID={new}",
        f"/etc/initramfs-tools/conf.d/resume: RESUME= /dev/sda4 -> UUID={swap}",
        "initrd made again",
        f"/boot/grub/grub.cfg root=UUID={new}",
        "failed: i386-pc: GRUB on the disk looks for the root filesystem by another UUID",
    ):
        assert line in said, said
    run(image, "--repair", "--bootloader", "grub")
    with imagedisks.opened(image, 3) as at:
        has_grub(at, new, "ttyS1")
        assert old not in (at / "boot/grub/x86_64-efi/load.cfg").read_text()
    assert "repair: unchanged" in run(image, "--repair", "--bootloader", "grub", "--grow=none")


def test_an_image_with_a_boot_partition_of_its_own_is_mended(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also its ESP, which has a filesystem here that each kernel has."""
    image = disk_image(tmp_path, tree, boot=True)
    lost = "11111111-2222-3333-4444-555555555555"
    with imagedisks.disk(image) as found:
        sh("mkfs.ext2", "-q", "-F", f"/dev/{found.part(2)}")
    with imagedisks.opened(image, 2) as at:
        (at / "EFI/debian").mkdir(parents=True)
        (at / "EFI/debian/grub.cfg").write_text(f"search.fs_uuid {lost} root hd0,gpt3\n")
    _, esp, boot, root = uuids(image)
    with imagedisks.opened(image, 4) as at:
        (at / "etc/fstab").write_text(
            f"UUID={lost} / ext4 defaults 0 1\n/dev/sda3 /boot ext4 defaults 0 2\n/dev/sda2 /boot/efi ext2\n"
        )
        (at / "etc/initramfs-tools/conf.d/resume").write_text(f"RESUME=UUID={lost}\n")
    menu = "search --no-floppy --fs-uuid --set=root {}\nlinux /vmlinuz root=UUID={} ro\n"
    with imagedisks.opened(image, 3) as at:
        (at / "efi").mkdir(exist_ok=True)
        (at / "grub").mkdir(exist_ok=True)
        (at / "grub/grub.cfg").write_text(menu.format(lost, lost))
        (initrd,) = at.glob("initrd.img-*")
        before = initrd.stat().st_mtime_ns
    content = image.read_bytes()
    said = run(image, "--bootloader", "grub", "--grow=none", status=1)
    assert "/boot: a partition of its own" in said
    assert "try: leave --bootloader out" in said
    assert image.read_bytes()[: 64 * MIB] == content[: 64 * MIB], "neither a loader nor a table"
    with imagedisks.opened(image, 4) as at:
        assert main(["apply", "--root", str(at), "--repair"]) == 1
    assert "/boot: partition 3 is not mounted there: nothing was mended" in capsys.readouterr().out
    said = run(image, "--repair")
    assert "mounts: unchanged" in said
    with imagedisks.opened(image, 2) as at:
        assert (at / "EFI/debian/grub.cfg").read_text() == f"search.fs_uuid {boot} root hd0,gpt3\n"
    with imagedisks.opened(image, 3) as at:
        assert (at / "grub/grub.cfg").read_text() == menu.format(boot, root)
        (initrd,) = at.glob("initrd.img-*")
        assert initrd.stat().st_mtime_ns > before
    with imagedisks.opened(image, 4) as at:
        assert [entry.split()[0] for entry in (at / "etc/fstab").read_text().splitlines()] == [
            f"UUID={uuid}" for uuid in (root, boot, esp)
        ]
        assert list((at / "boot").iterdir()) == []
    with imagedisks.opened(image, 3) as at:
        (at / "efi").rmdir()
        (at / "efi").symlink_to("/etc")
    said = run(image, "--repair", status=1)
    assert "failed: /boot/efi: partition 2 (ext2) cannot be mounted at /boot/efi" in said
    assert "repair: unchanged" in said
    with imagedisks.opened(image, 4) as at:
        (at / "boot").rmdir()
        (at / "boot").symlink_to("/etc")
    said = run(image, "--repair", status=1)
    assert "partition 3 (ext4) cannot be mounted at /boot" in said


def test_what_cannot_be_combined_on_an_image(tmp_path: Path) -> None:
    image = imagedisks.with_volumes(tmp_path, "gpt", "root=80")
    content = image.read_bytes()
    for words in (("--repair",), ("--bootloader", "grub")):
        said = run(image, *words, status=1)
        assert "the root is a volume vg0/root of LVM, not a partition" in said
        assert "leave --no-programs out" in run(image, *words, "--no-programs", status=1)
    assert "--source is missing" in run(image, "--swap=1G", status=1)
    document = tmp_path / "bad.json"
    document.write_text('{"version": 1,')
    said = run(image, "--source", str(document), status=1)
    assert f"{document}: error: gandi/config: not JSON" in said
    assert "growth" not in said
    assert image.read_bytes() == content


def test_a_kill_leaves_no_boot_partition_mounted(tmp_path: Path) -> None:
    """While a program of the image runs, which the test keeps from ending."""
    image = imagedisks.blank(tmp_path / "disk.raw", "label: gpt\nsize=60M, type=linux\ntype=linux\n")
    with imagedisks.disk(image) as found:
        for number in (1, 2):
            sh("mkfs.ext4", "-q", f"/dev/{found.part(number)}")
    imagedisks.fill(image, 2)
    with imagedisks.opened(image, 2) as at:
        (at / "etc/fstab").write_text("/dev/sda2 / ext4\n/dev/sda1 /boot ext4\n")
        (at / "boot").mkdir()
        (at / "bin").symlink_to("usr/bin")
        (at / "usr/bin/true").write_text("#!/bin/sh\nwhile :; do :; done\n")
    argv = [sys.executable, "-m", "agent", "apply", "--image", str(image), "--repair"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as command:
        assert command.stdout is not None
        while b"mounts: unchanged" not in command.stdout.readline():
            assert command.poll() is None
        command.kill()
    wait_until(lambda: not imagedisks.is_attached(image))
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    with imagedisks.opened(image, 2) as at:
        (at / "usr/bin/true").write_text("#!/bin/sh\n")
    assert "/etc/fstab: /boot /dev/sda1 -> UUID=" in run(image, "--repair")
