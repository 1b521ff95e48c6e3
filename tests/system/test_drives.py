"""Configuration drives on real block devices: which are found by their labels, and what is read of a hostile
one.

The build host's kernel may know neither ISO 9660 nor FAT: labels are read from real images of both (libblkid
needs no kernel for that), and what is on a drive from ext4, which has everything that Rock Ridge can hold.
The whole of it, on ISO 9660 and FAT, is in tests/vm/test_platforms.py.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent import detached, parser, storage
from agent.errors import ConfigError, HostError
from agent.host import Host
from agent.model import Identity, InstanceConfig
from agent.mounts import mounts
from agent.report import Outcome
from agent.sources import Asked, Findings, drives, files, superblock
from agent.sources.files import Tree
from agent.sources.superblock import Labelled
from tests import drives as media
from tests.system.disks import MIB, LoopDisk, sh

MakeDisk = Callable[[int], LoopDisk]
ALL = ("cloudstack", "openstack", "nocloud", "native")


@pytest.fixture
def attach(tmp_path: Path) -> Iterator[Callable[[Path], LoopDisk]]:
    """Puts an image on a loop device."""
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
    """Makes images of a folder whose filesystem this kernel has; such a device is taken for a drive."""

    def probed(host: Host, name: str, labels: object) -> Labelled | None:
        found = storage.probe(host, f"/dev/{name}")
        label = found.get("ID_FS_LABEL", "").lower()
        return Labelled(name, storage.number_of(host, name), found["ID_FS_TYPE"], label) if label else None

    monkeypatch.setattr(drives, "labelled", probed)

    def make(folder: Path, label: str, size: int = 64 * MIB) -> Path:
        image = tmp_path / f"drive{len(list(tmp_path.iterdir()))}.img"
        with image.open("wb") as file:
            file.truncate(size)
        sh("mke2fs", "-q", "-t", "ext4", "-L", label, "-d", str(folder), str(image))
        return image

    return make


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A reader that takes a drive's id from its one file; the dialects that it was started for."""
    started: list[str] = []

    def parse_files(dialect: str, files: dict[str, bytes], *, known: str = "") -> parser.Parsed:
        started.append(dialect)
        named = next(
            (c for n, c in files.items() if "instance" in n or n in ("meta-data", "gandi.json")), b"?"
        )
        config = None if named == b"broken" else InstanceConfig(Identity(dialect, named.decode()))
        return parser.Parsed(
            config=config, files={}, raw=None, problems=(), digest="", same=False, ours=True, whole=True,
            extent=(0, 0), modules=(),
        )  # fmt: skip

    monkeypatch.setattr(parser, "parse_files", parse_files)
    return started


def _look(*disks: LoopDisk, sources: tuple[str, ...] = ALL, known: str = "") -> Findings:
    return drives.look(Asked(Host(), sources, known), lambda _host: [disk.name for disk in disks])


def _folder(path: Path, content: dict[str, bytes]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return media.write_tree(path, content)


# -- labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "make", "fstype", "found"),
    [
        ("config", lambda p, c, n: media.make_iso(p, c, n, media.PLAIN), "iso9660", "config"),
        ("config-2", media.make_iso, "iso9660", "config-2"),
        ("config-2", media.make_vfat, "vfat", "config-2"),
        ("CONFIG-2", media.make_vfat, "vfat", "config-2"),
        ("CIDATA", media.make_iso, "iso9660", "cidata"),
        ("cidata", media.make_vfat, "vfat", "cidata"),
        ("gandi", lambda p, c, n: media.make_iso(p, c, n, media.SHORT), "iso9660", "gandi"),
        ("gandi", lambda p, c, n: media.make_vfat(p, c, n, 600 * MIB), "vfat", "gandi"),
    ],
)
def test_a_drive_is_known_by_its_label(
    attach: Callable[[Path], LoopDisk],
    tmp_path: Path,
    label: str,
    make: Callable[..., Path],
    fstype: str,
    found: str,
) -> None:
    disk = attach(make(tmp_path / "d.img", media.nocloud("i-1"), label))
    device = superblock.labelled(Host(), disk.name, (*drives.LABELS, "config"))
    assert device == Labelled(disk.name, storage.number_of(Host(), disk.name), fstype, found)


