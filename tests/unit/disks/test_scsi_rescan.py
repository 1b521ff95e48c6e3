"""Rescans for sizes that the kernel has missed: of all disks of one controller, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.context import Context, context
from agent.disks import scsi_rescan
from agent.host.host import Host
from agent.lib.errors import HostError
from tests.unit.sysfs import Sysfs, scsi_disk, virtio


class Kernel(Host):
    """Simulates rescans: ``answers`` are the sizes in sectors that the next ones find."""

    __slots__ = ("answers", "asked")

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[str] = []
        self.answers: list[str] = []

    def sysfs_write(self, name: str, value: str) -> None:
        address = name.split("/")[-3]
        assert (name, value) == (f"/sys/class/scsi_disk/{address}/device/rescan", "1")
        self.asked.append(address)
        if address.endswith(":9"):
            raise HostError(f"{name}: the kernel refused '1': No such device")
        if self.answers:
            size = next(Path(self.root).glob(f"sys/devices/**/{address}/block/*/size"))
            size.write_text(self.answers.pop(0) + "\n")


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    """Three SCSI disks on one controller, one on another, and a virtio-blk disk."""
    made = Sysfs(tmp_path)
    virtio(made)
    scsi_disk(made, "sda", "0:0:0:0", "8:0")
    scsi_disk(made, "sdb", "0:0:1:0", "8:16")
    scsi_disk(made, "sdc", "0:0:1:9", "8:32")
    scsi_disk(made, "sdd", "10:0:0:0", "8:48")
    return made


@pytest.fixture
def ctx(sysfs: Sysfs) -> Context:
    return context(Kernel(sysfs.root))


def kernel(ctx: Context) -> Kernel:
    assert isinstance(ctx.host, Kernel)
    return ctx.host


@pytest.mark.parametrize(
    ("name", "controller"), [("sda", "0"), ("sdc", "0"), ("sdd", "10"), ("vdb", ""), ("gone", "")]
)
def test_the_controller_of_a_disk(ctx: Context, name: str, controller: str) -> None:
    assert scsi_rescan.controller(ctx.host, name) == controller


def test_all_disks_of_a_controller_are_asked_and_one_that_has_gone_costs_nothing(ctx: Context) -> None:
    scsi_rescan.rescan(ctx.host, "0")
    assert kernel(ctx).asked == ["0:0:0:0", "0:0:1:0", "0:0:1:9"]


def test_a_disk_that_seems_empty_is_asked_until_it_has_a_size(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = list[float]()
    monkeypatch.setattr("time.sleep", pauses.append)
    kernel(ctx).answers = ["0", "0", "2048"]
    assert scsi_rescan.gets_size(ctx, "sda")
    assert kernel(ctx).asked == ["0:0:0:0"] * 3
    assert pauses == [0.0, 0.5, 1.0]


def test_one_that_is_empty_is_left_in_the_end(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = list[float]()
    monkeypatch.setattr("time.sleep", pauses.append)
    kernel(ctx).answers = ["0"] * 9
    assert not scsi_rescan.gets_size(ctx, "sda")
    assert sum(pauses) < 10
    assert not scsi_rescan.gets_size(ctx, "gone")
