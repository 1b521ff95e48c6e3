"""What the platform delivers no longer; and which NIC went with which."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import HostError
from agent.host import Host
from agent.model import Identity
from agent.report import Outcome
from agent.state import State


@pytest.fixture
def state(tmp_path: Path) -> State:
    state = State(Host(tmp_path))
    state.adopt(Identity("gandi", "1"))
    return state


def _settle(state: State, live: str | None) -> None:
    state.settle("x", delivered="d", wanted="w", live=live, apply=lambda: None)


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
    assert state.applied("x") == ()


def test_an_undoing_that_fails_is_tried_again(state: State) -> None:
    _settle(state, None)

    def refuse() -> None:
        raise HostError("busy")

    with pytest.raises(HostError, match="busy"):
        state.withdraw("x", live="w", undo=refuse)
    assert state.applied("x") == ("x",)


def test_pairs_survive_and_an_equal_set_writes_nothing(state: State) -> None:
    assert state.pairs() == {}
    state.store_pairs({0: "52:54:00:00:00:01", 10: "52:54:00:00:00:02"})
    file = Path(state.host.path(f"{state.folder()}/nics.json"))
    before = file.stat().st_mtime_ns
    again = State(state.host)
    assert again.pairs() == {0: "52:54:00:00:00:01", 10: "52:54:00:00:00:02"}
    again.store_pairs(again.pairs())
    assert file.stat().st_mtime_ns == before
    assert file.stat().st_mode & 0o777 == 0o600
