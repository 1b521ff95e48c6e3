"""Facts about data disks: the latest of any number."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.host.host import Host
from agent.state import json_file, store
from agent.state.store import FOLDER, State


@pytest.fixture
def remember(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Remember a filesystem a second after the one before; return all that are remembered. An older agent
    has left one, without a time; one is damaged, and has no time either.
    """
    state = State(Host(tmp_path))
    monkeypatch.setattr(store, "MOST_DISKS", 4)
    now = iter(range(100, 200))
    monkeypatch.setattr(time, "time", lambda: next(now))
    before = {"old": {"at": "/srv/old"}, "bad": {"at": "/srv/bad", "changed": [1]}}
    json_file.store(state.host, f"{FOLDER}/disks.json", {"disks": before})

    def call(uuid: str, **facts: object) -> list[str]:
        state.remember_disk(uuid, **facts)
        return sorted(State(state.host).disks())

    return call


def test_those_that_changed_longest_ago_are_forgotten(remember: Callable[..., list[str]]) -> None:
    remember("folder", at="/srv/a", made=True)
    remember("first", at="/srv/b")
    assert remember("second", at="/srv/c") == ["bad", "first", "folder", "second"]
    remember("first", size=10)
    assert remember("third", at="/srv/d") == ["bad", "first", "folder", "third"]
    assert remember("fourth", at="/srv/e") == ["bad", "folder", "fourth", "third"]


def test_folders_of_the_agent_and_the_latest_are_not_forgotten(remember: Callable[..., list[str]]) -> None:
    made = ["m0", "m1", "m2", "m3", "m4"]
    for name in made:
        remember(name, at=f"/srv/{name}", made=True)
    assert remember("latest", at="/srv/x") == ["latest", *made]
    assert remember("m0", made=None) == ["m0", *made[1:]]


def test_the_same_facts_are_no_change(remember: Callable[..., list[str]]) -> None:
    remember("first", at="/srv/a", made=None)
    remember("second", at="/srv/b")
    remember("first", at="/srv/a")
    assert remember("third", at="/srv/c") == ["bad", "first", "second", "third"]
    assert remember("fourth", at="/srv/d") == ["bad", "fourth", "second", "third"]
