"""The enumeration of devices by udev's files: each kind, and those that are gone or not tagged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.host.host import Host
from agent.udev.monitor import Uevent, Uevents
from tests.unit.sysfs import Sysfs, virtio

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    return Sysfs(tmp_path)


def tag(sysfs: Sysfs, key: str, record: str = "I:77\nE:GANDI_ROLE=disk\n") -> None:
    for folder, text in (("tags/gandi", ""), ("data", record)):
        file = sysfs.root / "run/udev" / folder / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def present(sysfs: Sysfs) -> list[Uevent]:
    return Uevents(Host(sysfs.root)).enumerate()


def test_disks_and_partitions_come_in_the_order_of_their_buses(sysfs: Sysfs) -> None:
    first = virtio(sysfs, "vdb", "254:16", slot="05.0")
    other = sysfs.disk("pci0000:00/0000:00:04.0/virtio0/block/vdc", "254:32", uevent="DEVTYPE=disk")
    sysfs.partition(first, 1, "254:17", 2048)
    for key in ("b254:16", "b254:17", "b254:32"):
        tag(sysfs, key)
    found = present(sysfs)
    assert [event.sysname for event in found] == ["vdc", "vdb", "vdb1"]
    assert found[0] == Uevent(
        "change", "block", "vdc", f"/{other.relative_to(sysfs.root / 'sys')}", "disk", "disk"
    )


def test_other_kinds_are_found_by_the_names_that_udev_gives_them(sysfs: Sysfs) -> None:
    nic = sysfs.root / "sys/devices/pci0000:00/net/eth0"
    nic.mkdir(parents=True)
    (nic / "ifindex").write_text("3\n")
    sysfs.link("class/net/eth0", nic)
    cpu = sysfs.root / "sys/devices/system/cpu/cpu1"
    cpu.mkdir(parents=True)
    sysfs.link("bus/cpu/devices/cpu1", cpu)
    tag(sysfs, "n3", "I:1\nE:GANDI_ROLE=nic\n")
    tag(sysfs, "+cpu:cpu1", "I:1\nE:GANDI_ROLE=cpu\n")
    found = {(event.role, event.subsystem, event.sysname) for event in present(sysfs)}
    assert found == {("nic", "net", "eth0"), ("cpu", "cpu", "cpu1")}


def test_what_has_gone_or_is_not_finished_is_left_out(sysfs: Sysfs) -> None:
    virtio(sysfs)
    tag(sysfs, "b254:16", "E:GANDI_ROLE=disk\n")
    tag(sysfs, "b254:99")
    tag(sysfs, "n9")
    tag(sysfs, "+cpu:cpu9")
    tag(sysfs, "?")
    assert present(sysfs) == []


def test_what_is_ours_no_longer_has_no_role(sysfs: Sysfs) -> None:
    virtio(sysfs)
    tag(sysfs, "b254:16", "I:1\nG:gandi\n")
    assert [event.role for event in present(sysfs)] == [""]


def test_no_udev_is_nothing_there(sysfs: Sysfs) -> None:
    assert present(sysfs) == []


@pytest.mark.parametrize(("text", "number"), [("4711\n", 4711), (None, 0)])
def test_how_far_the_kernel_has_told(sysfs: Sysfs, text: str | None, number: int) -> None:
    (sysfs.root / "sys/kernel").mkdir(parents=True)
    if text:
        (sysfs.root / "sys/kernel/uevent_seqnum").write_text(text)
    assert Uevents(Host(sysfs.root)).last_seqnum() == number
