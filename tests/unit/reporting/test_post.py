"""The verdict for CONFIG_REPORT_URL: what is posted, once, and what the status says of it. The unit is not
run: tests/system/test_posting.py runs its program.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.context import Context, context
from agent.host import processes
from agent.host.host import Host
from agent.network import online
from agent.programs import poster
from agent.report import StageReport, StepReport, failed
from agent.reporting import post
from agent.stages import Stage
from agent.systemd import units

if TYPE_CHECKING:
    from tests.unit.conftest import FakePid1

URL = "https://192.0.2.1/reports?token=secret"


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    made = Host(tmp_path)
    made.write("/etc/default/gandi", f'CONFIG_REPORT_URL="{URL}"\n')
    made.write("/sys/class/dmi/id/product_uuid", "6a1d8f5e-52a5-4c39-9d0c-000000000001\n")
    return context(made)


def end(ctx: Context, *stages: Stage) -> None:
    broken = StepReport("users", (failed("user:daemon", "of the system", "use another"),), 0.1)
    for stage in stages:
        ctx.status.stage_ended(StageReport(stage, (broken,) if stage is Stage.CONFIG else (), 0.5))


def test_it_is_due_once_when_the_boot_has_ended(ctx: Context, fake_pid1: FakePid1) -> None:
    end(ctx, Stage.BOOTSTRAP, Stage.MOUNT, Stage.CONFIG)
    assert not post.is_due(ctx)
    end(ctx, Stage.POSTBOOT)
    assert post.is_due(ctx)
    post.post(ctx)
    assert not post.is_due(ctx)
    assert len(fake_pid1.started) == 1


def test_without_a_url_it_is_never_due(ctx: Context) -> None:
    ctx.host.write("/etc/default/gandi", "")
    end(ctx, *Stage)
    assert not post.is_due(ctx)


def test_what_is_posted_and_how(ctx: Context, fake_pid1: FakePid1) -> None:
    end(ctx, *Stage)
    fake_pid1.begins = lambda _unit, _said: ctx.host.write(post.RESULT, "sent: HTTP status 200\n")
    post.post(ctx)
    assert fake_pid1.joined == [online.TARGET]
    ((unit, said),) = fake_pid1.started
    assert unit == "gandi-report.service"
    assert said["Type"] == ("exec",), "a boot does not wait for it"
    assert "setpriv" in said["ExecStart"][0]
    assert URL not in str(said), "users may read a unit's properties"
    assert said["StandardInputFile"] == (post.REQUEST,)
    assert os.stat(ctx.host.path(post.REQUEST)).st_mode & 0o777 == 0o600
    request = json.loads(ctx.host.read(post.REQUEST) or "")
    assert (request["url"], request["tries"]) == (URL, 3)
    document = json.loads(request["json"])
    assert (document["version"], document["type"], document["result"]) == (1, "boot", "failed")
    assert document["verdict"].startswith("failed: ")
    assert document["uuid"] == "6a1d8f5e-52a5-4c39-9d0c-000000000001"
    assert document["hostname"] == os.uname().nodename
    assert document["instance"] == ""
    ((item, hint),) = [(one["item"], one["hint"]) for one in document["failed"]]
    assert (item, hint) == ("user:daemon", "use another")
    assert ctx.status.read()["notes"] == {post.NOTE: "sent: HTTP status 200"}


def test_a_program_that_says_nothing_and_a_network_that_does_not_come(
    ctx: Context, fake_pid1: FakePid1, monkeypatch: pytest.MonkeyPatch
) -> None:
    end(ctx, *Stage)
    waits = list[float]()
    monkeypatch.setattr(units, "main_process", lambda *_: 1)
    monkeypatch.setattr(processes, "wait_for_exit", lambda _pid, seconds: waits.append(seconds))
    post.post(ctx)
    assert waits == [150]
    assert ctx.status.read()["notes"][post.NOTE] == "not sent (see: journalctl -b -u gandi-report)"

    fake_pid1.ends = lambda _unit: ""
    post.post(ctx)
    assert (
        ctx.status.read()["notes"][post.NOTE] == "not sent: network-online.target: not reached within 330 s"
    )
    assert len(fake_pid1.started) == 1


def test_however_much_has_failed_the_program_takes_the_request(ctx: Context, fake_pid1: FakePid1) -> None:
    text = "\U0001f4a5" * 1000
    broken = StepReport("files", tuple(failed(text, text, text) for _ in range(post.FAILED + 7)), 0.1)
    for stage in Stage:
        ctx.status.stage_ended(StageReport(stage, (broken,) if stage is Stage.CONFIG else (), 0.5))
    post.post(ctx)
    request = ctx.host.read(post.REQUEST) or ""
    document = json.loads(json.loads(request)["json"])
    assert (len(document["failed"]), document["failed_left_out"]) == (post.FAILED, 7)
    assert len(request.encode()) < poster._LIMIT


def test_a_daemon_that_is_stopped_meanwhile_leaves_a_note(
    ctx: Context, fake_pid1: FakePid1, monkeypatch: pytest.MonkeyPatch
) -> None:
    end(ctx, *Stage)

    def stop(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(online, "wait", stop)
    with pytest.raises(SystemExit):
        post.post(ctx)
    assert ctx.status.read()["notes"][post.NOTE].startswith("begun, and not known how it ended")
