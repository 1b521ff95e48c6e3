"""Which configuration is in force on a machine with configuration drives, over several boots and while it
runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent import sources, stages
from agent.config import model
from agent.config.model import Identity, InstanceConfig, User
from agent.context import Context, Medium, context
from agent.daemon import configdrive
from agent.host.host import Host
from agent.lib.errors import ConfigError
from agent.reader.client import Parsed
from agent.reader.common.problem import Problem
from agent.report import Item, Outcome, StepReport, changed, skipped, unchanged
from agent.sources import FoundMedium, SearchResult, config_drives
from agent.stages import Stage, Step
from agent.steps import source

UUID = "4c4c4544-0031-4a10-8056-b4c04f4b3332"


def parsed(config: InstanceConfig | None, digest: str = "", **more: Any) -> Parsed:
    named = model.dump(config).hex() if config else ""
    said: dict[str, Any] = {
        "files": {}, "raw": None, "problems": (), "is_unchanged": False, "is_recognised": True,
        "is_complete": True, "extent": (0, 0), "modules": (),
    }  # fmt: skip
    return Parsed(config=config, digest=digest or named + str(more.get("secrets", "")), **(said | more))


class Machine:
    """A machine in a folder, booted several times; ``drive`` is the content of its only drive."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.drive: Parsed | Exception | None = None
        self.notes: tuple[Item, ...] = ()
        self.ran: list[str] = []
        self.patient: list[bool] = []
        monkeypatch.setattr(sources, "find", self.find_at_boot)
        monkeypatch.setattr(sources, "find_drive", lambda ctx, known_digest: self.find(known_digest))
        monkeypatch.setattr(config_drives, "may_have_drive", lambda *_: self.drive is not None)
        monkeypatch.setattr(stages, "run_step", self.step)
        (root / "run/gandi").mkdir(parents=True)

    def find_at_boot(
        self, _ctx: Context, known_digest: str, *, wait_for_medium: bool, wait_for_drivers: bool = False
    ) -> SearchResult:
        self.patient.append(wait_for_medium)
        return self.find(known_digest)

    def find(self, known_digest: str) -> SearchResult:
        match self.drive:
            case None:
                return SearchResult(None, self.notes)
            case Exception():
                raise self.drive
            case parsed:
                if known_digest == parsed.digest:
                    parsed = Parsed(None, {}, None, (), known_digest, True, True, True, (0, 0), ())
                source = parsed.config.identity.source if parsed.config else "cloudstack"
                return SearchResult(FoundMedium(Medium(source, "sr0", "11:0"), parsed), self.notes)

    def step(self, ctx: Context, step: Step) -> StepReport:
        self.ran.append(step.name)
        return StepReport(step.name, (changed(step.name), unchanged("nothing")), 0.0)

    def deliver(
        self, id: str = "i-1", hostname: str = "cs1", source: str = "cloudstack", **more: Any
    ) -> None:
        self.drive = parsed(InstanceConfig(Identity(source, id), hostname=hostname), **more)

    def boot(self) -> tuple[Context, dict[str, Item]]:
        ctx = context(Host(self.root))
        return ctx, {item.name: item for item in source.apply(ctx)}

    def event(self, ctx: Context | None = None) -> dict[str, Item]:
        self.ran.clear()
        return {item.name: item for item in configdrive.handle(ctx or context(Host(self.root)), "sr0")}

    def text(self) -> bytes:
        return b"\0".join(path.read_bytes() for path in self.root.rglob("*") if path.is_file())


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_the_drives_own_id_names_the_instance(machine: Machine) -> None:
    machine.deliver()
    ctx, items = machine.boot()
    assert items["source"].detail == "/dev/sr0, a new instance"
    assert ctx.state.identity() == Identity("cloudstack", "i-1")
    assert not (machine.root / "gandi").exists(), "only an archive's document is kept as it came"


def test_a_boot_with_nothing_new_is_told_by_the_digest(machine: Machine) -> None:
    machine.deliver()
    first, _ = machine.boot()
    again, items = machine.boot()
    assert items["source"].detail == "/dev/sr0, delivered again"
    assert again.config == first.config
    machine.drive = None
    gone, items = machine.boot()
    assert gone.config == first.config, "a drive that was detached is no other machine"
    assert items["source"].outcome is Outcome.UNCHANGED


