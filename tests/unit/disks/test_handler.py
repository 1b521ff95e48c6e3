"""Handling one disk: the files it writes, the locks it takes, and the records it uses."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from agent import stages
from agent.context import context
from agent.daemon.dispatcher import Devices
from agent.disks import handler as handler
from agent.disks.base import diskseq, record
from agent.disks.base.record import DiskState, Records
from agent.disks.base.system import SYSTEMD
from agent.host import atomic_write, processes
from agent.host.host import Host
from agent.lib.records import replace
from agent.report import Item, Outcome
from agent.udev.monitor import Uevent
from tests.unit.disks.facts import part, parted, whole
from tests.unit.sysfs import Sysfs, virtio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.block.storage import Disk
    from agent.context import Context
    from agent.disks.base.system import System
    from agent.host.descriptor_walk import Place

SIZE = 16 << 20
MOUNTINFO = "/proc/self/mountinfo"


class Cost:
    """Counts locks, and lists the written files in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written, self.locks = list[str](), 0
        write, lock = atomic_write.replace, processes.lock

        def counted(place: Place, *arguments: Any, **how: Any) -> None:
            self.written.append(place.name)
            write(place, *arguments, **how)

        def locked(descriptor: int, seconds: float) -> bool:
            self.locks += 1
            return lock(descriptor, seconds)

        monkeypatch.setattr(atomic_write, "replace", counted)
        monkeypatch.setattr(processes, "lock", locked)


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    sysfs = Sysfs(tmp_path)
    virtio(sysfs)
    ctx = context(Host(tmp_path))
    ctx.host.write(MOUNTINFO, "27 1 254:1 / / rw - ext4 /dev/vda1 rw\n")
    ctx.host.write(diskseq.FILE, "4\n")
    (tmp_path / "dev").mkdir()
    with (tmp_path / "dev/vdb").open("wb") as image:
        image.truncate(SIZE)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", tmp_path / "dev/vdb"], check=True)
    return ctx


def on(ctx: Context, disk: Disk) -> System:
    """Return a system with this disk, in which a mount only adds a line to the mount table."""

    def mount(host: Host, node: str, at: str, fstype: str, _options: str) -> None:
        number = next(device.devno for device in disk.devices if device.node == node)
        text = host.read(MOUNTINFO)
        host.write(MOUNTINFO, f"{text}40 1 {number} / {at} rw - {fstype} {node} rw\n")

    return replace(SYSTEMD, read=lambda _host, name: disk if name == disk.name else None, mount=mount)


def look(ctx: Context, disk: Disk) -> list[Outcome]:
    return [item.outcome for item in handler.handle(ctx, "vdb", "add", system=on(ctx, disk))]


