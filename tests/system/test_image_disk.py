"""``apply --image`` on real tables and filesystems: the root grows, swap is added, and nothing is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

from agent.disks.growth import lvm
from tests.contents import digest
from tests.system.disks import MIB, MKFS, sh
from tests.system.imagedisks import (
    DOCUMENT,
    LARGE,
    SMALL,
    TABLES,
    apply,
    blank,
    command,
    disk,
    fill,
    is_attached,
    made,
    opened,
    opened_volume,
    size_of,
    with_volumes,
)
from tests.vm.campaign import dice

#: Kills at a random moment.
ROUNDS = 8


def is_configured(at: Path) -> None:
    assert (at / "etc/hostname").read_text() == "vm1.example.org\n"
    assert (at / "etc/injected").read_text() == "text\n"


@pytest.mark.parametrize("fstype", MKFS)
@pytest.mark.parametrize("kind", TABLES)
def test_the_root_grows_to_its_disk_and_is_configured(tmp_path: Path, kind: str, fstype: str) -> None:
    image, number = made(tmp_path, kind, fstype), TABLES[kind][1]
    said = apply(image)
    assert "grown from" in said
    with opened(image, number) as at:
        is_configured(at)
        assert size_of(at) >= LARGE - 110 * MIB
    if number:
        assert "overlap" not in sh("sfdisk", "--verify", str(image))
    table = sh("sfdisk", "--dump", str(image)) if number else ""
    again = apply(image)
    assert "grown from" not in again
    assert "changed (" not in again
    assert not number or sh("sfdisk", "--dump", str(image)) == table


def test_sizes_stay_if_the_command_or_the_document_says_so(tmp_path: Path) -> None:
    image = made(tmp_path, "gpt", "ext4")
    table = sh("sfdisk", "--dump", str(image))
    assert "--grow=none" in apply(image, "--grow=none")
    user_data = tmp_path / "drive"
    user_data.mkdir()
    (user_data / "meta-data").write_text("instance-id: image-1\nlocal-hostname: vm1.example.org\n")
    (user_data / "user-data").write_text("#cloud-config\ngrowpart: {mode: off}\n")
    said = subprocess.run(command(image, source=str(user_data)), capture_output=True, text=True, check=False)
    assert "the document says so" in said.stdout, said
    assert sh("sfdisk", "--dump", str(image)) == table


def test_a_partition_behind_the_root_keeps_its_place(tmp_path: Path) -> None:
    image = blank(tmp_path / "disk.raw", "label: gpt\nsize=200M, type=linux\ntype=linux\n")
    with disk(image) as found:
        sh(*MKFS["ext4"], f"/dev/{found.part(1)}")
    fill(image, 1)
    os.truncate(image, LARGE)
    assert "not the last partition of its disk" in apply(image)
    with opened(image, 1) as at:
        is_configured(at)


# -- which filesystem ----------------------------------------------------------------


def two_systems(tmp_path: Path) -> Path:
    image = blank(tmp_path / "disk.raw", "label: gpt\nsize=100M, type=linux\ntype=linux\n")
    with disk(image) as found:
        for number in (1, 2):
            sh(*MKFS["ext4"], f"/dev/{found.part(number)}")
    return image


def test_of_several_filesystems_the_one_with_a_system(tmp_path: Path) -> None:
    image = two_systems(tmp_path)
    fill(image, 2)
    apply(image)
    with opened(image, 2) as at:
        is_configured(at)
    with opened(image, 1) as at:
        assert os.listdir(at) == ["lost+found"]


def test_of_several_systems_the_one_that_is_named(tmp_path: Path) -> None:
    image = two_systems(tmp_path)
    fill(image, 1)
    fill(image, 2)
    before = digest(image)
    said = apply(image, status=1)
    assert "2 filesystems have a system: 1, 2" in said
    assert "--partition=1" in said
    said = apply(image, "--partition=7", status=1)
    assert (
        "partition 7: no filesystem of Linux there (found: partition 1 (ext4), partition 2 (ext4))" in said
    )
    assert digest(image) == before
    apply(image, "--partition=2")
    with opened(image, 2) as at:
        is_configured(at)
    with opened(image, 1) as at:
        assert not (at / "etc/injected").exists()


def test_a_disk_without_a_system(tmp_path: Path) -> None:
    assert "no system on its filesystems: none" in apply(blank(tmp_path / "disk.raw", ""), status=1)
    image = two_systems(tmp_path)
    assert "no system on its filesystems: partition 1 (ext4), partition 2" in apply(image, status=1)


def test_other_formats_are_named_with_the_remedy(tmp_path: Path) -> None:
    for kind in ("qcow2", "vmdk", "vdi", "vhdx"):
        image = tmp_path / f"disk.{kind}"
        sh("qemu-img", "create", "-q", "-f", kind, str(image), "64M")
        said = apply(image, status=1)
        assert f"in the format {kind}" in said
        assert "qemu-img convert -O raw" in said
    assert "No such file" in apply(tmp_path / "none", status=1)
    assert "neither a file nor a block device" in apply(tmp_path, status=1)


def test_a_filesystem_with_errors_is_left(tmp_path: Path) -> None:
    image = made(tmp_path, "none", "ext4")
    sh("debugfs", "-w", "-R", "sif /root mode 070000", str(image))
    said = apply(image, status=1)
    assert "its ext4 has errors that need a decision: nothing was written to it" in said
    assert "run e2fsck" in said
    assert "hostname" not in said
    with opened(image, 0) as at:
        assert not (at / "etc/injected").exists()


# -- in use --------------------------------------------------------------------------


def refused(image: Path, why: str) -> None:
    done = subprocess.run(
        command(image), input=json.dumps(DOCUMENT).encode(), capture_output=True, check=False, timeout=60
    )
    said = done.stderr.decode()
    assert done.returncode == 1, said
    assert "in use" in said
    assert why in said
    assert "stop the machine that runs from it" in said


def test_a_disk_in_use_is_refused(tmp_path: Path) -> None:
    image = made(tmp_path, "gpt", "ext4")
    before = digest(image)
    with disk(image) as found:
        refused(image, f"attached to /dev/{found.name}")
        other = tmp_path / "link"
        other.symlink_to(image)
        refused(other, f"attached to /dev/{found.name}")
        at = tmp_path / "at"
        at.mkdir()
        sh("mount", "-o", "ro,noload", f"/dev/{found.part(2)}", str(at))
        refused(Path(found.node), "")
        sh("umount", str(at))
    assert digest(image) == before


def test_an_image_that_a_program_has_locked_is_refused(tmp_path: Path) -> None:
    """As QEMU does."""
    image = made(tmp_path, "none", "ext4")
    argv = ["qemu-io", "-f", "raw", str(image)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(b"read 0 512\n")
        holder.stdin.flush()
        while b"ops" not in holder.stdout.readline():
            assert holder.poll() is None
        refused(image, "locked by another program")
        holder.stdin.write(b"quit\n")
        holder.stdin.close()
    apply(image)


def test_a_block_device_is_an_image_too(tmp_path: Path) -> None:
    image = made(tmp_path, "msdos", "ext4")
    with disk(image) as found:
        sh("partx", "--delete", found.node)
        apply(Path(found.node))
    with opened(image, 2) as at:
        is_configured(at)
        assert size_of(at) > LARGE - 110 * MIB


# -- killed --------------------------------------------------------------------------


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_kill_leaves_nothing_attached_or_mounted(tmp_path: Path, by: signal.Signals) -> None:
    """While a program of the image runs, which the test keeps from ending."""
    image = made(tmp_path, "gpt", "ext4")
    with opened(image, 2) as at:
        (at / "usr/bin/true").write_text("#!/bin/sh\nwhile :; do :; done\n")
        (at / "bin").symlink_to("usr/bin")
    process = subprocess.Popen(
        command(image), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(DOCUMENT).encode())
    process.stdin.close()
    while b"filesystem: changed" not in process.stdout.readline():
        assert process.poll() is None
    wait_until(lambda: str(image) in sh("losetup", "--list"))
    process.send_signal(by)
    process.wait(30)
    wait_until(lambda: not is_attached(image))
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    with opened(image, 2) as at:
        (at / "usr/bin/true").write_text("#!/bin/sh\n")
    apply(image)


def test_killed_at_any_moment_the_next_run_completes_it(tmp_path: Path) -> None:
    """Also while bubblewrap prepares a program: then its child would wait without end."""
    chance, whole = dice("image kills"), made(tmp_path, "logical", "ext4")
    for _ in range(ROUNDS):
        image = tmp_path / "killed.raw"
        sh("cp", "--sparse=always", str(whole), str(image))
        process = subprocess.Popen(
            command(image, "--swap=64M:partition"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(DOCUMENT).encode())
        process.stdin.close()
        time.sleep(chance.uniform(0.1, 0.7))
        process.send_signal(chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        process.wait(30)
        wait_until(partial(is_free, image))
        apply(image, "--swap=64M:partition")
        with opened(image, 5) as at:
            is_configured(at)
            assert len(fstab_of(at)) == 1
            assert size_of(at) > LARGE - 210 * MIB


def is_free(image: Path) -> bool:
    return not is_attached(image)


def wait_until(condition: object, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    assert callable(condition)
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# -- LVM -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TABLES)
def test_the_one_volume_of_a_group_grows_with_its_disk(tmp_path: Path, kind: str) -> None:
    image, number = with_volumes(tmp_path, kind, "root=50%FREE"), TABLES[kind][1]
    with opened_volume(image, number, "root") as at:
        before = size_of(at)
    backups = sorted(Path("/etc/lvm").rglob("*"))
    said = apply(image)
    assert "the system on volume vg0/root (ext4)" in said
    assert "volume vg0/root extended by 0.49 GiB" in said
    with opened_volume(image, number, "root") as at:
        is_configured(at)
        # What was free in the group stays free.
        assert before + 450 * MIB < size_of(at) < before + 510 * MIB
    assert sorted(Path("/etc/lvm").rglob("*")) == backups
    assert "changed (" not in apply(image)


def test_of_several_volumes_none_grows(tmp_path: Path) -> None:
    image = with_volumes(tmp_path, "gpt", "root=40", "var=20")
    said = apply(image)
    assert "physical volume of vg0 grown by 0.49 GiB; it has 2 volumes" in said
    with opened_volume(image, 2, "root") as at:
        is_configured(at)
        assert size_of(at) < 160 * MIB
    assert "no filesystem of Linux there" in apply(image, "--partition=vg0/swap", status=1)
    assert "no system on its filesystems: volume vg0/var" in apply(image, "--partition=vg0/var", status=1)
    apply(image, "--partition=vg0/root")


def test_a_volume_in_several_pieces_is_no_candidate(tmp_path: Path) -> None:
    image = with_volumes(tmp_path, "none", "root=20", "var=20")
    with disk(image) as found:
        sh("lvextend", "-q", *lvm.isolated(found.node), "-l+5", "vg0/root")
    said = apply(image, status=1)
    assert "not looked at: volume vg0/root (in several pieces)" in said
    assert "use --root" in said


# -- swap ----------------------------------------------------------------------------


def fstab_of(at: Path) -> list[str]:
    return [line for line in (at / "etc/fstab").read_text().splitlines() if " swap " in line]


@pytest.mark.parametrize("kind", ["msdos", "gpt", "logical"])
def test_a_swap_partition_lies_behind_the_root(tmp_path: Path, kind: str) -> None:
    image, number = made(tmp_path, kind, "ext4"), TABLES[kind][1]
    said = apply(image, "--swap=100M:partition")
    assert "swap: changed" in said
    with disk(image) as found:
        swaps = [
            one for one in sh("blkid", "-p", *parts(found.node), "-o", "full").splitlines() if "swap" in one
        ]
    assert len(swaps) == 1
    uuid = re.search(r' UUID="([^"]+)"', swaps[0])
    assert uuid is not None
    with opened(image, number) as at:
        is_configured(at)
        assert fstab_of(at) == [f"UUID={uuid[1]} none swap sw 0 0"]
        assert LARGE - 230 * MIB < size_of(at) < LARGE - 100 * MIB
    assert "overlap" not in sh("sfdisk", "--verify", str(image))
    table = sh("sfdisk", "--dump", str(image))
    assert "swap: unchanged" in apply(image, "--swap=100M:partition")
    assert "is swap already, of 0.10 GiB (write --swap=none" in apply_refused(image, "64M:partition")
    assert sh("sfdisk", "--dump", str(image)) == table


def test_a_swap_partition_that_a_cut_run_has_left_blank_is_used(tmp_path: Path) -> None:
    image = blank(tmp_path / "disk.raw", "label: gpt\nsize=300M, type=linux\nsize=64M, type=S\n")
    with disk(image) as found:
        sh(*MKFS["ext4"], f"/dev/{found.part(1)}")
    fill(image, 1)
    table = sh("sfdisk", "--dump", str(image))
    assert "swap: changed" in apply(image, "--swap=64M:partition")
    assert sh("sfdisk", "--dump", str(image)) == table
    with opened(image, 1) as at:
        assert len(fstab_of(at)) == 1


def parts(node: str) -> list[str]:
    return [
        str(path)
        for path in Path("/dev").glob(f"{Path(node).name}p*")
        if sh("blockdev", "--getsz", str(path)) != "2"
    ]


def test_a_swap_partition_that_cannot_be_added_is_named(tmp_path: Path) -> None:
    image = made(tmp_path, "none", "ext4")
    assert "--swap: no partition table on it (write --swap=SIZE:file)" in apply_refused(
        image, "64M:partition"
    )
    image.unlink()
    image = made(tmp_path, "gpt", "ext4")
    before = sh("sfdisk", "--dump", str(image))
    assert "do not fit" in apply_refused(image, "10G:partition")
    for wrong in ("64", "0M", "5T", "1G:disk", "1g", "-1M"):
        assert "--swap: not a size" in apply(image, f"--swap={wrong}", status=1)
    assert sh("sfdisk", "--dump", str(image)) == before


def apply_refused(image: Path, swap: str) -> str:
    return apply(image, f"--swap={swap}", status=1).replace("\n  try: ", " (").rstrip("\n") + ")"


@pytest.mark.parametrize("fstype", ["ext4", "xfs"])
def test_a_swap_file_is_made_in_the_root(tmp_path: Path, fstype: str) -> None:
    image = made(tmp_path, "gpt", fstype)
    assert "swap: changed" in apply(image, "--swap=100M")
    with opened(image, 2) as at:
        assert fstab_of(at) == ["/swap.img none swap sw 0 0"]
        info = (at / "swap.img").stat()
        assert (info.st_size, info.st_mode & 0o777, info.st_uid) == (100 * MIB, 0o600, 0)
        assert info.st_blocks * 512 >= 100 * MIB
        assert sh("blkid", "-p", "-o", "value", "-s", "TYPE", str(at / "swap.img")) == "swap"
    assert "swap: unchanged" in apply(image, "--swap=100M:file")
    assert "swap:" not in apply(image, "--swap=none")


def test_a_swap_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    said = apply(made(tmp_path, "gpt", "btrfs"), "--swap=100M", status=1)
    assert "on btrfs" in said
    assert "--swap=SIZE:partition" in said
    (tmp_path / "disk.raw").unlink()
    assert "do not fit" in apply(made(tmp_path, "gpt", "ext4"), "--swap=10G", status=1)


def test_options_that_need_the_disk(tmp_path: Path) -> None:
    argv = command(tmp_path, "--swap=1G")
    argv[argv.index("--image")] = "--root"
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "name it with --image" in done.stderr
    assert SMALL < LARGE
