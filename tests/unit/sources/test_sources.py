"""Which sources are searched, and how long a machine waits for one."""

from __future__ import annotations

import importlib
import os
import time
from pathlib import Path

import pytest

from agent import sources
from agent.block import storage
from agent.context import Medium, context
from agent.host.host import Host
from agent.lib.errors import ConfigError
from agent.reader.dialects import DRIVES
from agent.sources import FoundMedium, SearchRequest, SearchResult, config_drives, swap_archive
from agent.sources.arrivals import Arrivals

AUTO = (*sources.PASSED, *DRIVES)
BESIDE_OPENSTACK = tuple(name for name in AUTO if name != "openstack")


@pytest.mark.parametrize(
    ("setting", "order"),
    [
        (("auto",), (("gandi",), AUTO)),
        (("gandi", "auto"), (("gandi",), AUTO)),
        (("fw_cfg", "auto"), (("fw_cfg",), ("gandi",), ("credential", *DRIVES))),
        (("nocloud", "cloudstack"), (("nocloud",), ("cloudstack",))),
        (("openstack", "auto"), (("openstack",), ("gandi",), BESIDE_OPENSTACK)),
        (("nocloud", "nocloud"), (("nocloud",),)),
        (("none",), ()),
        (("none", "gandi"), ()),
    ],
)
def test_the_setting_orders_and_limits(setting: tuple[str, ...], order: tuple[tuple[str, ...], ...]) -> None:
    assert sources.search_groups(setting) == order


def test_an_unknown_source_is_told() -> None:
    with pytest.raises(ConfigError, match="'ec2' is not a source") as caught:
        sources.search_groups(("ec2",))
    assert "gandi" in caught.value.hint


def test_every_source_can_be_asked() -> None:
    for module in sources.SOURCES.values():
        assert callable(importlib.import_module(module).search)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "sys/class/block").mkdir(parents=True)
    (tmp_path / "run/udev").mkdir(parents=True)
    (tmp_path / "etc/default").mkdir(parents=True)
    (tmp_path / "etc/default/gandi").write_text("CONFIG_SOURCE_TIMEOUT=1\n")
    return tmp_path


def _find(root: Path, *, patient: bool = True) -> tuple[FoundMedium | None, float]:
    began = time.monotonic()
    findings = sources.find(context(Host(root)), "", wait_for_medium=patient)
    return findings.found, time.monotonic() - began


def test_no_wait_where_nothing_can_come(root: Path) -> None:
    found, seconds = _find(root)
    assert found is None
    assert seconds < 0.5


def test_the_wait_is_bounded_while_udev_works(root: Path) -> None:
    (root / "run/udev/queue").touch()
    found, seconds = _find(root)
    assert found is None
    assert 0.9 < seconds < 3


def test_no_wait_on_a_machine_that_has_a_configuration(root: Path) -> None:
    (root / "run/udev/queue").touch()
    assert _find(root, patient=False)[1] < 0.5


@pytest.mark.parametrize(
    ("bus", "attribute", "value", "pending"),
    [
        ("pci", "class", "0x010802\n", True),
        ("pci", "class", "0x020000\n", False),
        ("virtio", "device", "0x0002\n", True),
        ("virtio", "device", "0x0008\n", True),
        ("virtio", "device", "0x0001\n", False),
        ("scsi", "type", "5\n", True),
        ("scsi", "type", "0\n", True),
        ("scsi", "type", "3\n", False),
    ],
)
def test_a_storage_device_without_a_driver_is_still_to_come(
    root: Path, bus: str, attribute: str, value: str, pending: bool
) -> None:
    device = root / f"sys/bus/{bus}/devices/dev0"
    device.mkdir(parents=True)
    (device / attribute).write_text(value)
    assert Arrivals(Host(root)).is_pending() is pending
    os.symlink("/", device / "driver")
    assert not Arrivals(Host(root)).is_pending()


def test_a_medium_that_arrives_late_is_found(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "run/udev/queue").touch()
    looks: list[str] = []
    medium = FoundMedium(Medium("gandi", "vdb", "254:16", "vdb", 0, 0), None)

    def look(asked: SearchRequest) -> SearchResult:
        looks.append(asked.known_digest)
        return SearchResult(medium if len(looks) == 3 else None)

    monkeypatch.setattr(swap_archive, "search", look)
    found, _ = _find(root)
    assert found is medium
    assert len(looks) == 3


def test_a_drive_that_was_found_waits_for_what_may_contradict_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read again when a disk has appeared since, and not for each event."""
    (root / "run/udev/queue").touch()
    disks, looks = [["sda"], ["sda"], ["sda"], ["sda", "sr0"]], list[tuple[str, ...]]()
    monkeypatch.setattr(storage, "names", lambda _host: disks.pop(0) if len(disks) > 1 else disks[0])
    monkeypatch.setattr(swap_archive, "search", lambda _asked: SearchResult())

    def look(asked: SearchRequest) -> SearchResult:
        looks.append(asked.sources)
        if len(looks) > 1:
            raise ConfigError("two machines")
        return SearchResult(FoundMedium(Medium("nocloud", "sda", "8:0"), None))

    monkeypatch.setattr(config_drives, "search", look)
    with pytest.raises(ConfigError):
        _find(root)
    assert looks == [AUTO, AUTO]


def test_a_drive_that_was_found_is_not_read_again_for_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = list[SearchRequest]()
    drive = FoundMedium(Medium("nocloud", "sda", "8:0"), None)

    def look(asked: SearchRequest) -> SearchResult:
        looks.append(asked)
        return SearchResult(drive)

    monkeypatch.setattr(config_drives, "search", look)
    assert _find(root)[0] is drive
    (root / "run/udev/queue").touch()
    found, seconds = _find(root)
    assert found is drive
    assert seconds > 0.9
    assert _find(root, patient=False)[1] < 0.5
    assert len(looks) == 3


@pytest.mark.parametrize(
    ("has", "busy", "probing"),
    [((), True, True), ((), False, False), (("driver",), False, True), (("driver", "block"), True, False)],
)
def test_a_drive_that_the_kernel_has_found_gets_its_driver_first(
    root: Path, has: tuple[str, ...], busy: bool, probing: bool
) -> None:
    device = root / "sys/bus/scsi/devices/0:0:0:0"
    device.mkdir(parents=True)
    (device / "type").write_text("5\n")
    for name in has:
        (device / name).mkdir()
    if busy:
        (root / "run/udev/queue").touch()
    assert Arrivals(Host(str(root))).is_probing() is probing
    began = time.monotonic()
    sources.find(context(Host(str(root))), "", wait_for_medium=False, wait_for_drivers=True)
    assert (time.monotonic() - began > 0.9) is probing, "CONFIG_SOURCE_TIMEOUT"


def test_a_drive_that_came_with_its_driver_is_found(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = [True, False]
    names = [[], ["sr0"], ["sr0"]]
    monkeypatch.setattr(Arrivals, "wait", lambda *_, **__: waits.pop(0))
    monkeypatch.setattr(storage, "names", lambda _host: names.pop(0) if len(names) > 1 else names[0])
    drive = FoundMedium(Medium("nocloud", "sr0", "11:0"), None)
    looks = [SearchResult(), SearchResult(drive)]
    monkeypatch.setattr(swap_archive, "search", lambda _asked: SearchResult())
    monkeypatch.setattr(config_drives, "search", lambda _asked: looks.pop(0))
    found = sources.find(context(Host(str(root))), "", wait_for_medium=False, wait_for_drivers=True)
    assert found.found is drive
