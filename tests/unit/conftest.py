"""A fake of PID 1, which records the calls that would go to it, and a machine that records commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.host.host import Completed, Host
from agent.lib.records import dataclass, field
from agent.systemd import libsystemd

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agent.systemd.libsystemd import Property

#: The values of a unit's properties, by name.
UnitProperties = dict[str, tuple[str, ...]]


class Asked(Host):
    """A machine in a folder that records the commands run."""

    __slots__ = ("argvs",)

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.argvs = list[tuple[str, ...]]()

    def run(self, argv: Sequence[str], **_how: object) -> Completed:
        self.argvs.append(tuple(argv))
        return Completed(tuple(argv), 0, "", "")

    def knows(self, unit: str) -> None:
        """Simulate that PID 1 has loaded the transient unit."""
        self.write(f"/run/systemd/transient/{unit}.service", "")


@dataclass(slots=True)
class FakePid1:
    """The recorded calls, in order; a test sets their results by the last four fields."""

    #: Transient units, each with its properties.
    started: list[tuple[str, UnitProperties]] = field(default_factory=list)
    #: Other units that were started, or whose start was joined.
    joined: list[str] = field(default_factory=list)
    #: Units whose state was queried.
    queried: list[str] = field(default_factory=list)
    #: Units that were stopped.
    stopped: list[str] = field(default_factory=list)
    #: Seconds that were waited for the start of each.
    timeouts: dict[str, float] = field(default_factory=dict)
    #: What a transient unit does; it may raise HostError.
    begins: Callable[[str, UnitProperties], object] = lambda _unit, _said: None
    #: How the start of another ends; it may raise HostError.
    ends: Callable[[str], str] = lambda _unit: "done"
    #: The state of a unit.
    state: Callable[[str], str] = lambda _unit: "inactive"

    #: The file of a unit that is loaded.
    loaded: Callable[[str], str] = lambda _unit: ""

    def start_transient(self, unit: str, properties: Sequence[Property], *, timeout: float) -> None:
        """As ``libsystemd.start_transient``; a property that could not be sent fails here too."""
        said = UnitProperties()
        for name, kind, *values in properties:
            assert kind in ("s", "b", "as", "t", "ay", "a(sasb)")
            assert list(libsystemd._arguments(name, kind, *values))
            assert name not in said or kind == "as", "the one before would be lost; only a list goes on"
            said[name] = (*said.get(name, ()), *values)
        self.started.append((unit, said))
        self.timeouts[unit] = timeout
        self.begins(unit, said)

    def start(self, unit: str, *, timeout: float) -> str:
        """As ``libsystemd.start``."""
        self.joined.append(unit)
        self.timeouts[unit] = timeout
        return self.ends(unit)

    def stop(self, unit: str, *, timeout: float) -> str:
        """As ``libsystemd.stop``."""
        assert timeout > 0
        self.stopped.append(unit)
        return "done"

    def active_state(self, unit: str, *, timeout: float) -> str:
        """As ``libsystemd.active_state``."""
        assert timeout > 0
        self.queried.append(unit)
        return self.state(unit)

    def fragment(self, unit: str, *, timeout: float) -> str:
        """As ``libsystemd.fragment``."""
        assert timeout > 0
        return self.loaded(unit)


@pytest.fixture(autouse=True)
def _no_pid1(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks the PID 1 of the machine that it runs on."""
    monkeypatch.setattr(libsystemd, "_ADDRESS", b"unix:path=/nonexistent/private")


@pytest.fixture
def fake_pid1(monkeypatch: pytest.MonkeyPatch) -> FakePid1:
    """No unit is started; all are inactive."""
    fake = FakePid1()
    for name in ("start_transient", "start", "stop", "active_state", "fragment"):
        monkeypatch.setattr(libsystemd, name, getattr(fake, name))
    return fake
