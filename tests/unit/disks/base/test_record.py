"""The records of disks, how long they live, and the conversion of an older version's files."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.disks.base import diskseq, record
from agent.disks.base.locks import Locks
from agent.disks.base.record import DiskState, Record, Records, renewed
from agent.host import processes
from agent.host.host import Host
from agent.lib.canonical_json import parsed_object
from agent.lib.records import replace
from tests.unit.disks.facts import part, parted, whole
from tests.unit.sysfs import Sysfs, virtio

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDER = Path(__file__).parent / "older"


@pytest.fixture
def records(tmp_path: Path) -> Records:
    host = Host(tmp_path)
    host.write(diskseq.FILE, "4\n")
    host.write("/proc/self/mountinfo", "")
    return Records(host)


@pytest.fixture
def other() -> Iterator[dict[str, int]]:
    """Another running process."""
    with subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL) as sleeper:
        yield {"pid": sleeper.pid, "started": processes.start_time(sleeper.pid)}
        sleeper.kill()


def test_what_was_tried_is_forgotten_and_nothing_else(records: Records) -> None:
    tried = Record("vdb", "7", "u", "data", "254:17", "/srv/data", checked=True, not_grown=1 << 30)
    for name in ("vdb1", "vdb12"):
        records.put(name, tried)
    records.try_again(records.all(), ["vdb", "vdb1"])
    assert records.all() == {"vdb1": replace(tried, checked=False, not_grown=0), "vdb12": tried}


def test_a_new_try_keeps_what_another_thread_recorded_meanwhile(records: Records) -> None:
    tried = Record("vdb", "7", "u", "data", "254:17", "/srv/data", checked=True)
    snapshot = {"vdb1": tried}
    records.put("vdb1", replace(tried, services=("db.service",)))
    records.try_again(snapshot, ["vdb1"])
    assert records.all() == snapshot == {"vdb1": replace(tried, checked=False, services=("db.service",))}


def test_only_records_that_have_changed_are_decoded(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each decision reads the records of all disks: with 256 at once, decoding them was half its cost."""
    decoded = list[str]()

    def counted(text: str) -> dict[str, Any] | None:
        decoded.append(json.loads(text)["label"])
        return parsed_object(text)

    monkeypatch.setattr(record, "parsed_object", counted)
    made = {
        name: Record(name, "7", "u", name, f"8:{number}") for number, name in enumerate(("only-a", "only-b"))
    }
    for name, known in made.items():
        records.put(name, known)
    assert records.all() == records.all() == made
    records.put("only-a", replace(made["only-a"], checked=True))
    assert records.all() == made | {"only-a": replace(made["only-a"], checked=True)}
    assert decoded == ["only-a", "only-b", "only-a"]


def test_a_device_number_is_reused_after_a_removal_in_use(records: Records) -> None:
    """Xen's driver frees it although the filesystem is still in use."""
    disk = whole()
    assert not records.is_devno_reused(disk)
    left = replace(records.current(disk, disk.device), diskseq="5", state=DiskState.REMOVED)
    records.put("vdc@5", replace(left, disk="vdc"))
    assert not records.is_devno_reused(disk)
    records.put("vdb@5", left)
    assert records.is_devno_reused(disk)
    assert not records.is_devno_reused(replace(disk, device=replace(disk.device, devno="254:99")))


def test_a_plan_writes_no_record(records: Records) -> None:
    known = records.current(whole(), whole().device)
    plan = Records(Host(records.host.root, dry_run=True))
    plan.put("vdb", known)
    assert records.all() == {}
    records.put("vdb", known)
    plan.put("vdb", None)
    assert plan.all() == {"vdb": known}


_SAID = '{"disk":"vdb","diskseq":"7","uuid":"","label":"","devno":"254:16"'


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "[" * 5000, '{"services": 1}', '{"services": [], "x": 1}'),
        *(f"{_SAID},{more}}}" for more in ('"pid":"1"', '"devno":{}', '"services":[1]', '"made":null')),
    ],
)
def test_a_damaged_record_counts_as_none_and_costs_no_other(records: Records, text: str) -> None:
    known = Record("vdc", "8", "u", "", "254:32", "/srv/x")
    records.put("vdc", known)
    records.host.write("/run/gandi/disks/vdb.json", text)
    assert records.all() == {"vdc": known}


def test_a_record_is_of_one_attachment(records: Records) -> None:
    disk, device = whole(), whole().device
    records.put("vdb", replace(records.current(disk, device), state=DiskState.RELEASED, checked=True))
    assert records.current(disk, device).state == DiskState.RELEASED
    again, other = renewed(records.current(disk, device), disk, device), replace(disk, diskseq="8")
    assert (again.state, again.checked) == (DiskState.NEW, True)
    assert not renewed(records.current(other, device), other, device).checked
    assert records.current(other, device).state == DiskState.NEW


def test_a_disk_is_new_until_it_has_a_record_of_any_kind(records: Records) -> None:
    disk = parted(part(1))
    assert records.is_new(disk)
    assert not records.is_new(replace(disk, diskseq="4")), "it was there at coldplug"
    assert not records.is_new(replace(disk, diskseq="")), "the kernel does not count"
    known = replace(records.current(disk, part(1)), state=DiskState.MOUNTED)
    records.put("vdb1", known)
    assert not records.is_new(disk)
    records.put("vdb1", known.cleared())
    assert not records.is_new(disk), "unmounted again"
    assert records.is_new(replace(disk, diskseq="8")), "another one in its place"
    assert records.done() == {}
    assert not records.has_done("vdb")