def test_a_drive_without_an_id_that_says_the_same_is_not_applied_again(machine: Machine) -> None:
    machine.deliver("", source="native")
    ctx, _ = machine.boot()
    assert machine.event(ctx) == {}
    assert not machine.ran
    machine.deliver("", "cs2", source="native")
    machine.event(ctx)
    assert "hostname" in machine.ran


def test_another_id_is_another_instance(machine: Machine) -> None:
    machine.deliver()
    machine.boot()
    machine.deliver("i-2", "cs2")
    ctx, items = machine.boot()
    assert items["source"].detail.endswith("a new instance")
    assert ctx.config is not None
    assert ctx.config.identity.id == "i-2"


def test_a_first_boot_and_a_clones_wait_for_a_medium_and_no_other(machine: Machine) -> None:
    uuid = machine.root / "sys/class/dmi/id/product_uuid"
    uuid.parent.mkdir(parents=True)
    uuid.write_text(UUID)
    machine.deliver()
    machine.boot()
    machine.boot()
    uuid.write_text(UUID.replace("4c", "5d"))
    machine.boot()
    assert machine.patient == [True, False, True]


def test_a_uuid_in_capitals_is_the_same_instance(machine: Machine) -> None:
    machine.deliver(UUID, source="openstack")
    machine.boot()
    machine.deliver(UUID.upper(), "other", source="openstack")
    ctx, items = machine.boot()
    assert items["source"].detail.endswith("a changed document")
    assert ctx.config is not None
    assert ctx.config.identity.id == UUID


def test_a_plain_password_is_handed_on_and_leaves_no_trace(machine: Machine) -> None:
    machine.deliver(secrets={"": "s3cr3t-pa55"})
    digest = machine.drive.digest if isinstance(machine.drive, Parsed) else ""
    ctx, _ = machine.boot()
    assert ctx.secrets == {"": "s3cr3t-pa55"}
    assert b"s3cr3t" not in machine.text()
    assert digest.encode() not in machine.text(), "a digest of a password can be guessed"
    again, items = machine.boot()
    assert again.secrets == ctx.secrets, "the password step decides whether it is new"
    assert items["source"].detail.endswith("as stored")
    machine.deliver()
    assert machine.boot()[0].secrets == {}


