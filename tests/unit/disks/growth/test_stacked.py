"""Growing LVM with simulated programs: after a power failure at each step growing continues, and free space
stays free. Real LVM and LUKS are in tests/vm/test_disk_volumes.py.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import pytest

from agent.block.storage import SECTOR
from agent.config.settings import SettingsFile
from agent.context import Context
from agent.disks.base.system import System
from agent.disks.growth import stacked
from agent.host.host import Completed, Host
from agent.lib.errors import HostError
from agent.lib.records import replace
from agent.report import Outcome, StatusFile
from agent.state.store import State
from tests.unit.disks.facts import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agent.report import Item

EXTENT = 4 << 20
#: In extents. The group had five free ones before the disk grew.
BEFORE, VOLUME, AFTER = 45, 40, 95


class Cut(BaseException):
    """The power fails."""


class Machine(Host):
    """A disk that is a physical volume, with one volume that is mounted at /mnt/data."""

    __slots__ = ("cut", "extents", "more", "volume")

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.extents, self.volume, self.cut, self.more = BEFORE, VOLUME, -1, 0
        self.write("/proc/self/mountinfo", "40 1 253:0 / /mnt/data rw - ext4 /dev/mapper/v-data rw\n")
        self.write("/sys/devices/virtual/block/dm-0/dev", "253:0\n")
        self.symlink("/sys/class/block/dm-0", "/sys/devices/virtual/block/dm-0")
        self.symlink("/sys/dev/block/253:0", "/sys/devices/virtual/block/dm-0")
        self._volume_has(VOLUME)
        self.filesystem(VOLUME)

    def _volume_has(self, extents: int) -> None:
        self.volume = extents
        self.write("/sys/devices/virtual/block/dm-0/size", str(extents * EXTENT // SECTOR))

    def filesystem(self, extents: int) -> None:
        """Write an ext superblock of a filesystem of this many extents."""
        block = bytearray(2048)
        struct.pack_into("<I", block, 1024 + 4, extents * EXTENT // 1024)
        struct.pack_into("<H", block, 1024 + 0x38, 0xEF53)
        self.write("/dev/dm-0", bytes(block))

    def run(self, argv: Sequence[str], **_how: object) -> Completed:
        match argv[0]:
            case "blkid":
                said = "ID_FS_TYPE=ext4\n"
            case "pvs":
                free = str(self.extents - self.volume - self.more)
                sizes = {"dev_size": str(AFTER * EXTENT + (1 << 20)), "pe_start": str(1 << 20)}
                group = {"vg_name": "v", "vg_extent_size": str(EXTENT), "vg_free_count": free}
                line = {"pv_uuid": "u", "pv_pe_count": str(self.extents), **sizes, **group}
                said = json.dumps({"report": [{"pv": [line]}]})
            case "lvs":
                said = json.dumps({"report": [{"lv": self._volumes()}]})
            case _:
                pytest.fail(f"ran {argv}")
        return Completed(tuple(argv), 0, said, "")

    def _volumes(self) -> list[dict[str, str]]:
        numbers = {"lv_kernel_major": "253", "lv_kernel_minor": "0", "lv_layout": "linear"}
        one = {"lv_name": "data", "lv_uuid": "1", "lv_size": str(self.volume * EXTENT), **numbers}
        return [one] + [one | {"lv_name": "more", "lv_uuid": "2"}] * bool(self.more)

    def write_metadata(self, _host: Host, _unit: str, _disk: str, argv: Sequence[str], _: str = "") -> None:
        """Do what the transient unit would do; the power may fail before."""
        if self.cut == 0:
            raise Cut
        self.cut -= 1
        match argv[0]:
            case "pvresize":
                self.extents = AFTER
            case "lvextend":
                self._volume_has(int(argv[2].partition("=")[2]))
            case "resize2fs":
                self.filesystem(self.volume)


def look(machine: Machine, size: int, write: Callable[..., None] | None = None) -> list[Item]:
    ctx = Context(machine, SettingsFile(machine), State(machine), StatusFile(machine))
    disk = whole(ID_FS_TYPE="LVM2_member", ID_FS_USAGE="raid", ID_FS_UUID="pv-1")
    device = replace(disk.device, size=size, holders=("dm-0",))
    system = System(write=write or machine.write_metadata)
    return list(stacked.grow(ctx, system, replace(disk, device=device), device))


def test_the_disk_is_known_first_and_grown_later(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert look(machine, 180 << 20) == [], "what size it had before nobody knows: nothing is eaten"
    (item,) = look(machine, 380 << 20)
    assert item.outcome is Outcome.CHANGED
    assert item.detail == "/mnt/data grown from 0.16 GiB to 0.35 GiB"
    assert (machine.extents, machine.volume) == (AFTER, VOLUME + AFTER - BEFORE)
    assert look(machine, 380 << 20) == []


@pytest.mark.parametrize("links", range(3))
def test_a_cut_at_each_link_loses_nothing_and_eats_nothing(tmp_path: Path, links: int) -> None:
    """After an interruption the next run grows the volume, and by no more than the disk has gained."""
    machine = Machine(tmp_path)
    look(machine, 180 << 20)
    machine.cut = links
    with pytest.raises(Cut):
        look(machine, 380 << 20)
    machine.cut = -1
    assert [item.outcome for item in look(machine, 380 << 20)] == [Outcome.CHANGED]
    assert machine.extents - machine.volume == BEFORE - VOLUME
    assert look(machine, 380 << 20) == []


def test_two_volumes_leave_it_to_the_administrator(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.more = 2
    look(machine, 180 << 20)
    (item,) = look(machine, 380 << 20)
    assert "it has 2 volumes" in item.detail
    assert (machine.extents, machine.volume) == (AFTER, VOLUME)


def test_a_filesystem_that_was_left_smaller_than_its_volume_stays_so(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.filesystem(VOLUME - 10)
    look(machine, 180 << 20)
    (item,) = look(machine, 380 << 20)
    assert item.detail.endswith("its filesystem is smaller than its volume: both stay")
    assert (machine.extents, machine.volume) == (AFTER, VOLUME)


def test_a_volume_that_is_not_mounted_is_looked_at_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    look(machine, 180 << 20)
    mounted = machine.read("/proc/self/mountinfo") or ""
    machine.write("/proc/self/mountinfo", "")
    (item,) = look(machine, 380 << 20)
    assert item.detail == "not grown: v/data is not mounted with a filesystem that grows"
    assert machine.extents == BEFORE
    machine.write("/proc/self/mountinfo", mounted)
    assert [item.outcome for item in look(machine, 380 << 20)] == [Outcome.CHANGED]


def test_a_tool_that_does_nothing_is_a_failure_once(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    look(machine, 180 << 20)
    asked = list[str]()

    def deaf(_host: Host, unit: str, _disk: str, argv: Sequence[str], _: str = "") -> None:
        asked.append(f"{unit} {argv[0]}")

    with pytest.raises(HostError, match="after pvresize"):
        look(machine, 380 << 20, deaf)
    (item,) = look(machine, 380 << 20, deaf)
    assert item.outcome is Outcome.FAILED
    assert asked == ["gandi-grow-vdb pvresize"]
