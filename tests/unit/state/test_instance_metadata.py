"""The platform's metadata of the machine, for each user what they may read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.config.model import Identity, InstanceConfig
from agent.host.host import Host
from agent.lib.errors import ConfigError
from agent.state import instance_metadata
from agent.state.store import State


@pytest.fixture
def state(tmp_path: Path) -> State:
    state = State(Host(tmp_path))
    state.set_instance(Identity("openstack", "one"))
    state.store_config(InstanceConfig(Identity("openstack", "one")), {"user-data": b"#!/bin/sh\n\xff"})
    instance_metadata.publish(state.host, {"availability-zone": "nova", "name": "vm1"})
    return state


def test_everybody_may_read_the_values(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert instance_metadata.keys(state.host, state) == ["availability-zone", "name"]
    assert instance_metadata.value(state.host, state, "name") == b"vm1"
    assert (Path(state.host.root) / "run/gandi/metadata.json").stat().st_mode & 0o044 == 0o044


def test_the_user_data_is_roots(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert instance_metadata.value(state.host, state, "user-data") == b"#!/bin/sh\n\xff"
    assert "user-data" in instance_metadata.keys(state.host, state)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match="must be run as root"):
        instance_metadata.value(state.host, state, "user-data")


def test_a_key_that_is_not_there_names_those_that_are(state: State) -> None:
    with pytest.raises(ConfigError) as caught:
        instance_metadata.value(state.host, state, "zone")
    assert "availability-zone" in caught.value.hint


def test_a_machine_that_nothing_is_known_of(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert instance_metadata.keys(host, State(host)) == []
    for key in ("name", "user-data"):
        with pytest.raises(ConfigError):
            instance_metadata.value(host, State(host), key)
