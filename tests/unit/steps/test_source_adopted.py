"""The first document of a machine that was set up before the agent, and of its clone."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.model import Identity
from agent.context import context
from agent.host.host import Host
from agent.report import Outcome
from agent.state import adopted
from agent.state.store import State
from tests.unit.steps.test_source import OTHER, UUID, Machine


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path, monkeypatch)
    machine.put("proc/sys/kernel/random/boot_id", "first\n")
    host, identity = Host(tmp_path), Identity(adopted.SOURCE, UUID)
    adopted.record_adoption(host, identity, [])
    State(host).set_instance(identity, dmi_uuid=UUID)
    return machine


def _untouched(machine: Machine) -> bool:
    state = context(Host(machine.root)).state
    return adopted.has_first_document_only(state.host, state.identity(), state.folder())


def test_without_a_medium_it_stays_as_it_was(machine: Machine) -> None:
    ctx, items = machine.boot()
    assert ctx.config is None
    assert items["source"].outcome is Outcome.SKIPPED
    assert "as it was before the agent" in items["source"].detail
    assert _untouched(machine)


def test_the_first_document_names_it_and_is_in_force(machine: Machine) -> None:
    machine.deliver()
    ctx, items = machine.boot()
    assert ctx.config is not None
    assert ctx.config.identity == Identity("gandi", UUID)
    assert "the first document of a machine that was set up before the agent" in items["source"].detail
    assert _untouched(machine)
    assert machine.boot()[1]["source"].outcome is Outcome.UNCHANGED
    assert _untouched(machine)
    machine.deliver(vm_hostname="another")
    assert machine.boot()[1]["source"].detail.endswith("a changed document")
    assert not _untouched(machine)


def test_a_clone_with_a_medium_is_a_new_instance(machine: Machine) -> None:
    machine.uuid(OTHER)
    machine.deliver()
    _, items = machine.boot()
    assert items["source"].detail == "/dev/vdb, a new instance"
    assert not _untouched(machine)


def test_a_power_cut_before_it_has_its_name_costs_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.deliver()
    with monkeypatch.context() as cut:
        cut.setattr(State, "set_instance", lambda *_args, **_named: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            machine.boot()
    _, items = machine.boot()
    assert "set up before the agent" in items["source"].detail
    assert _untouched(machine)