def test_a_drive_that_names_no_machine_is_read_each_time(machine: Machine) -> None:
    machine.deliver("", source="native")
    (machine.root / "etc").mkdir()
    (machine.root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    machine.boot()
    ctx, items = machine.boot()
    assert items["source"].detail.endswith("as stored")
    assert ctx.config is not None
    assert ctx.config.identity == Identity("native", "0123456789abcdef0123456789abcdef")


def test_user_data_is_kept_private_and_goes_with_the_delivery(machine: Machine) -> None:
    machine.deliver(files={"user-data": b"#!/bin/sh\n", "user-script": b"#!/bin/sh\n"})
    ctx, _ = machine.boot()
    path = machine.root / ctx.state.user_data().lstrip("/")
    assert path.read_bytes() == b"#!/bin/sh\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert not (path.parent / "scripts/user-data").exists()
    assert (path.parent / "scripts/user-script").exists()
    machine.deliver(hostname="cs2")
    machine.boot()
    assert not path.exists()


def test_drives_that_contradict_each_other_change_nothing(machine: Machine) -> None:
    machine.drive = ConfigError("/dev/sr0 and /dev/sr1 describe different machines", hint="detach one")
    ctx, items = machine.boot()
    assert ctx.config is None
    assert items["source"].detail.startswith("no medium that can be used, nothing stored")
    machine.deliver()
    first, _ = machine.boot()
    machine.drive = ConfigError("/dev/sr0 and /dev/sr1 describe different machines", hint="detach one")
    ctx = context(Host(machine.root))
    outcomes = [(item.outcome, item.hint) for item in source.apply(ctx)]
    assert outcomes == [(Outcome.FAILED, "detach one"), (Outcome.UNCHANGED, "")]
    assert ctx.config == first.config


def test_what_does_not_count_is_said(machine: Machine) -> None:
    machine.notes = (skipped("/dev/loop0", "labelled cidata, but a virtual device (loop): never read"),)
    _, items = machine.boot()
    assert items["/dev/loop0"].outcome is Outcome.SKIPPED


def test_another_provisioner_is_left_alone_and_what_is_stored_is_not_applied(machine: Machine) -> None:
    machine.deliver()
    machine.boot()
    (machine.root / "run/cloud-init").mkdir()
    (machine.root / "run/cloud-init/enabled").touch()
    ctx, items = machine.boot()
    assert ctx.config is None
    assert "left to cloud-init" in items["source"].detail
    list(stages.steps(ctx, Stage.POSTBOOT))
    assert ctx.config is None, "nor by a later stage"
    assert machine.event() == {}


# -- while it runs --------------------------------------------------------------------------------


def _over(ctx: Context, *over: Stage) -> None:
    for stage in over:
        ctx.status.merge("stages", stage, {"state": "done"})


@pytest.mark.parametrize(
    ("over", "ran", "not_ran"),
    [
        ((Stage.BOOTSTRAP,), {"hostname", "network", "users"}, {"scripts"}),
        (tuple(Stage), {"hostname", "network", "users", "scripts"}, {"source", "swap", "disks"}),
    ],
)
def test_a_late_drive_is_applied_in_full(
    machine: Machine, over: tuple[Stage, ...], ran: set[str], not_ran: set[str]
) -> None:
    ctx, _ = machine.boot()
    _over(ctx, *over)
    machine.deliver()
    items = machine.event(ctx)
    assert items["source"].detail == "/dev/sr0, a new instance"
    assert ran <= set(machine.ran)
    assert not not_ran & set(machine.ran)
    assert ctx.config is not None, "the daemon goes by it from now on"


def test_the_setting_is_about_changes_and_not_about_late_drives(machine: Machine) -> None:
    (machine.root / "etc/default").mkdir(parents=True)
    (machine.root / "etc/default/gandi").write_text("CONFIG_RELOAD=0\n")
    machine.deliver()
    assert "source" in machine.event()
    machine.deliver(hostname="cs2")
    (item,) = machine.event().values()
    assert "CONFIG_RELOAD=0" in item.detail
    assert machine.ran == []


def test_a_drive_that_changes_is_applied_as_far_as_it_can_be(machine: Machine) -> None:
    machine.deliver()
    machine.boot()
    assert machine.event() == {}, "nothing new"
    machine.deliver(hostname="cs2")
    items = machine.event()
    assert items["source"].detail == "/dev/sr0, a changed document"
    assert machine.ran == list(configdrive.LIVE)
    assert "nothing" not in items
    assert machine.event() == {}


def test_a_new_password_is_applied(machine: Machine) -> None:
    machine.deliver()
    machine.boot()
    machine.deliver(secrets={"": "new"})
    ctx = context(Host(machine.root))
    machine.event(ctx)
    assert ctx.secrets == {"": "new"}
    assert "users" in machine.ran


def test_another_machines_drive_waits_for_a_boot(machine: Machine) -> None:
    machine.deliver()
    machine.boot()
    machine.deliver("i-2", "cs2")
    (item,) = machine.event().values()
    assert item.outcome is Outcome.SKIPPED
    assert "waits for a boot" in item.detail
    assert machine.ran == []
    ctx, _ = machine.boot()
    assert ctx.config is not None
    assert ctx.config.hostname == "cs2"


def test_a_drive_that_cannot_be_read_changes_nothing(machine: Machine) -> None:
    machine.deliver()
    first, _ = machine.boot()
    bad = (Problem("meta_data.json", "not JSON", "deliver a correct document"),)
    machine.drive = parsed(None, "x", problems=bad)
    ctx = context(Host(machine.root))
    items = machine.event(ctx)
    assert items["meta_data.json"].outcome is Outcome.FAILED
    assert machine.ran == []
    assert ctx.config == first.config


def test_only_a_drive_is_looked_at(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "find_drive", lambda *_: pytest.fail("searched"))
    assert machine.event() == {}


def test_the_steps_see_what_was_delivered_now(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.deliver()
    machine.boot()
    config = InstanceConfig(Identity("cloudstack", "i-1"), users=(User("", keys=("k",)),))
    machine.drive = parsed(config)
    seen: list[InstanceConfig | None] = []

    def look(ctx: Context, one: Step) -> StepReport:
        seen.append(ctx.config)
        return machine.step(ctx, one)

    monkeypatch.setattr(stages, "run_step", look)
    machine.event()
    assert seen
    assert {one == config for one in seen} == {True}
