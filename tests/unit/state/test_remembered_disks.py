"""Facts about data disks: the latest of any number."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.host.host import Host
from agent.state import json_file, remembered_disks
from agent.state.remembered_disks import FILE
from agent.state.store import State


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(Host(tmp_path))


def test_disks_that_changed_longest_ago_are_forgotten(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of which the folder is the agent's, nor the latest. An older agent has stored no order."""
    monkeypatch.setattr(remembered_disks, "MOST", 3)
    json_file.store(state.host, FILE, {"disks": {"old": {"at": "/srv/old"}}})
    state.remember_disk("folder", at="/srv/a", made=True)
    state.remember_disk("first", at="/srv/b")
    state.remember_disk("second", at="/srv/c")
    assert list(state.disks()) == ["first", "folder", "second"]
    state.remember_disk("first", size=10)
    state.remember_disk("third", at="/srv/d")
    assert list(state.disks()) == ["first", "folder", "third"]
    state.remember_disk("folder", made=None)
    state.remember_disk("fourth", at="/srv/e")
    assert list(state.disks()) == ["folder", "fourth", "third"]


@pytest.mark.parametrize("order", [7, "text", [7, [], {}, "u1", "u1", "gone"]])
def test_a_stored_order_that_no_agent_stored_costs_nothing(state: State, order: object) -> None:
    json_file.store(state.host, FILE, {"disks": {"u1": {}}, "order": order})
    state.remember_disk("u2", at="/srv/a")
    assert json_file.load(state.host, FILE) == {
        "version": 1,
        "disks": {"u1": {}, "u2": {"at": "/srv/a"}},
        "order": ["u1", "u2"],
    }
