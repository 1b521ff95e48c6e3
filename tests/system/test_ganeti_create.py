"""The script create of the OS definition for Ganeti, as a node runs it."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests import creation
from tests.system.instances import SIZE, is_left_alone, probed, root_of
from tests.vm.rig import MIB, ImageSpec, Network, Table, newest_deb
from tests.vm.rig.rootdisk import write_disk
from tests.vm.rig.tree import install_debs, merged


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of the operator's: a tree without the agent, a disk of one with it that has booted, and the
    same as qcow2.
    """
    folder = tmp_path_factory.mktemp("images")
    spec = ImageSpec(network=Network.IFUPDOWN, table=Table.GPT, size=1536 * MIB)
    with merged(spec) as tree:
        (tree / "root/secret").write_text("private\n")
        (tree / "root/secret").chmod(0o600)
        (tree / "etc/fstab").write_text("UUID=00000000-0000-4000-8000-000000000000 /srv ext4 defaults 0 2\n")
        subprocess.run(["tar", "-C", tree, "-cf", folder / "tree.tar", "."], check=True)
        install_debs(tree, (newest_deb(),))
        (tree / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        (tree / "var/lib/gandi").mkdir(exist_ok=True)
        (tree / "var/lib/gandi/old").write_text("another machine's\n")
        write_disk(tree, spec, folder / "disk.raw")
    raw, layers = folder / "disk.raw", folder / "disk.qcow2"
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, layers], check=True)
    subprocess.run(["zstd", "-q", "-1", folder / "tree.tar", "-o", folder / "tree.tar.zst"], check=True)
    return folder


@pytest.fixture
def disk(node: Path, images: Path, tmp_path: Path) -> Path:
    """Return the instance's disk, with something of a former one; the node has the images."""
    (node / "images").symlink_to(images)
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(["mkfs.ext4", "-q", "-F", path, "100M"], check=True)
    return path


def create(node: Path, disk: Path, **parameters: str) -> subprocess.CompletedProcess[str]:
    environment = creation.ENVIRONMENT | {"DISK_0_PATH": str(disk)} | parameters
    return creation.script("create", node, **{name: text for name, text in environment.items() if text})


def is_the_instance(target: Path) -> None:
    assert (target / "etc/hostname").read_text() == f"{creation.NAME}\n"
    assert "203.0.113.10\tvm1.example.org vm1" in (target / "etc/hosts").read_text()
    assert (target / "root/.ssh/authorized_keys").read_text() == f"{creation.KEY}\n"
    assert "\nroot:*:" in "\n" + (target / "etc/shadow").read_text()
    assert os.path.islink(target / "etc/systemd/system/getty.target.wants/serial-getty@ttyS0.service")
    assert list((target / "etc/ssh").glob("ssh_host_*")) == []
    assert (target / "etc/machine-id").read_bytes() == b""
    for left in ("usr/sbin/policy-rc.d", "var/cache/gandi-agent.deb", "var/lib/gandi/old"):
        assert not (target / left).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("partition", "swap", "types"),
    [
        ("none", "", []),
        ("", "", ["ext4"]),
        ("msdos", "256", ["swap", "ext4"]),
        ("gpt", "256", [None, "swap", "ext4"]),
    ],
)
def test_an_instance_from_a_tree(
    node: Path, disk: Path, partition: str, swap: str, types: list[str | None]
) -> None:
    done = create(node, disk, OSP_IMAGE="tree.tar", OSP_PARTITION=partition, OSP_SWAP=swap)
    assert done.returncode == 0, done.stdout + done.stderr
    is_left_alone(disk, node)
    with root_of(disk) as (target, parts):
        is_the_instance(target)
        assert (target / "usr/bin/gandi-agent").exists()
        assert ((target / "root/secret").read_text(), (target / "root/secret").stat().st_mode) == (
            "private\n",
            0o100600,
        )
        assert [part.get("TYPE") for part in parts] == types
        root = parts[-1] if parts else probed(disk, 0, SIZE)
        fstab = [f"UUID={root['UUID']} / ext4 errors=remount-ro 0 1"]
        fstab += [f"UUID={part['UUID']} none swap sw 0 0" for part in parts if part.get("TYPE") == "swap"]
        assert (target / "etc/fstab").read_text().splitlines() == fstab
        assert os.statvfs(target).f_blocks * os.statvfs(target).f_frsize > SIZE * 0.75
    subprocess.run(["sfdisk", "--verify", disk], check=bool(parts), capture_output=True)


