"""Events become looks at devices: merged while they wait, one at a time for each device, never in a
shutdown.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent import stages
from agent.config.model import Identity, InstanceConfig
from agent.context import Context, context
from agent.daemon import configdrive
from agent.daemon.dispatcher import HANDLERS, RESTORED, Devices, merge, target
from agent.disks.base.record import Record, Records
from agent.host.host import Host
from agent.lib.records import dataclass, field
from agent.report import Item, changed, failed
from agent.systemd import units
from agent.udev.monitor import Uevent
from tests.unit.sysfs import Sysfs, scsi_disk, virtio

if TYPE_CHECKING:
    from collections.abc import Iterator

DISK = "/devices/pci0000:00/0000:00:04.0/virtio1/block/vdb"
NVME = "/devices/pci0000:00/0000:00:05.0/nvme/nvme0/nvme0n1"


def event(action: str, name: str = "vdb", role: str = "disk") -> Uevent:
    return Uevent(action, "block", name, f"/devices/{name}", "disk", role)


@pytest.mark.parametrize(
    ("waiting", "action", "after"),
    [
        ([], "add", ["add"]),
        ([], "change", ["change"]),
        (["add"], "change", ["add"]),
        (["change"], "change", ["change"]),
        (["change"], "add", ["add"]),
        (["change"], "remove", ["remove"]),
        (["remove"], "change", ["remove"]),
        (["remove"], "add", ["remove", "add"]),
        (["add"], "remove", ["add", "remove"]),
        (["remove", "add"], "add", ["remove", "add"]),
        (["remove", "add"], "remove", ["remove", "add", "remove"]),
    ],
)
def test_events_that_wait_are_merged(waiting: list[str], action: str, after: list[str]) -> None:
    assert merge(waiting, action) == after


@pytest.mark.parametrize(
    ("uevent", "expected"),
    [
        (Uevent("add", "block", "vdb", DISK, "disk", "disk"), ("vdb", "add")),
        (Uevent("bind", "block", "vdb", DISK, "disk", "disk"), ("vdb", "change")),
        (Uevent("add", "block", "vdb1", f"{DISK}/vdb1", "partition", "disk"), ("vdb", "change")),
        (Uevent("remove", "block", "vdb1", f"{DISK}/vdb1", "partition", "disk"), ("vdb", "change")),
        (
            Uevent("remove", "block", "nvme0n1p2", f"{NVME}/nvme0n1p2", "partition", "disk"),
            ("nvme0n1", "change"),
        ),
        (Uevent("add", "cpu", "cpu3", "/devices/system/cpu/cpu3", "", "cpu"), ("cpu", "change")),
        (Uevent("remove", "memory", "memory40", "/devices/system/m", "", "memory"), ("memory", "change")),
    ],
)
def test_a_partition_is_a_look_at_its_disk(uevent: Uevent, expected: tuple[str, str]) -> None:
    assert target(uevent) == expected


class SystemdSays(Host):
    """A machine in a folder, with a simulated answer of systemd."""

    __slots__ = ("asked", "word")

    def __init__(self, root: Path, word: str = "running") -> None:
        super().__init__(root)
        self.word, self.asked = word, 0

    def state(self, _host: Host) -> str:
        """Answer in place of ``units.system_state``."""
        self.asked += 1
        return self.word


@dataclass
class Seen:
    """A handler that records its calls, and that a test can block."""

    looks: list[tuple[str, str]] = field(default_factory=list)
    hold: dict[str, threading.Event] = field(default_factory=dict)
    started: threading.Event = field(default_factory=threading.Event)
    #: The reason to wait that it reports; "" for none.
    waits_for: str = "the test"
    result: Item = field(default_factory=lambda: changed("vdb1", "mounted"))

    def __call__(self, ctx: Context, device: str, action: str) -> Iterator[Item]:
        self.looks.append((device, action))
        if self.waits_for:
            ctx.on_wait(self.waits_for)
        self.started.set()
        if device in self.hold:
            assert self.hold[device].wait(10)
        yield self.result


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SystemdSays:
    host = SystemdSays(tmp_path)
    monkeypatch.setattr(units, "system_state", host.state)
    return host


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def devices(host: SystemdSays, seen: Seen) -> Devices:
    host.write(stages.MOUNTING, b"")
    return Devices(context(host), {"disk": seen})


def settle(devices: Devices) -> None:
    assert devices.workers.settle(10)


def test_every_role_that_has_a_handler_is_named_by_our_rules() -> None:
    from pathlib import Path as P

    rules = (P(__file__).parents[3] / "udev/86-gandi-agent.rules").read_text()
    assert all(f'ENV{{GANDI_ROLE}}="{role}"' in rules for role in set(HANDLERS) - {RESTORED})


def test_a_look_is_shown_while_it_lasts_and_recorded(devices: Devices, seen: Seen) -> None:
    seen.hold["vdb"] = threading.Event()
    devices.queue([event("add"), event("add", "lo", role="nic")])
    assert seen.started.wait(10)
    work = devices.ctx.status.read()["work"]["vdb"]
    assert (work["step"], work["waiting"]) == ("add", "the test")
    seen.hold["vdb"].set()
    settle(devices)
    document = devices.ctx.status.read()
    assert document["work"] == {}
    assert document["devices"]["vdb"]["outcome"] == "changed"
    assert seen.looks == [("vdb", "add")]


def test_work_that_waits_for_nothing_is_shown_when_it_lasts(devices: Devices, seen: Seen) -> None:
    seen.hold["vdb"], seen.waits_for = threading.Event(), ""
    before = time.monotonic()
    devices.queue([event("add")])
    assert seen.started.wait(10)
    due = devices.activity.next_show()
    assert due is not None
    assert before < due - 0.5
    devices.activity.show_due(due - 0.01)
    assert devices.ctx.status.read()["work"] == {}
    devices.activity.show_due(due)
    work = devices.ctx.status.read()["work"]["vdb"]
    assert (work["step"], work["waiting"]) == ("add", "")
    assert devices.activity.next_show() is None
    seen.hold["vdb"].set()
    settle(devices)
    assert devices.ctx.status.read()["work"] == {}
    assert not devices.activity.has("vdb")


def test_a_storm_of_events_for_a_busy_disk_is_one_more_look(devices: Devices, seen: Seen) -> None:
    seen.hold["vdb"] = threading.Event()
    devices.queue([event("change")])
    assert seen.started.wait(10)
    devices.queue([event("change") for _ in range(200)])
    devices.queue([event("add", "vdc")])
    seen.hold["vdb"].set()
    settle(devices)
    assert sorted(seen.looks) == [("vdb", "change"), ("vdb", "change"), ("vdc", "add")]


def test_a_scsi_disk_that_was_enlarged_has_the_others_asked_too(devices: Devices, seen: Seen) -> None:
    asked, now, release = list[tuple[str, str]](), threading.Event(), threading.Event()

    class Asked(SystemdSays):
        __slots__ = ()

        def sysfs_write(self, name: str, value: str) -> None:
            asked.append((name.split("/")[-3], value))
            now.set()
            assert release.wait(10)

    sysfs = Sysfs(Path(devices.ctx.host.root))
    scsi_disk(sysfs, "sda", "0:0:0:0", "8:0")
    scsi_disk(sysfs, "sdb", "0:0:1:0", "8:16")
    virtio(sysfs)
    devices.ctx.host = Asked(sysfs.root)
    devices.queue(
        [
            Uevent("change", "block", "vdb", "/devices/vdb", "disk", "disk", is_resized=True),
            event("change", "sdb"),
        ]
    )
    settle(devices)
    assert not asked
    enlarged = Uevent("change", "block", "sda", "/devices/sda", "disk", "disk", is_resized=True)
    devices.queue([enlarged])
    assert now.wait(10)
    devices.queue([enlarged] * 5)
    release.set()
    settle(devices)
    assert asked == [("0:0:0:0", "1"), ("0:0:1:0", "1")] * 2
    assert ("sda", "change") in seen.looks


def test_hundreds_of_blocks_are_one_look_and_one_more(devices: Devices, seen: Seen) -> None:
    devices.handlers = {"memory": seen}
    seen.hold["memory"] = threading.Event()
    blocks = [Uevent("add", "memory", f"memory{n}", "/devices/system/m", "", "memory") for n in range(400)]
    devices.queue(blocks[:1])
    assert seen.started.wait(10)
    devices.queue(blocks)
    seen.hold["memory"].set()
    settle(devices)
    assert seen.looks == [("memory", "change")] * 2
    devices.queue_all([])
    settle(devices)
    assert set(devices.ctx.status.read()["devices"]) == {"memory"}


def test_a_disk_that_hangs_holds_up_no_other(devices: Devices, seen: Seen) -> None:
    seen.hold["vdb"] = threading.Event()
    devices.queue([event("add", name) for name in ("vdb", "vdc", "vdd")])
    for _ in range(500):
        if {"vdc", "vdd"} <= set(devices.ctx.status.read()["devices"]):
            break
        threading.Event().wait(0.01)
    assert set(devices.ctx.status.read()["devices"]) == {"vdc", "vdd"}
    seen.hold["vdb"].set()
    settle(devices)


def test_of_64_disks_in_a_burst_none_is_lost_and_one_that_hangs_costs_one_place(
    devices: Devices, seen: Seen
) -> None:
    """Each disk gets two more events, as udev's watch on block devices causes."""
    names = [f"vd{number}" for number in range(64)]
    seen.hold["vd5"] = threading.Event()
    for action in ("add", "change", "change"):
        devices.queue([event(action, name) for name in names])
    for _ in range(2000):
        if devices.workers.busy() == ("vd5",):
            break
        threading.Event().wait(0.01)
    assert set(devices.ctx.status.read()["devices"]) == set(names) - {"vd5"}
    assert {name for name, action in seen.looks if action == "add"} == set(names)
    seen.hold["vd5"].set()
    settle(devices)
    assert set(devices.ctx.status.read()["devices"]) == set(names)


