"""The file of CONFIG_METRICS_FILE: when and where it is written, and what is counted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent import stages
from agent.config.settings import Settings
from agent.context import Context, context
from agent.host.host import Host
from agent.lib.errors import HostError
from agent.metrics import file as metrics
from agent.report import StageReport, StepReport, changed, failed, skipped
from tests.unit.metrics.test_exposition import check

NAME = "/var/metrics/gandi.prom"


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    """A machine with the setting, and the folder of the file."""
    (tmp_path / "etc/default").mkdir(parents=True)
    (tmp_path / "etc/default/gandi").write_text(f"CONFIG_METRICS_FILE={NAME}\n")
    (tmp_path / "var/metrics").mkdir(parents=True, mode=0o755)
    return context(Host(tmp_path))


def written(ctx: Context) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return the values in the file."""
    return check((Path(ctx.host.root) / NAME[1:]).read_text())


def test_events_and_growths_are_counted(ctx: Context) -> None:
    grown = StepReport("vdb", (changed("vdb1", "grown from 1.00 GiB to 2.00 GiB"),), 0.1)
    for report in (grown, grown, StepReport("vdc", (failed("vdc", "no room"),), 0.1)):
        metrics.event_ended(ctx, "disk", report)
    found = written(ctx)
    assert found["gandi_agent_events_total", ("disk", "changed")] == 2
    assert found["gandi_agent_events_total", ("disk", "failed")] == 1
    assert found["gandi_agent_growths_total", ()] == 2
    assert found["gandi_agent_last_error_timestamp_seconds", ()] > 1e9
    assert os.stat(Path(ctx.host.root) / NAME[1:]).st_mode & 0o777 == 0o644
    assert os.listdir(Path(ctx.host.root) / "var/metrics") == ["gandi.prom"], "no other file is left there"


def test_a_stage_writes_it_at_its_end(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        stages, "steps", lambda *_a, **_k: iter([StepReport("disks", (skipped("vdb", "x"),), 0.1)])
    )
    stages.run(ctx, stages.Stage.MOUNT, lambda _report: None)
    found = written(ctx)
    assert found["gandi_agent_stage_success", ("mount",)] == 1
    assert found["gandi_agent_items", ("skipped",)] == 1


def test_without_the_setting_nothing_is_written_or_imported(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise AssertionError("called")

    assert not Settings().metrics_file
    (Path(ctx.host.root) / "etc/default/gandi").write_text("")
    monkeypatch.setattr(metrics, "stage_ended", refuse)
    monkeypatch.setattr(stages, "steps", lambda *_a, **_k: iter(()))
    stages.run(ctx, stages.Stage.MOUNT, lambda _report: None)
    assert not os.listdir(Path(ctx.host.root) / "var/metrics")


def test_damaged_counts_begin_again(ctx: Context) -> None:
    for text in (
        "[]",
        "{",
        "[" * 5000,
        '{"growths": null}',
        '{"growths": Infinity}',
        '{"events": {"disk": []}}',
    ):
        ctx.host.write(metrics.COUNTS, text)
        metrics.stage_ended(ctx, StageReport("mount", (), 0.1))
        assert written(ctx)["gandi_agent_growths_total", ()] == 0


def test_a_disk_that_failed_in_the_boot_and_works_now_is_not_failed(ctx: Context) -> None:
    report = StageReport(
        "mount", (StepReport("disks", (failed("vdb1", "x"), failed("vdbc", "x")), 0.1),), 0.1
    )
    ctx.status.stage_ended(report)
    metrics.stage_ended(ctx, report)
    assert written(ctx)["gandi_agent_disks", ("failed",)] == 2
    ctx.status.merge("devices", "vdb", {"role": "disk", "outcome": "changed", "items": []})
    metrics.event_ended(ctx, "disk", StepReport("vdb", (changed("vdb1"),), 0.1))
    assert written(ctx)["gandi_agent_disks", ("failed",)] == 1


@pytest.mark.parametrize("mode", [0o775, 0o777])
def test_a_folder_that_others_can_change_is_refused(ctx: Context, mode: int) -> None:
    folder = Path(ctx.host.root) / "var/metrics"
    folder.chmod(mode)
    with pytest.raises(HostError, match="root") as refused:
        metrics.stage_ended(ctx, StageReport("mount", (), 0.1))
    assert refused.value.hint
    assert not os.listdir(folder)


def test_a_missing_folder_is_named_and_not_made(ctx: Context) -> None:
    folder = Path(ctx.host.root) / "var/metrics"
    folder.rmdir()
    with pytest.raises(HostError, match=r"CONFIG_METRICS_FILE: /var/metrics/gandi\.prom"):
        metrics.stage_ended(ctx, StageReport("mount", (), 0.1))
    assert not folder.exists()


def test_a_link_in_its_place_is_replaced_and_not_followed(ctx: Context) -> None:
    target = Path(ctx.host.root) / "target"
    target.write_text("kept")
    (Path(ctx.host.root) / NAME[1:]).symlink_to(target)
    metrics.stage_ended(ctx, StageReport("mount", (), 0.1))
    assert target.read_text() == "kept"
    assert written(ctx)


def test_a_refused_file_does_not_fail_the_stage(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    (Path(ctx.host.root) / "var/metrics").rmdir()
    monkeypatch.setattr(stages, "steps", lambda *_a, **_k: iter(()))
    assert not stages.run(ctx, stages.Stage.MOUNT, lambda _report: None).failed