def test_a_drive_with_another_label_starts_no_process(
    attach: Callable[[Path], LoopDisk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    iso = attach(media.make_iso(tmp_path / "a.iso", {"a": b"a"}, "Debian 13"))
    fat = attach(media.make_vfat(tmp_path / "b.img", {"a": b"a"}, "EFI"))
    blank = attach(_blank(tmp_path / "c.img"))
    monkeypatch.setattr(storage, "probe", lambda *_: pytest.fail("asked libblkid"))
    for disk in (iso, fat, blank):
        assert superblock.labelled(Host(), disk.name, drives.LABELS) is None


def test_a_users_file_at_the_place_of_a_superblock_makes_no_drive(
    make_disk: MakeDisk, tmp_path: Path
) -> None:
    """A data disk with a filesystem of its own, and an ISO 9660 descriptor in a block of it."""
    iso = media.make_iso(tmp_path / "a.iso", media.nocloud("evil"), "cidata").read_bytes()
    disk = make_disk(320 * MIB)
    sh("mkfs.xfs", "-q", disk.node)
    with open(disk.node, "r+b") as device:
        device.seek(16 * 2048)
        device.write(iso[16 * 2048 : 18 * 2048])
    assert superblock.labelled(Host(), disk.name, drives.LABELS) is None


def _blank(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(4 * MIB)
    return path


def test_a_loop_device_is_no_place_for_a_drive(attach: Callable[[Path], LoopDisk], tmp_path: Path) -> None:
    disk = attach(media.make_iso(tmp_path / "a.iso", media.nocloud("evil"), "cidata"))
    assert disk.name not in drives.places(Host())
    assert not drives.carries(Host(), disk.name, "config")


# -- what is on it --------------------------------------------------------------------------------


def test_the_mount_is_seen_by_nobody(
    attach: Callable[[Path], LoopDisk], tmp_path: Path, on_ext4: Callable[..., Path]
) -> None:
    disk = attach(on_ext4(_folder(tmp_path / "t", {"meta-data": b"i-1"}), "cidata"))
    number = storage.number_of(Host(), disk.name)
    with detached.mounted(disk.node, "ext4", number) as root:
        assert not [mount for mount in mounts(Host()) if number in mount.numbers]
        flags = os.fstatvfs(root).f_flag
        assert flags & os.ST_RDONLY
        assert flags & os.ST_NOSUID
        assert flags & os.ST_NODEV
        assert flags & os.ST_NOEXEC
        for name in ("..", "../..", "/etc/passwd", "meta-data/../.."):
            with pytest.raises(OSError, match=r".*"):
                os.close(detached.opened(root, name))
    sh("losetup", "--detach", disk.node)  # nothing holds it


def test_another_device_than_a_moment_ago(
    attach: Callable[[Path], LoopDisk], tmp_path: Path, on_ext4: Callable[..., Path]
) -> None:
    disk = attach(on_ext4(_folder(tmp_path / "t", {"meta-data": b"i-1"}), "cidata"))
    with pytest.raises(HostError, match="another device"), detached.mounted(disk.node, "ext4", "7:999"):
        pass


def test_a_filesystem_that_the_kernel_does_not_know(
    attach: Callable[[Path], LoopDisk], tmp_path: Path
) -> None:
    disk = attach(_blank(tmp_path / "c.img"))
    with pytest.raises(HostError) as caught, detached.mounted(disk.node, "nosuchfs", "7:0"):
        pass
    assert "module for nosuchfs" in caught.value.hint


def test_only_regular_files_are_read(
    attach: Callable[[Path], LoopDisk], tmp_path: Path, on_ext4: Callable[..., Path]
) -> None:
    tree = _folder(
        tmp_path / "t", {"openstack/latest/meta_data.json": b"{}", "openstack/content/0000": b"x"}
    )
    latest = tree / "openstack/latest"
    (latest / "user_data").symlink_to("/etc/shadow")
    (latest / "vendor_data.json").symlink_to("meta_data.json")
    (tree / "openstack/2018-08-27").symlink_to("latest")
    (tree / "cloudstack").symlink_to("/etc")
    os.mkfifo(latest / "network_data.json")
    os.mknod(latest / "vendor_data2.json", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    os.mknod(latest / "a_null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(latest / "socket"))
    (latest / "set-id").write_bytes(b"#!/bin/sh\n")
    (latest / "set-id").chmod(0o4755)
    (tree / "etc").mkdir()
    (tree / "etc/shadow").write_bytes(b"never asked for")
    found = _tree(attach(on_ext4(tree, "config-2")))
    assert sorted(found.files) == [
        "openstack/content/0000",
        "openstack/latest/meta_data.json",
        "openstack/latest/set-id",
    ]
    assert sorted(found.left) == [
        "cloudstack",
        "openstack/2018-08-27",
        "openstack/latest/a_null",
        "openstack/latest/network_data.json",
        "openstack/latest/socket",
        "openstack/latest/user_data",
        "openstack/latest/vendor_data.json",
        "openstack/latest/vendor_data2.json",
    ]


def test_sizes_are_bounded(
    attach: Callable[[Path], LoopDisk], tmp_path: Path, on_ext4: Callable[..., Path]
) -> None:
    tree = _folder(tmp_path / "t", {f"openstack/latest/{n}": b"x" * (15 << 20) for n in "abcdef"})
    with (tree / "openstack/latest/0-huge").open("wb") as huge:
        huge.truncate(1 << 40)
    found = _tree(attach(on_ext4(tree, "config-2", 200 * MIB)))
    assert sum(map(len, found.files.values())) <= files.ALL
    assert sorted(found.files) == [f"openstack/latest/{n}" for n in "abcd"]
    assert sorted(found.left) == [f"openstack/latest/{n}" for n in ("0-huge", "e", "f")]


@pytest.mark.parametrize("place", ["", "cloudstack/metadata/"])
def test_a_drive_with_thousands_of_names_is_not_read(
    attach: Callable[[Path], LoopDisk],
    tmp_path: Path,
    on_ext4: Callable[..., Path],
    read: list[str],
    place: str,
) -> None:
    tree = _folder(tmp_path / "t", {"cloudstack/metadata/instance-id.txt": b"i-1"})
    for number in range(3000):
        (tree / place / f"name{number}").touch()
    findings = _look(attach(on_ext4(tree, "config")))
    assert findings.found is None
    assert [note.outcome for note in findings.notes] == [Outcome.FAILED]
    assert "2000" in findings.notes[0].detail
    assert read == []


def test_folders_without_end_and_names_of_any_kind(
    attach: Callable[[Path], LoopDisk], tmp_path: Path, on_ext4: Callable[..., Path]
) -> None:
    deep = "openstack/" + "/".join(["d"] * 30)
    tree = _folder(tmp_path / "t", {f"{deep}/file": b"x", "openstack/a": b"x"})
    for name in (b"new\nline", b"\xff\xfe", b"\x1b[2J", "ünicode".encode(), b"x" * 250):
        (tree / "openstack" / os.fsdecode(name)).write_bytes(b"x")
    found = _tree(attach(on_ext4(tree, "config-2")))
    assert sorted(found.files) == ["openstack/a"]


def _tree(disk: LoopDisk) -> Tree:
    tree = Tree()
    with detached.mounted(disk.node, "ext4", storage.number_of(Host(), disk.name)) as root:
        tree.add_folder(root)
    return tree


# -- which one counts -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "content", "dialect"),
    [
        ("config", {"cloudstack/metadata/instance-id.txt": b"i-1"}, "cloudstack"),
        ("CONFIG", {"CLOUDSTA/METADATA/INSTANCE.TXT": b"i-1"}, "cloudstack"),
        (
            "config-2",
            {"cloudstack/instance": b"i-1", "openstack/latest/meta_data.json": b"{}"},
            "cloudstack",
        ),
        ("config-2", {"openstack/latest/meta_data.json": b"{}"}, "openstack"),
        ("CONFIG-2", {"openstack/latest/meta_data.json": b"{}"}, "openstack"),
        ("cidata", {"meta-data": b"i-1", "user-data": b""}, "nocloud"),
        ("CIDATA", {"META_DAT": b"i-1", "USER_DAT": b""}, "nocloud"),
        ("gandi", {"gandi.json": b"{}"}, "native"),
        ("config", {"openstack/latest/meta_data.json": b"{}"}, ""),
        ("config-2", {"meta-data": b"i-1"}, ""),
        ("cidata", {"gandi.json": b"{}"}, ""),
        ("gandi", {"lost.json": b"{}"}, ""),
        ("config-2", {}, ""),
    ],
)
def test_content_decides(
    attach: Callable[[Path], LoopDisk],
    tmp_path: Path,
    on_ext4: Callable[..., Path],
    read: list[str],
    label: str,
    content: dict[str, bytes],
    dialect: str,
) -> None:
    disk = attach(on_ext4(_folder(tmp_path / "t", content), label))
    before = disk.image.read_bytes()
    findings = _look(disk)
    assert read == ([dialect] if dialect else [])
    if dialect:
        assert findings.found is not None
        assert findings.found.medium.source == dialect
        assert findings.notes == ()
    else:
        assert findings.found is None
        assert "no configuration is on it" in str(findings.notes[0])
    sh("sync", disk.node)
    assert disk.image.read_bytes() == before, "a drive is never written to"


def test_a_known_delivery_starts_no_reader(
    attach: Callable[[Path], LoopDisk], tmp_path: Path, on_ext4: Callable[..., Path], read: list[str]
) -> None:
    disk = attach(on_ext4(_folder(tmp_path / "t", {"meta-data": b"i-1"}), "cidata"))
    first = _look(disk).found
    assert first is not None
    assert first.parsed is not None
    again = _look(disk, known=first.parsed.digest).found
    assert again is not None
    assert again.parsed is not None
    assert again.parsed.same
    assert read == ["nocloud"]


def test_two_drives(
    attach: Callable[[Path], LoopDisk], tmp_path: Path, on_ext4: Callable[..., Path], read: list[str]
) -> None:
    def drive(name: str, id: bytes, label: str = "cidata", file: str = "meta-data") -> LoopDisk:
        return attach(on_ext4(_folder(tmp_path / name, {file: id}), label))

    one, twin, other, broken = (
        drive("1", b"i-1"),
        drive("2", b"i-1"),
        drive("3", b"i-2"),
        drive("4", b"broken"),
    )
    ours = drive("5", b"i-1", "gandi", "gandi.json")
    both = _look(one, twin)
    assert both.found is not None
    assert both.found.medium.disk == one.name
    assert str(both.notes[0]) == f"skipped: {twin.node}: describes this machine too; {one.node} counts"
    for different in (other, ours):
        with pytest.raises(ConfigError) as caught:
            _look(one, different)
        assert one.node in caught.value.message
        assert different.node in caught.value.message
        assert "CONFIG_DATASOURCE" in caught.value.hint
    limited = _look(one, ours, sources=("native",)).found
    assert limited is not None
    assert limited.medium.disk == ours.name
    beside = _look(broken, one).found
    assert beside is not None
    assert beside.medium.disk == one.name


def test_one_of_two_is_known(
    attach: Callable[[Path], LoopDisk], tmp_path: Path, on_ext4: Callable[..., Path], read: list[str]
) -> None:
    """What the known one says must be read again, to be compared."""
    one = attach(on_ext4(_folder(tmp_path / "1", {"meta-data": b"i-1"}), "cidata"))
    other = attach(on_ext4(_folder(tmp_path / "2", {"meta-data": b"i-2"}), "cidata"))
    found = _look(one).found
    assert found is not None
    assert found.parsed is not None
    with pytest.raises(ConfigError):
        _look(one, other, known=found.parsed.digest)
