"""``rerun script``: when it is refused, and which records it removes."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.cli import rerun
from agent.config.model import Identity, InstanceConfig, Script
from agent.context import Context, context
from agent.host.host import Host
from agent.lib.errors import ConfigError
from agent.report import Item
from agent.steps import script
from agent.systemd import transient

IDENTITY = Identity("gandi", "1")
SCRIPT = Script("script", "0" * 64)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A machine on which the script was started."""
    host = Host(tmp_path)
    state = context(host).state
    state.set_instance(IDENTITY)
    state.store_config(InstanceConfig(IDENTITY, scripts=(SCRIPT,)), {"script": b"#!/bin/sh\n"})
    state.mark_done(f"script-{SCRIPT.digest[:32]}")
    return host


def test_it_is_taken_back_that_it_was_started(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [str(item) for item in _apply(host)] == ["unchanged: script: was started before"]
    monkeypatch.setattr(Host, "live", property(lambda _host: True))
    monkeypatch.setattr(Host, "path", lambda host, name: f"{host.root}/{name.lstrip('/')}")
    ran: list[str] = []

    def run(_ctx: Context, jobs: list[script._Job]) -> tuple[Item, ...]:
        ran.extend(one.script.name for one in jobs)
        return ()

    monkeypatch.setattr(script, "_run", run)
    assert rerun.script(host) == 0
    assert ran == ["script"]
    assert capsys.readouterr().out.startswith("scripts: ")


def _apply(host: Host) -> list[object]:
    ctx = context(host)
    ctx.config = ctx.state.config()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Host, "live", property(lambda _host: True))
        patch.setattr(Host, "path", lambda host, name: f"{host.root}/{name.lstrip('/')}")
        return list(script.apply(ctx))


def test_not_while_it_runs(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transient, "is_running", lambda _host, unit: unit == script.UNIT)
    with pytest.raises(ConfigError, match="still runs"):
        rerun.script(host)
    assert context(host).state.is_done(f"script-{SCRIPT.digest[:32]}")


def test_not_while_something_of_it_is_left(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.write(f"/run/systemd/transient/{script.UNIT}.service", "")
    monkeypatch.setattr(transient, "is_running", lambda _host, _unit: False)
    with pytest.raises(ConfigError, match="are still running"):
        rerun.script(host)


def test_not_without_a_script(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no script"):
        rerun.script(Host(tmp_path))