@pytest.mark.parametrize("image", ["disk.raw", "disk.qcow2"])
def test_an_instance_from_the_disk_of_a_machine(node: Path, disk: Path, image: str) -> None:
    done = create(node, disk, OSP_IMAGE=image, DEBUG_LEVEL="1", INSTANCE_REINSTALL="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a reinstallation: what is on the first disk goes" in done.stderr
    is_left_alone(disk, node)
    with root_of(disk) as (target, _):
        is_the_instance(target)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"OSP_IMAGE": "tree.tar", "NIC_0_MAC": ""}, "NIC_0_MAC: missing"),
        ({"OSP_IMAGE": "tree.tar", "OSP_SSHKEY": ""}, "OSP_SSHKEY: missing"),
        ({"OSP_IMAGE": "tree.tar", "OSP_DNS": "x"}, "OSP_DNS: not an IP address"),
        ({"OSP_IMAGE": "../tree.tar"}, "OSP_IMAGE: not the name of an image"),
        ({"OSP_IMAGE": "another.tar"}, "OSP_IMAGE: not in "),
        ({"OSP_IMAGE": "disk.raw", "OSP_SWAP": "5"}, "OSP_SWAP: OSP_IMAGE decides it"),
        ({"OSP_IMAGE": "tree.tar", "OSP_SUITE": "sid"}, "OSP_SUITE: OSP_IMAGE decides it"),
        ({"OSP_PARTITION": "none", "OSP_SWAP": "5"}, "OSP_SWAP: OSP_PARTITION=none leaves no room"),
    ],
)
def test_a_creation_with_a_wrong_variable_leaves_the_disk(
    node: Path, disk: Path, changed: dict[str, str], said: str
) -> None:
    done = create(node, disk, **changed)
    assert done.returncode == 1
    assert said in done.stderr
    is_left_alone(disk, node)
    assert probed(disk, 0, SIZE)["TYPE"] == "ext4", "untouched"


def test_a_disk_that_is_too_small_is_named_and_an_image_of_several_files_refused(
    node: Path, disk: Path, images: Path
) -> None:
    os.truncate(disk, 1 << 30)
    done = create(node, disk, OSP_IMAGE="disk.qcow2")
    assert "DISK_0_SIZE: the disk has 1024 MiB, and 1536 MiB are needed: make it larger" in done.stderr
    layered = images / "layered.qcow2"
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/shadow", str(layered)]
    subprocess.run(argv, check=True)
    done = create(node, disk, OSP_IMAGE="layered.qcow2")
    assert done.returncode == 1
    assert "OSP_IMAGE: needs another file" in done.stderr
    assert probed(disk, 0, 1 << 30)["TYPE"] == "ext4", "untouched"


def test_a_creation_that_fails_leaves_nothing_that_looks_like_an_instance(
    node: Path, disk: Path, images: Path
) -> None:
    with tarfile.open(images / "strange.tar", "w") as tar:
        member = tarfile.TarInfo("etc/passwd")
        tar.addfile(member)
    for parameters in (
        {"OSP_IMAGE": "strange.tar"},
        {"OSP_IMAGE": "tree.tar", "OSP_TIMEZONE": "Europe/Atlantis"},
    ):
        done = create(node, disk, **parameters)
        assert done.returncode == 1, done.stdout + done.stderr
        is_left_alone(disk, node)
        assert probed(disk, 0, SIZE) == {}


def test_an_archive_writes_nowhere_else(node: Path, disk: Path, images: Path, tmp_path: Path) -> None:
    """With links and names that lead out of the tree."""
    outside = tmp_path / "outside"
    outside.mkdir()
    with tarfile.open(images / "hostile.tar", "w") as tar:
        for name, target in (
            ("way", str(outside)),
            ("up", "../../../../../../../.."),
            ("etc", str(outside)),
        ):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
        for name in (
            "way/a",
            f"up{outside}/b",
            f"../../../../../..{outside}/c",
            f"{outside}/d",
            "etc/fstab",
        ):
            tar.addfile(tarfile.TarInfo(name))
    done = create(node, disk, OSP_IMAGE="hostile.tar")
    assert done.returncode == 1
    assert list(outside.iterdir()) == []
    is_left_alone(disk, node)


@pytest.mark.soak
def test_an_instance_from_a_release(node: Path, disk: Path) -> None:
    """By mmdebstrap, from Debian's servers."""
    done = create(node, disk, OSP_SUITE="trixie", OSP_PARTITION="gpt")
    assert done.returncode == 0, done.stdout + done.stderr
    is_left_alone(disk, node)
    with root_of(disk) as (target, _):
        is_the_instance(target)
        assert (target / "etc/debian_version").read_text().startswith("13")
        resolvers = (target / "etc/resolv.conf").read_text().splitlines()
        assert [line for line in resolvers if line.startswith("nameserver")] == ["nameserver 203.0.113.3"]
        assert (target / "usr/sbin/sshd").exists()
