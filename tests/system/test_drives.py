"""Which devices are accepted as configuration drives, and which of several is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.block import storage
from agent.config.model import Identity, InstanceConfig
from agent.host.host import Host
from agent.lib.errors import ConfigError
from agent.reader import client
from agent.report import Outcome
from agent.sources import SearchRequest, SearchResult, config_drives, superblock
from agent.sources.superblock import LabelledDevice
from tests import drives as media
from tests.system.disks import MIB, LoopDisk, sh
from tests.system.drivedisks import Attach, OnExt4, blank, make_folder

MakeDisk = Callable[[int], LoopDisk]
ALL = ("cloudstack", "openstack", "nocloud", "native")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the reader by one that takes a drive's id from its only file; give the dialects it was run
    for.
    """
    started: list[str] = []

    def parse_files(dialect: str, files: dict[str, bytes], *, known: str = "") -> client.Parsed:
        started.append(dialect)
        named = next(
            (c for n, c in files.items() if "instance" in n or n in ("meta-data", "gandi.json")), b"?"
        )
        config = None if named == b"broken" else InstanceConfig(Identity(dialect, named.decode()))
        return client.Parsed(
            config=config, files={}, raw=None, problems=(), digest="", is_unchanged=False,
            is_recognised=True, is_complete=True, extent=(0, 0), modules=(),
        )  # fmt: skip

    monkeypatch.setattr(client, "parse_files", parse_files)
    return started


def _look(*disks: LoopDisk, sources: tuple[str, ...] = ALL, known: str = "") -> SearchResult:
    return config_drives.search(
        SearchRequest(Host(), sources, known), lambda _host: [disk.name for disk in disks]
    )


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
    attach: Attach,
    tmp_path: Path,
    label: str,
    make: Callable[..., Path],
    fstype: str,
    found: str,
) -> None:
    disk = attach(make(tmp_path / "d.img", media.nocloud("i-1"), label))
    device = superblock.labelled(Host(), disk.name, (*config_drives.LABELS, "config"))
    assert device == LabelledDevice(disk.name, storage.devno_of(Host(), disk.name), fstype, found)


def test_a_drive_with_another_label_starts_no_process(
    attach: Attach, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    iso = attach(media.make_iso(tmp_path / "a.iso", {"a": b"a"}, "Debian 13"))
    fat = attach(media.make_vfat(tmp_path / "b.img", {"a": b"a"}, "EFI"))
    empty = attach(blank(tmp_path / "c.img"))
    monkeypatch.setattr(storage, "probe", lambda *_: pytest.fail("asked libblkid"))
    for disk in (iso, fat, empty):
        assert superblock.labelled(Host(), disk.name, config_drives.LABELS) is None


def test_a_users_file_at_the_place_of_a_superblock_makes_no_drive(
    make_disk: MakeDisk, tmp_path: Path
) -> None:
    """A data disk with its own filesystem, and an ISO 9660 descriptor in one of its blocks."""
    iso = media.make_iso(tmp_path / "a.iso", media.nocloud("evil"), "cidata").read_bytes()
    disk = make_disk(320 * MIB)
    sh("mkfs.xfs", "-q", disk.node)
    with open(disk.node, "r+b") as device:
        device.seek(16 * 2048)
        device.write(iso[16 * 2048 : 18 * 2048])
    assert superblock.labelled(Host(), disk.name, config_drives.LABELS) is None


def test_a_loop_device_is_no_place_for_a_drive(attach: Attach, tmp_path: Path) -> None:
    disk = attach(media.make_iso(tmp_path / "a.iso", media.nocloud("evil"), "cidata"))
    assert disk.name not in config_drives.candidate_devices(Host())
    assert not config_drives.may_have_drive(Host(), disk.name, "config")


# -- which one is used ----------------------------------------------------------------------------


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
    attach: Attach,
    tmp_path: Path,
    on_ext4: OnExt4,
    read: list[str],
    label: str,
    content: dict[str, bytes],
    dialect: str,
) -> None:
    disk = attach(on_ext4(make_folder(tmp_path / "t", content), label))
    before = disk.image.read_bytes()
    findings = _look(disk)
    assert read == ([dialect] if dialect else [])
    if dialect:
        assert findings.found is not None
        assert findings.found.medium.source == dialect
        assert findings.notes == ()
    else:
        assert findings.found is None
        assert "contains no configuration" in str(findings.notes[0])
    sh("sync", disk.node)
    assert disk.image.read_bytes() == before, "a drive is never written to"


def test_a_known_delivery_starts_no_reader(
    attach: Attach, tmp_path: Path, on_ext4: OnExt4, read: list[str]
) -> None:
    disk = attach(on_ext4(make_folder(tmp_path / "t", {"meta-data": b"i-1"}), "cidata"))
    first = _look(disk).found
    assert first is not None
    assert first.parsed is not None
    again = _look(disk, known=first.parsed.digest).found
    assert again is not None
    assert again.parsed is not None
    assert again.parsed.is_unchanged
    assert read == ["nocloud"]


def test_two_drives(attach: Attach, tmp_path: Path, on_ext4: OnExt4, read: list[str]) -> None:
    def drive(name: str, id: bytes, label: str = "cidata", file: str = "meta-data") -> LoopDisk:
        return attach(on_ext4(make_folder(tmp_path / name, {file: id}), label))

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
    assert str(both.notes[0]) == f"skipped: {twin.node}: describes this machine too; {one.node} is used"
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


def test_one_of_two_is_known(attach: Attach, tmp_path: Path, on_ext4: OnExt4, read: list[str]) -> None:
    """The known one must be read again, to be compared."""
    one = attach(on_ext4(make_folder(tmp_path / "1", {"meta-data": b"i-1"}), "cidata"))
    other = attach(on_ext4(make_folder(tmp_path / "2", {"meta-data": b"i-2"}), "cidata"))
    found = _look(one).found
    assert found is not None
    assert found.parsed is not None
    with pytest.raises(ConfigError):
        _look(one, other, known=found.parsed.digest)


@pytest.mark.parametrize("place", ["", "cloudstack/metadata/"])
def test_a_drive_with_thousands_of_names_is_not_read(
    attach: Attach,
    tmp_path: Path,
    on_ext4: OnExt4,
    read: list[str],
    place: str,
) -> None:
    tree = make_folder(tmp_path / "t", {"cloudstack/metadata/instance-id.txt": b"i-1"})
    for number in range(3000):
        (tree / place / f"name{number}").touch()
    findings = _look(attach(on_ext4(tree, "config")))
    assert findings.found is None
    assert [note.outcome for note in findings.notes] == [Outcome.FAILED]
    assert "2000" in findings.notes[0].detail
    assert read == []
