"""Items that are no longer delivered; and the pairs of NICs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.config.model import Identity
from agent.host.host import Host
from agent.lib.errors import HostError
from agent.report import Outcome
from agent.state.store import State


@pytest.fixture
def state(tmp_path: Path) -> State:
    state = State(Host(tmp_path))
    state.set_instance(Identity("gandi", "1"))
    return state


def _settle(state: State, live: str | None) -> None:
    state.reconcile("x", delivered="d", wanted="w", live=live, apply=lambda: None)


@pytest.mark.parametrize(
    ("why", "before", "now", "outcome", "undone"),
    [
        ("ours, as we left it", None, "w", Outcome.CHANGED, True),
        ("ours, changed since", None, "other", Outcome.KEPT, False),
        ("ours, removed since", None, None, Outcome.UNCHANGED, False),
        ("there before us", "w", "w", Outcome.KEPT, False),
        ("another's, which we replaced", "old", "w", Outcome.CHANGED, True),
    ],
)
def test_only_our_own_doing_is_undone(
    state: State, why: str, before: str | None, now: str | None, outcome: Outcome, undone: bool
) -> None:
    _settle(state, before)
    _settle(state, "w")  # the next boot finds it in place
    undo: list[str] = []
    assert state.withdraw("x", live=now, undo=lambda: undo.append(why)).outcome is outcome
    assert bool(undo) is undone, why
    assert state.recorded_items("x") == ()


@pytest.mark.parametrize("way", [{"parts": ""}, {"exclusive": True}], ids=str)
def test_what_a_cut_run_applied_without_the_record_of_it_is_ours(state: State, way: dict[str, Any]) -> None:
    """A power cut loses the record; what was there before the item was begun stays."""
    live: list[str] = []

    def cut() -> None:
        live.append("w")
        raise HostError("power cut")

    with pytest.raises(HostError, match="power cut"):
        state.reconcile("x", delivered="d", wanted="w", live=None, apply=cut, **way)
    state.reconcile("x", delivered="d", wanted="w", live=live[0], apply=lambda: None, **way)
    assert state.begun_parts("x") is None
    assert state.withdraw("x", live="w", undo=live.clear).outcome is Outcome.CHANGED
    assert live == []


def test_a_line_in_a_file_of_others_that_was_there_before_stays(state: State) -> None:
    state.reconcile("x", delivered="d", wanted="w", live="w", apply=lambda: None, parts="")
    assert state.withdraw("x", live="w", undo=lambda: None).outcome is Outcome.KEPT


def test_an_undoing_that_fails_is_tried_again(state: State) -> None:
    _settle(state, None)

    def refuse() -> None:
        raise HostError("busy")

    with pytest.raises(HostError, match="busy"):
        state.withdraw("x", live="w", undo=refuse)
    assert state.recorded_items("x") == ("x",)


def test_pairs_survive_and_an_equal_set_writes_nothing(state: State) -> None:
    assert state.nic_pairs() == {}
    state.store_nic_pairs({0: "52:54:00:00:00:01", 10: "52:54:00:00:00:02"})
    file = Path(state.host.path(f"{state.folder()}/nics.json"))
    before = file.stat().st_mtime_ns
    again = State(state.host)
    assert again.nic_pairs() == {0: "52:54:00:00:00:01", 10: "52:54:00:00:00:02"}
    again.store_nic_pairs(again.nic_pairs())
    assert file.stat().st_mtime_ns == before
    assert file.stat().st_mode & 0o777 == 0o600