def test_a_new_disk_is_mounted_in_three_writes_under_two_locks_and_reported_in_one_of_each(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record "mounting", the permanent state and the record "mounted", under the locks on the disk and
    on decisions; then the outcome of the event, under the lock on status.json.
    """
    disk = replace(whole(), device=replace(whole().device, size=SIZE))
    ctx.host.write(stages.MOUNTING, "")
    cost, mounted = Cost(monkeypatch), list[tuple[list[str], int]]()

    def handle(ctx: Context, name: str, action: str) -> Iterator[Item]:
        yield from handler.handle(ctx, name, action, system=on(ctx, disk))
        cost.written.remove("mountinfo")
        mounted.append((list(cost.written), cost.locks))

    devices = Devices(ctx, handlers={"disk": handle})
    devices.queue([Uevent("add", "block", "vdb", "/devices/vdb", "disk", "disk")])
    assert devices.workers.settle(60)
    assert mounted == [(["vdb.json", "disks.json", "vdb.json"], 2)]
    assert (cost.written[3:], cost.locks) == (["status.json"], 3)
    assert ctx.status.read()["devices"]["vdb"]["outcome"] == Outcome.CHANGED
    assert ctx.state.disks()["aaaa-1"]["size"] == SIZE
    assert Records(ctx.host).all()["vdb"].state == DiskState.MOUNTED


def test_another_mount_of_it_writes_two_and_another_look_none(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = replace(whole(), device=replace(whole().device, size=SIZE))
    look(ctx, disk)
    ctx.host.write(MOUNTINFO, "27 1 254:1 / / rw - ext4 /dev/vda1 rw\n")
    Records(ctx.host).put("vdb", None)
    cost = Cost(monkeypatch)
    assert look(ctx, disk) == [Outcome.CHANGED]
    cost.written.remove("mountinfo")
    assert (cost.written, cost.locks) == (["vdb.json"] * 2, 2)
    assert look(ctx, disk) == []
    assert (len(cost.written), cost.locks) == (2, 4)


def test_an_event_of_a_mounted_disk_reads_nothing_of_other_disks(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """udevd reports a new disk twice, and there may be hundreds: the second report must not cost as many."""
    disk, records, read = replace(whole(), device=replace(whole().device, size=SIZE)), Records(ctx.host), []
    for number in range(20):
        records.put(f"vdc{number}", replace(record.fresh(whole(), disk.device), disk=f"vdc{number}"))
    look(ctx, disk)

    def counted(host: Host, name: str, **how: Any) -> bytes | None:
        read.append(name)
        return original(host, name, **how)

    original = Host.read_bytes
    monkeypatch.setattr(Host, "read_bytes", counted)
    assert list(handler.handle(ctx, "vdb", "change", system=on(ctx, disk))) == []
    assert not [name for name in read if "vdc" in name]
    assert MOUNTINFO in read
    look(ctx, disk)
    assert len([name for name in read if "vdc" in name]) == 20


def test_a_disk_that_is_left_alone_is_looked_at_once(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new disk gets a record, so it is not new at the next event."""
    disk, cost = whole(ID_FS_TYPE="", ID_FS_USAGE=""), Cost(monkeypatch)
    for _ in range(2):
        assert look(ctx, disk) == [Outcome.SKIPPED]
    assert cost.written == ["vdb.json"]
    assert not Records(ctx.host).is_new(disk)


def test_a_mount_that_fails_leaves_nothing_but_that_it_was_looked_at(ctx: Context) -> None:
    def mount(*_what: object) -> None:
        """Succeed without a mount."""

    disk = parted(part(1, ID_FS_TYPE="vfat"))
    ctx.host.write("/dev/vdb1", b"")
    system = replace(on(ctx, disk), mount=mount)
    items = list(handler.handle(ctx, "vdb", "add", system=system))
    assert [item.outcome for item in items if item.name == "vdb1"] == [Outcome.FAILED]
    assert {known.state for known in Records(ctx.host).all().values()} == {DiskState.NEW}
    assert not ctx.host.exists("/srv/data")


def test_a_disk_that_cannot_be_recorded_is_not_mounted(ctx: Context, tmp_path: Path) -> None:
    """/run is full: after a crash of the process, its folder and mount could not be cleaned up."""
    (tmp_path / "run/gandi/disks").write_text("no folder can be made here")
    items = list(handler.handle(ctx, "vdb", "add", system=on(ctx, whole())))
    assert {item.outcome for item in items} == {Outcome.FAILED}
    assert not ctx.host.exists("/srv/data")


@pytest.mark.parametrize(
    ("kind", "said"), [("released", ["released by the administrator"]), ("mounted", [])]
)
def test_what_an_older_version_has_on_record_counts(ctx: Context, kind: str, said: list[str]) -> None:
    """The package was upgraded while the machine runs; the next event changes nothing."""
    disk = replace(whole(), device=replace(whole().device, size=SIZE))
    entry = {"disk": "vdb", "sequence": "7", "uuid": "aaaa-1", "label": "data", "number": "254:16"}
    entry |= {"at": "/srv/data", "kind": kind, "alias": "", "fstype": "ext4"}
    text = json.dumps({"vdb": entry | {"made": kind == "mounted", "services": []}})
    ctx.host.write("/run/gandi/disks.json", text)
    ctx.state.remember_disk("aaaa-1", at="/srv/data", size=SIZE)
    if kind == "mounted":
        ctx.host.write(MOUNTINFO, "40 1 254:16 / /srv/data rw - ext4 /dev/vdb rw\n")
    for _ in range(2):
        items = list(handler.handle(ctx, "vdb", "change", system=on(ctx, disk)))
        assert [item.detail for item in items] == said
    assert Records(ctx.host).all()["vdb"].made is (kind == "mounted")
    assert not ctx.host.exists("/run/gandi/disks.json")
