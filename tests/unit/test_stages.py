"""The runner: every outcome becomes a record, one failure costs nothing else, one stage at a time."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest

from agent import stages
from agent.config import model, settings
from agent.config.system import Ntp, System
from agent.context import Context, context
from agent.host.host import Host
from agent.lib import records
from agent.lib.errors import Busy, ConfigError
from agent.report import Item, Outcome, StepReport, changed, failed
from agent.stages import Stage, Step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = model.InstanceConfig(model.Identity("test", "1"), hostname="vm1")
SECRET = "hunter2"


def fine(ctx: Context) -> Iterator[Item]:
    yield changed("fine", "made")


def refused(ctx: Context) -> Iterator[Item]:
    yield changed("first")
    raise ConfigError("users[0]: no such thing", hint="write another")


def defective(ctx: Context) -> Iterator[Item]:
    yield changed("first")
    raise ValueError(SECRET)


def waits(ctx: Context) -> Iterator[Item]:
    ctx.on_wait("vdb")
    yield changed("vdb", str(ctx.status.read()["work"]["bootstrap"]["waiting"]))


def finds(ctx: Context) -> Iterator[Item]:
    ctx.config = CONFIG
    yield changed("found")


def step(name: str, *names: str, needs_config: bool = False) -> Step:
    return Step(name, f"{__name__}:{name}", settings=names, needs_config=needs_config)


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return context(Host(tmp_path))


@pytest.fixture
def bootstrap(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """The steps of the bootstrap stage, to be filled in."""
    listed: list[Step] = []
    monkeypatch.setitem(stages.STAGES, Stage.BOOTSTRAP, listed)
    return listed


def run(ctx: Context, stage: Stage = Stage.BOOTSTRAP) -> list[StepReport]:
    told: list[StepReport] = []
    report = stages.run(ctx, stage, told.append, lock_timeout=0.0)
    assert tuple(told) == report.steps
    return told


@pytest.mark.parametrize("stage", list(Stage))
def test_every_step_on_the_page_exists_and_names_real_settings(stage: Stage) -> None:
    known = {field.name for field in records.fields(settings.Settings)}
    for listed in stages.STAGES[stage]:
        assert callable(listed.function())
        assert set(listed.settings) <= known


def test_a_failed_step_keeps_what_it_did_and_stops_no_other(ctx: Context, bootstrap: list[Step]) -> None:
    bootstrap += [step("refused"), step("fine")]
    first, second = run(ctx)
    assert first.items == (
        changed("first"),
        failed("refused", "users[0]: no such thing", "write another"),
    )
    assert second.outcome is Outcome.CHANGED
    entry = ctx.status.read()["stages"]["bootstrap"]
    assert entry["state"] == "failed"
    assert [s["outcome"] for s in entry["steps"]] == ["failed", "changed"]


def test_a_defect_is_a_record_without_the_text_of_the_exception(
    ctx: Context, bootstrap: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("agent.systemd.journal.Journal.send", lambda *args, **kw: said.append(f"{args}{kw}"))
    bootstrap += [step("defective"), step("fine")]
    first, second = run(ctx)
    assert first.items[1].detail == "unexpected ValueError"
    assert second.outcome is Outcome.CHANGED
    assert "raise ValueError(SECRET)" in "".join(said)  # the traceback's source lines
    assert SECRET not in "".join(said) + (ctx.host.read("/run/gandi/status.json") or "")


def test_settings_switch_steps_off_and_the_reason_names_the_setting(
    ctx: Context, bootstrap: list[Step]
) -> None:
    ctx.host.write("/etc/default/gandi", "CONFIG_NETWORK=0\n")
    bootstrap += [step("fine", "hostname", "network"), step("finds", "hostname")]
    first, second = run(ctx)
    assert (first.outcome, first.items[0].detail) == (Outcome.SKIPPED, "CONFIG_NETWORK=0")
    assert second.outcome is Outcome.CHANGED


def test_hot_plug_alone_leaves_the_system_as_it_is(ctx: Context) -> None:
    ctx.host.write("/etc/default/gandi", "CONFIG_DATASOURCE=none\n")
    whys = {report.step: [item.detail for item in report.items] for report in run(ctx, Stage.CONFIG)}
    assert whys.pop("plugins") == whys.pop("post-vm-config") == []
    assert whys.pop("resources") == ["none in /sys", "0 MiB in blocks"]
    assert not whys.keys() & {step.name for step in stages.STAGES[Stage.CONFIG] if step.rare}
    assert set(whys) == {step.name for step in stages.STAGES[Stage.CONFIG] if step.setup}
    assert {"sysctl", "timezone", "motd"} <= set(whys)
    (fsck,) = (report for report in run(ctx, Stage.POSTBOOT) if report.step == "fsck")
    whys["fsck"] = [item.detail for item in fsck.items]
    assert set(map(tuple, whys.values())) == {("CONFIG_DATASOURCE=none",)}


def test_only_the_want_of_a_configuration_skips_what_needs_one(ctx: Context, bootstrap: list[Step]) -> None:
    bootstrap += [step("refused"), step("fine", needs_config=True)]
    assert run(ctx)[1].outcome is Outcome.SKIPPED
    bootstrap.insert(0, step("finds"))
    outcomes = [report.outcome for report in run(ctx)]
    assert outcomes == [Outcome.CHANGED, Outcome.FAILED, Outcome.CHANGED]


def test_a_later_stage_in_a_process_of_its_own_uses_the_stored_configuration(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(stages.STAGES, Stage.POSTBOOT, (step("fine", needs_config=True),))
    ctx.state.set_instance(CONFIG.identity)
    ctx.state.store_config(CONFIG, {})
    assert [report.outcome for report in run(ctx, Stage.POSTBOOT)] == [Outcome.CHANGED]
    assert ctx.config == CONFIG


def test_a_damaged_stored_configuration_fails_and_skips_what_needs_it(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(stages.STAGES, Stage.POSTBOOT, (step("fine", needs_config=True), step("waits")))
    ctx.state.set_instance(CONFIG.identity)
    ctx.host.write(f"{ctx.state.folder()}/config.json", b"{")
    first, second, *_ = run(ctx, Stage.POSTBOOT)
    assert (first.step, first.outcome) == ("configuration", Outcome.FAILED)
    assert second.outcome is Outcome.SKIPPED


@pytest.mark.parametrize("text", ["", "{", '{"version": 1, "items": {"ntp": 3}}'])
def test_a_damaged_record_of_items_ends_no_stage(tmp_path: Path, bootstrap: list[Step], text: str) -> None:
    """Also not before a step that is run only to withdraw what the record has."""
    ctx = context(Host(tmp_path))
    ctx.state.set_instance(CONFIG.identity)
    ctx.state.store_config(CONFIG, {})
    ctx.config = CONFIG
    ctx.host.write(f"{ctx.state.folder()}/applied.json", text)
    withdraws = Step("withdraws", f"{__name__}:withdraws", config_field="system.ntp", withdraws="ntp")
    bootstrap += [withdraws, step("fine")]
    first, second = run(ctx)
    assert first.outcome is Outcome.FAILED
    assert "applied.json: damaged" in first.items[0].detail
    assert second.outcome is Outcome.CHANGED


def withdraws(ctx: Context) -> Iterator[Item]:
    for name in ctx.state.recorded_items("ntp"):
        yield changed(name)


def test_a_step_that_is_run_again_has_the_stored_configuration_or_is_not_run(
    ctx: Context, bootstrap: list[Step]
) -> None:
    bootstrap += [step("fine", needs_config=True)]
    ctx.state.set_instance(CONFIG.identity)
    ctx.state.store_config(CONFIG, {})
    with stages.stage_lock(ctx.host, "stage mount"):
        again = context(ctx.host)
        thread = threading.Thread(target=lambda: done.extend(stages.rerun_step(again, "fine")))
        done = list[Item]()
        thread.start()
        thread.join(0.3)
        assert (done, thread.is_alive()) == ([], True), "a stage is running"
    thread.join(10)
    assert [item.outcome for item in done] == [Outcome.CHANGED]
    ctx.host.write(f"{ctx.state.folder()}/config.json", b"{")
    broken = list(stages.rerun_step(context(ctx.host), "fine"))
    assert [(item.name, item.outcome) for item in broken] == [("configuration", Outcome.FAILED)]


def test_work_shows_what_is_waited_for_and_ends_with_the_stage(ctx: Context, bootstrap: list[Step]) -> None:
    bootstrap.append(step("waits"))
    assert run(ctx)[0].items[0].detail == "vdb"
    assert ctx.status.read()["work"] == {}


def test_an_empty_stage_is_done_and_the_mount_stage_leaves_its_mark(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(stages.STAGES, Stage.MOUNT, ())
    assert run(ctx, Stage.MOUNT) == []
    assert ctx.status.read()["stages"]["mount"]["state"] == "done"
    assert ctx.host.exists(stages.MOUNTING)


def test_a_stage_that_is_held_up_names_the_holder(ctx: Context, bootstrap: list[Step]) -> None:
    bootstrap.append(step("fine"))
    with stages.stage_lock(ctx.host, "stage mount"), pytest.raises(Busy) as caught:
        run(ctx)
    assert f"process {os.getpid()} (stage mount)" in str(caught.value)
    assert stages.exit_status(caught.value) == 75
    run(ctx)  # and is free again


def test_stages_in_two_threads_never_overlap(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, worst = [0], [0]
    gate = threading.Lock()

    def work() -> None:
        with stages.stage_lock(ctx.host, "x", timeout=10):
            with gate:
                inside[0] += 1
                worst[0] = max(worst[0], inside[0])
            threading.Event().wait(0.02)
            with gate:
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert worst == [1]


def test_a_full_run_folder_costs_the_record_and_not_the_boot(
    ctx: Context, bootstrap: list[Step], tmp_path: Path
) -> None:
    bootstrap.append(step("fine"))
    (tmp_path / "run/gandi/status.json").mkdir(parents=True)  # can be neither read nor replaced
    assert [report.outcome for report in run(ctx)] == [Outcome.CHANGED]


def test_wrong_settings_are_noted_once_with_their_line(
    ctx: Context, bootstrap: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[str] = []
    monkeypatch.setattr(
        "agent.systemd.journal.Journal.setting", lambda _self, file, p: noted.append(f"{file}:{p.line}")
    )
    ctx.host.write("/etc/default/gandi", "#\nCONFIG_NETWORK=maybe\n")
    run(ctx)
    run(ctx)
    assert noted == ["/etc/default/gandi:2"]
    assert ctx.status.read()["notes"]["settings"][0]["line"] == 2
    ctx.host.write("/etc/default/gandi", "")
    run(ctx)
    assert "settings" not in ctx.status.read()["notes"]


def test_plan_changes_nothing_and_says_what_it_would_do(tmp_path: Path, bootstrap: list[Step]) -> None:
    bootstrap.append(Step("writes", f"{__name__}:writes"))
    dry = context(Host(tmp_path, dry_run=True))
    [(report, effects)] = list(stages.plan(dry, Stage.BOOTSTRAP))
    assert report.outcome is Outcome.CHANGED
    assert effects == ("write /etc/motd (0644, 2 bytes)",)
    assert list(tmp_path.iterdir()) == []


def writes(ctx: Context) -> Iterator[Item]:
    ctx.host.write("/etc/motd", "hi")
    yield changed("motd")


def test_a_full_run_folder_costs_the_holders_name_and_not_the_stage(
    ctx: Context, bootstrap: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    bootstrap.append(step("fine"))
    assert [report.outcome for report in run(ctx)] == [Outcome.CHANGED]


def test_a_step_for_a_part_is_not_imported_without_it(ctx: Context) -> None:
    one = Step("ntp", "agent.steps.no_such_module:apply", config_field="system.ntp")
    ctx.config = CONFIG
    assert stages.run_step(ctx, one).items == ()
    ctx.config = records.replace(CONFIG, system=System(locale="C"))
    assert stages.run_step(ctx, one).items == ()
    ctx.config = records.replace(CONFIG, system=System(ntp=Ntp(("192.0.2.1",))))
    assert stages.run_step(ctx, one).outcome is Outcome.FAILED, "now it is"


def test_the_fields_of_steps_are_in_the_model() -> None:
    for one in (step for steps in stages.STAGES.values() for step in steps if step.config_field):
        of: type = model.InstanceConfig
        for name in one.config_field.split("."):
            assert name in {field.name for field in records.fields(of)}, one.config_field
            of = System