def test_before_the_mount_stage_no_disk_is_new(tmp_path: Path) -> None:
    virtio(Sysfs(tmp_path))  # diskseq 9
    records, later = Records(Host(tmp_path)), replace(whole(), diskseq="10")
    assert not records.is_new(later)
    assert records.host.read(diskseq.FILE) == "9\n"
    assert records.is_new(later)


def test_what_is_about_to_be_mounted_counts_while_its_process_lives(
    records: Records, other: dict[str, int]
) -> None:
    """A command decides while the daemon mounts: a mountpoint is assigned once."""
    host, locks, disk = records.host, Locks(), whole()
    known = replace(records.current(disk, disk.device), state=DiskState.MOUNTING, mountpoint="/srv/data")
    records.put("vdb", replace(known, pid=other["pid"], started=other["started"]))
    assert [
        (found.mountpoint, found.ours) for found in locks.pending_mounts(Records(host).all()).values()
    ] == [("/srv/data", True)]
    records.put("vdb", replace(known, pid=other["pid"], started=other["started"] - 1))
    assert locks.pending_mounts(Records(host).all()) == {}, "another process has that number now"
    me = processes.this_process()
    records.put("vdb", replace(known, pid=me["pid"], started=me["started"]))
    assert locks.pending_mounts(Records(host).all()) == {}, "a thread that has ended"
    locks.begin_mount(records, "vdb", replace(known, pid=me["pid"], started=me["started"]), known)
    assert list(locks.pending_mounts(Records(host).all())) == ["254:16"]


@pytest.mark.parametrize("is_mounted", [False, True])
def test_what_could_not_be_mounted_is_on_record_as_before(records: Records, is_mounted: bool) -> None:
    host, locks, disk, me = records.host, Locks(), whole(), processes.this_process()
    before = replace(records.current(disk, disk.device), state=DiskState.ANNOUNCED)
    claim = replace(
        before,
        state=DiskState.MOUNTING,
        mountpoint="/srv/data",
        pid=me["pid"],
        started=me["started"],
        checked=True,
    )
    locks.begin_mount(records, "vdb", claim, before)
    if is_mounted:  # and that could not be recorded
        host.write("/proc/self/mountinfo", "40 1 254:16 / /srv/data rw - ext4 /dev/vdb rw\n")
    locks.end_mount(host, "vdb")
    assert locks.pending_mounts(Records(host).all()) == {}
    assert records.get("vdb") == (claim if is_mounted else replace(before, checked=True))


def test_the_files_of_an_older_version_are_taken_over(tmp_path: Path) -> None:
    """The files are as version 0.1.0 wrote them: the package was upgraded while the machine runs."""
    sysfs, host = Sysfs(tmp_path), Host(tmp_path)
    sysfs.partition(virtio(sysfs, "vdb", "254:16"), 1, "254:17", start=8)
    for name, number in (("vdd", "254:48"), ("vdc", "254:32"), ("vdh", "254:112")):
        virtio(sysfs, name, number, f"0{name[-1]}.0")
    for file in OLDER.iterdir():
        host.write(f"/run/gandi/{file.name}", file.read_bytes(), mode=0o600)
    records = Records(host)
    states = {name: (known.state, known.diskseq, known.mountpoint) for name, known in records.all().items()}
    assert states == {
        "vdb": (DiskState.NEW, "5", ""),
        "vdb1": (DiskState.MOUNTED, "5", "/srv/data"),
        "vdc": (DiskState.RELEASED, "6", "/srv/backup"),
        "vdd": (DiskState.MOUNTING, "7", "/srv/new"),
        "vde": (DiskState.ANNOUNCED, "8", "/srv/vde"),
        "vdf": (DiskState.OFFERED, "9", "/srv/auto"),
        "vdh": (DiskState.NEW, "10", ""),
    }
    assert records.all()["vdb1"].services == ("database.service",)
    assert records.all()["vdb1"].made
    assert records.all()["vdb1"].not_grown == 2 << 30
    assert records.all()["vdd"].checked
    assert records.all()["vdd"].made
    assert not any(known.is_being_mounted for known in records.all().values()), (
        "the process that was about to mount it has ended"
    )
    assert {key: known.devnos for key, known in records.removed().items()} == {"vdg@3": {"254:96", "0:41"}}
    assert host.read(diskseq.FILE) == "4\n"
    assert sorted(os.listdir(tmp_path / "run/gandi")) == ["coldplug", "disks", "locks"]


def test_what_is_damaged_in_them_is_left_out(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.write("/run/gandi/disks.json", '{"vdb": {"kind": "mounted"}}')
    host.write("/run/gandi/once.json", '{"coldplug": ')
    host.write("/run/gandi/gone.json", (OLDER / "gone.json").read_bytes())
    assert Records(host).all() == {}
    assert set(Records(host).removed()) == {"vdg@3"}


def test_a_cut_in_taking_over_loses_nothing_newer(tmp_path: Path) -> None:
    host = Host(tmp_path)
    text = (OLDER / "disks.json").read_bytes()
    host.write("/run/gandi/disks.json", text)
    released = replace(Records(host).all()["vdb1"], state=DiskState.RELEASED)
    Records(host).put("vdb1", released)
    host.write("/run/gandi/disks.json", text)
    assert Records(host).get("vdb1") == released
