"""Idle exit of the daemon, with simulated times."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from agent.context import Context, context
from agent.daemon.idle_exit import IdleExit
from agent.lib.errors import HostError
from agent.lib.records import dataclass
from agent.stages import Stage
from agent.systemd import units
from agent.udev.monitor import Uevents
from tests.unit.daemon.test_dispatcher import SystemdSays

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Socket(Uevents):
    """Count how often the filter is requested."""

    filters: int = 0
    refuses: bool = False

    def attach_tag_filter(self) -> None:
        self.filters += 1
        if self.refuses:
            raise HostError("no filter")


@pytest.fixture
def systemds(host: SystemdSays) -> Iterator[Socket]:
    with socket.socket() as given:
        yield Socket(host, given)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SystemdSays:
    host = SystemdSays(tmp_path, "starting")
    monkeypatch.setattr(units, "system_state", host.state)
    return host


@pytest.fixture
def ctx(host: SystemdSays) -> Context:
    made = context(host)
    made.status.merge("stages", Stage.POSTBOOT, {"state": "done"})
    host.write("/etc/default/gandi", "CONFIG_IDLE_EXIT=60\n")
    return made


def test_it_leaves_after_the_time_without_work_and_not_before(ctx: Context, systemds: Socket) -> None:
    rest = IdleExit(ctx)
    asked = {
        now: rest.may_exit(now, systemds, at_work=now < 100) for now in (0.0, 99.0, 100.0, 110.0, 159.9)
    }
    assert not any(asked.values())
    assert (rest.wake_at, systemds.filters) == (160.0, 1)
    assert rest.may_exit(160.0, systemds, at_work=False)
    assert systemds.filters == 1


def test_work_begins_the_time_anew(ctx: Context, systemds: Socket) -> None:
    rest = IdleExit(ctx)
    rest.may_exit(0.0, systemds, at_work=False)
    assert not rest.may_exit(60.0, systemds, at_work=True)
    assert rest.wake_at == 65.0, "threads that end wake nobody"
    assert not rest.may_exit(70.0, systemds, at_work=False)
    rest.reset()
    assert not rest.may_exit(130.0, systemds, at_work=False)
    assert rest.may_exit(190.0, systemds, at_work=False)


def test_resident_it_stays_and_is_woken_for_the_filter_alone(ctx: Context, systemds: Socket) -> None:
    ctx.host.write("/etc/default/gandi", "CONFIG_IDLE_EXIT=0\n")
    rest = IdleExit(ctx)
    assert not rest.may_exit(0.0, systemds, at_work=False)
    assert (rest.wake_at, systemds.filters) == (10.0, 0)
    assert not rest.may_exit(10.0, systemds, at_work=False)
    assert (rest.wake_at, systemds.filters) == (None, 1)
    assert not rest.may_exit(1e6, systemds, at_work=True)
    assert rest.wake_at is None


def test_without_a_socket_that_outlives_it_it_stays(ctx: Context, host: SystemdSays) -> None:
    own, rest = Socket(host), IdleExit(ctx)
    for now in (0.0, 10.0, 1e6):
        assert not rest.may_exit(now, own, at_work=False)
    assert (rest.wake_at, own.filters) == (None, 1)


def test_without_the_filter_it_stays_and_says_why(ctx: Context, systemds: Socket) -> None:
    systemds.refuses = True
    rest = IdleExit(ctx)
    for now in (0.0, 10.0, 1e6):
        assert not rest.may_exit(now, systemds, at_work=False)
    assert (rest.wake_at, systemds.filters) == (None, 1)
    assert "no filter" in ctx.status.read()["notes"]["device events"]


@pytest.mark.parametrize(("word", "over"), [("starting", False), ("stopping", False), ("degraded", True)])
def test_it_waits_for_the_end_of_the_boot(
    ctx: Context, host: SystemdSays, systemds: Socket, word: str, over: bool
) -> None:
    """Without a last stage, the state of systemd decides."""
    ctx.status.merge("stages", Stage.POSTBOOT, None)
    host.word, rest = word, IdleExit(ctx)
    assert not any(rest.may_exit(now, systemds, at_work=False) for now in (0.0, 10.0))
    assert rest.may_exit(60.0, systemds, at_work=False) is over
    assert over or rest.wake_at == 65.0