def test_what_is_gone_leaves_no_record_and_neither_do_its_partitions(devices: Devices) -> None:
    for name in ("vdb", "vdb1", "vdba", "nvme0n1", "nvme0n1p1", "nvme0n11"):
        devices.ctx.status.merge("devices", name, {"outcome": "changed", "items": []})
    devices.queue([event("remove"), event("remove", "nvme0n1")])
    settle(devices)
    assert set(devices.ctx.status.read()["devices"]) == {"vdba", "nvme0n11"}


def test_what_went_while_nobody_listened_is_looked_at_too(devices: Devices, seen: Seen) -> None:
    ctx = devices.ctx
    for name in ("vdb", "vdc"):
        devices.queue([event("add", name)])
    Records(ctx.host).put("vdd1", Record("vdd", "7", "", "", "254:49", "/srv/data"))
    ctx.status.merge("devices", "root disk", {"role": "", "outcome": "changed", "items": []})
    settle(devices)
    seen.looks.clear()
    devices.queue_all([event("change", "vdc")])
    settle(devices)
    assert sorted(seen.looks) == [("vdb", "remove"), ("vdc", "change"), ("vdd", "remove")]
    assert set(ctx.status.read()["devices"]) == {"vdc", "root disk"}


def test_a_handler_that_fails_is_a_record_and_not_an_end(
    devices: Devices, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen.result = failed("vdb1", "no", "do something")
    devices.queue([event("remove")])
    settle(devices)
    assert devices.ctx.status.read()["devices"]["vdb"]["items"][0]["hint"] == "do something"
    devices.handlers = {"disk": lambda ctx, device, action: iter([][0])}
    devices.queue([event("add", "vdc")])
    settle(devices)
    assert "IndexError" in str(devices.ctx.status.read()["devices"]["vdc"])


def test_what_failed_stays_shown_while_an_event_brings_nothing_new(devices: Devices) -> None:
    """A drive is applied once; a later event of it finds nothing new, and the failure is still one."""
    results: list[list[Item]] = [[failed("nic:0", "no", "do something")], [], [changed("nic:0")], []]
    devices.handlers = {"disk": lambda _ctx, _device, _action: iter(results.pop(0))}
    outcomes = []
    for _ in range(4):
        devices.queue([event("change", "sr0")])
        settle(devices)
        outcomes.append(devices.ctx.status.read()["devices"]["sr0"]["outcome"])
    assert outcomes == ["failed", "failed", "changed", "unchanged"]
    devices.handlers = {"disk": lambda *_: iter(())}
    devices.queue([event("remove", "sr0")])
    settle(devices)
    assert "sr0" not in devices.ctx.status.read()["devices"]


@pytest.mark.parametrize(("action", "looks"), [("remove", 0), ("change", 0), ("add", 1)])
def test_nothing_is_seen_as_wanted_while_the_machine_goes_down(
    devices: Devices, host: SystemdSays, seen: Seen, action: str, looks: int
) -> None:
    host.word = "stopping"
    devices.queue([event(action)])
    settle(devices)
    assert len(seen.looks) == looks


def test_a_closed_daemon_acts_and_records_no_more(devices: Devices, seen: Seen) -> None:
    seen.hold["vdb"] = threading.Event()
    devices.queue([event("add"), event("remove")])
    assert seen.started.wait(10)
    devices.close()
    seen.hold["vdb"].set()
    devices.queue([event("add", "vdc")])
    settle(devices)
    assert seen.looks == [("vdb", "add")]
    assert devices.ctx.status.read()["devices"] == {}


def test_disks_are_left_until_the_mount_stage_has_begun(host: SystemdSays, seen: Seen) -> None:
    devices = Devices(context(host), {"disk": seen})
    devices.ctx.status.merge("stages", "bootstrap", {"state": "done"})
    devices.queue([event("add")])
    settle(devices)
    assert (seen.looks, host.asked) == ([], 0)
    host.write(stages.MOUNTING, b"")
    devices.queue([event("change")])
    settle(devices)
    assert seen.looks == [("vdb", "change")]


@pytest.mark.parametrize(("word", "acts"), [("running", True), ("degraded", True), ("starting", False)])
def test_installed_on_a_machine_that_has_booted_it_acts_at_once(
    host: SystemdSays, seen: Seen, word: str, acts: bool
) -> None:
    host.word = word
    devices = Devices(context(host), {"disk": seen})
    devices.queue([event("add")] * 3)
    settle(devices)
    assert bool(seen.looks) is acts
    assert host.exists(stages.MOUNTING) is acts
    assert host.asked == 1


def test_a_configuration_that_a_drive_brought_is_the_daemons(devices: Devices) -> None:
    """A handler that began earlier, with the former configuration, does not restore it."""
    new, begun, go = InstanceConfig(Identity("nocloud", "i-1")), threading.Event(), threading.Event()

    def handle(ctx: Context, device: str, _action: str) -> Iterator[Item]:
        if device == "vdb":
            begun.set()
            assert go.wait(10)
        else:
            ctx.config, ctx.secrets = new, {"": "x"}
        return iter(())

    devices.handlers = {"disk": handle}
    devices.queue([event("add", "vdb")])
    assert begun.wait(10)
    devices.queue([event("add", "sr0")])
    for _ in range(500):
        if devices.ctx.config is new:
            break
        threading.Event().wait(0.01)
    go.set()
    settle(devices)
    assert devices.ctx.config is new
    assert devices.ctx.secrets == {"": "x"}


def test_a_device_that_poses_as_a_drive_is_told(devices: Devices, host: SystemdSays) -> None:
    Sysfs(Path(host.root)).disk("virtual/block/loop0", "7:0")
    udev = Path(host.root) / "run/udev/data/b7:0"
    udev.parent.mkdir(parents=True)
    udev.write_text("E:ID_FS_LABEL=cidata\n")
    devices.handlers = HANDLERS
    devices.queue([event("change", "loop0", "drive")])
    settle(devices)
    assert "never read" in str(devices.ctx.status.read()["devices"]["loop0"])


def test_a_drive_that_came_unheard_is_looked_at(
    devices: Devices, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configdrive, "present", lambda _ctx: ["sr0", "vdc"])
    devices.queue_drives()
    for _ in range(500):
        if len(seen.looks) == 2:
            break
        threading.Event().wait(0.01)
    settle(devices)
    assert sorted(seen.looks) == [("sr0", "change"), ("vdc", "change")]
