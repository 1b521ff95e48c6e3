"""The state's files, and the rule of three values."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from agent.config import model, nics
from agent.host.host import Host
from agent.lib.errors import HostError
from agent.report import KEPT_BY_ADMIN, Outcome
from agent.state.json_file import Damaged
from agent.state.store import FOLDER, State


@pytest.fixture
def state(tmp_path: Path) -> State:
    state = State(Host(tmp_path))
    state.set_instance(model.Identity("gandi", "4c4c4544-0000-1000-8000-000000000001"))
    return state


class Live:
    """A value of the machine, and a call that reconciles it."""

    def __init__(self, state: State, value: str | None) -> None:
        self.state, self.value = state, value

    def reconcile(self, delivered: str, wanted: str | None = None) -> Outcome:
        text = delivered if wanted is None else wanted

        def apply() -> None:
            self.value = text

        item = self.state.reconcile("x", delivered=delivered, wanted=text, live=self.value, apply=apply)
        if item.outcome is Outcome.KEPT:
            assert item.detail == KEPT_BY_ADMIN
        return item.outcome


def test_first_delivery_is_applied_and_the_second_is_unchanged(state: State) -> None:
    live = Live(state, None)
    assert live.reconcile("a") is Outcome.CHANGED
    assert live.reconcile("a") is Outcome.UNCHANGED


def test_the_administrator_wins_until_the_platform_delivers_something_else(state: State) -> None:
    live = Live(state, None)
    live.reconcile("a")
    live.value = "mine"
    assert live.reconcile("a") is Outcome.KEPT
    assert live.value == "mine"
    live.value = None
    assert live.reconcile("a") is Outcome.KEPT, "what the administrator removed stays away"
    assert live.reconcile("b") is Outcome.CHANGED
    assert live.value == "b"


def test_what_is_already_so_is_recorded_as_applied(state: State) -> None:
    live = Live(state, "a")
    assert live.reconcile("a") is Outcome.UNCHANGED
    live.value = "mine"
    assert live.reconcile("a") is Outcome.KEPT


def test_a_new_way_of_writing_the_same_delivery_is_no_change_of_the_administrators(state: State) -> None:
    live = Live(state, None)
    live.reconcile("a", wanted="[old spelling]")
    assert live.reconcile("a", wanted="[new spelling]") is Outcome.CHANGED
    live.value = "mine"
    assert live.reconcile("a", wanted="[newest spelling]") is Outcome.KEPT


def test_a_failed_application_is_tried_again(state: State) -> None:
    def refuse() -> None:
        raise HostError("no")

    for _ in range(2):
        with pytest.raises(HostError):
            state.reconcile("x", delivered="a", wanted="a", live=None, apply=refuse)
    assert Live(state, None).reconcile("a") is Outcome.CHANGED


def test_marks_last_and_belong_to_their_instance(state: State) -> None:
    assert not state.is_done("script-1")
    state.mark_done("script-1")
    assert State(state.host).is_done("script-1")
    state.set_instance(model.Identity("gandi", "another"))
    assert not state.is_done("script-1")


def test_the_configuration_survives_and_is_private(state: State) -> None:
    config = model.InstanceConfig(
        identity=state.identity() or model.Identity("", ""),
        hostname="vm1",
        nics=(nics.Nic(0, addresses=("192.0.2.1/24",), routes=(nics.Route("0.0.0.0/0", "192.0.2.254"),)),),
        users=(model.User("root", "$6$x$y", ("ssh-ed25519 AAAA",)),),
        scripts=(model.Script("script", "d", ("a", "b c")),),
    )
    state.store_config(config, {"script": b"#!/bin/sh\n"})
    assert State(state.host).config() == config
    for path in Path(state.host.path(FOLDER)).rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert state.host.read_bytes(state.script("script")) == b"#!/bin/sh\n"


def test_an_id_of_any_shape_is_a_folder_of_its_own(state: State) -> None:
    folders = set()
    for hostile in ("../../etc", "a/b", "a_b", "x" * 5000, "\n", "é"):
        state.set_instance(model.Identity("configdrive", hostile))
        folder = state.folder()
        assert Path(folder).parent == Path(f"{FOLDER}/instances")
        assert len(Path(folder).name.encode()) < 255
        folders.add(folder)
    assert len(folders) == 6


def test_a_newer_or_damaged_file_says_so(state: State) -> None:
    path = Path(state.host.path(f"{FOLDER}/instance.json"))
    path.write_text(json.dumps({"version": 99}))
    with pytest.raises(HostError, match="newer agent"):
        state.identity()
    for text in ("{", "[]", "[" * 5000, '{"version": "1"}'):
        path.write_text(text)
        with pytest.raises(Damaged, match="damaged"):
            state.identity()
    assert state.set_instance(model.Identity("gandi", "4c4c4544-0000-1000-8000-000000000001"))
    assert state.identity() == model.Identity("gandi", "4c4c4544-0000-1000-8000-000000000001")


@pytest.mark.parametrize(
    ("file", "items", "reads"),
    [
        ("applied.json", {"items": []}, lambda state: state.recorded_items("")),
        ("applied.json", {"items": {"a": "b"}}, lambda state: state.recorded_items("")),
        ("applied.json", {"items": {"a": {"left": "x"}}}, lambda state: state.is_as_applied("a", "x")),
        ("applied.json", {"items": {"a": {"left": 1, "delivered": "x"}}}, lambda state: state.forget("a")),
        ("nics.json", {"pairs": {"0": None}}, lambda state: state.nic_pairs()),
        ("nics.json", {"pairs": ["0"]}, lambda state: state.nic_pairs()),
        ("../../disks.json", {"disks": {"u1": 7}}, lambda state: state.disks()),
        ("../../instance.json", {"source": "gandi", "id": 7}, lambda state: state.identity()),
        ("../../instance.json", {"source": "gandi", "id": "\ud800"}, lambda state: state.folder()),
    ],
)
def test_values_that_no_agent_stored_are_damage(
    state: State, file: str, items: dict[str, object], reads: Callable[[State], object]
) -> None:
    state.set_instance(model.Identity("gandi", "4c4c4544-0000-1000-8000-000000000001"))
    path = Path(state.host.path(f"{state.folder()}/{file}")).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": 1} | items))
    with pytest.raises(Damaged, match=f"{path.name}: damaged"):
        reads(State(state.host))


def test_disks_are_remembered_fact_by_fact(state: State) -> None:
    state.remember_disk("u1", mountpoint="/srv/a", size=10)
    state.remember_disk("u1", size=20)
    (known,) = State(state.host).disks().values()
    assert known.pop("changed") > 0
    assert known == {"mountpoint": "/srv/a", "size": 20}


def test_an_item_of_several_files_that_was_cut_is_applied_again(state: State) -> None:
    """The live value shows only the first of them."""
    calls = list[str | None]()

    def reconcile(live: str | None, *, cut: bool = False) -> Outcome:
        def apply() -> None:
            calls.append(state.begun_parts("x"))
            if cut:
                raise HostError("no power")

        return state.reconcile("x", delivered="a", wanted="a", live=live, apply=apply, parts="home").outcome

    for live in (None, "a"):
        with pytest.raises(HostError):
            reconcile(live, cut=True)
    assert State(state.host).begun_parts("x") == "home", "it survives the process"
    assert reconcile("a") is Outcome.CHANGED
    assert calls == ["home"] * 3
    assert reconcile("a") is Outcome.UNCHANGED
    assert reconcile(None) is Outcome.KEPT, "the administrator removed it"
    assert not state.host.exists(f"{state.folder()}/begun.json")


def test_an_item_that_is_there_whole_is_not_begun(state: State) -> None:
    def apply() -> None:
        pytest.fail("applied")

    item = state.reconcile("x", delivered="a", wanted="a", live="a", apply=apply, parts="home")
    assert item.outcome is Outcome.UNCHANGED
    assert state.begun_parts("x") is None


@pytest.mark.parametrize("one_disk", [True, False])
def test_what_cannot_be_noted_is_applied_from_memory_only_where_another_disk_holds_it(
    state: State, monkeypatch: pytest.MonkeyPatch, one_disk: bool
) -> None:
    for folder in ("etc", "var/lib"):
        (Path(state.host.root) / folder).mkdir(parents=True, exist_ok=True)
    state.use_unstored_instance(model.Identity("gandi", "other"))
    real = os.stat

    class Other:
        st_dev = 0

    def refuse(*_words: object, **_how: object) -> None:
        raise HostError("no space")

    monkeypatch.setattr("agent.state.json_file.store", refuse)
    monkeypatch.setattr(
        "agent.state.store.os.stat", lambda path: real(path) if one_disk or path.endswith("etc") else Other
    )
    done = list[str]()

    def reconcile() -> Outcome:
        apply = partial(done.append, "a")
        return state.reconcile("x", delivered="a", wanted="a", live=None, apply=apply, parts="").outcome

    if one_disk:
        with pytest.raises(HostError):
            reconcile()
    else:
        assert reconcile() is Outcome.CHANGED
    assert done == ([] if one_disk else ["a"])


def test_the_time_of_a_record_is_that_of_its_value(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A boot with nothing new writes nothing, and so does not change it."""
    monkeypatch.setattr("time.time", lambda: 1000.7)
    live = Live(state, None)
    live.reconcile("a")
    file = Path(state.host.path(f"{state.folder()}/applied.json"))
    assert json.loads(file.read_bytes())["items"]["x"]["at"] == 1000
    before = file.stat().st_mtime_ns, file.stat().st_ino
    monkeypatch.setattr("time.time", lambda: 2000.0)
    assert live.reconcile("a") is Outcome.UNCHANGED
    live.value = "mine"
    assert live.reconcile("a") is Outcome.KEPT
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == before
    assert live.reconcile("b") is Outcome.CHANGED
    assert json.loads(file.read_bytes())["items"]["x"]["at"] == 2000


def test_a_record_of_version_0_1_has_no_time_and_is_not_written_again(state: State) -> None:
    live = Live(state, None)
    live.reconcile("a")
    file = Path(state.host.path(f"{state.folder()}/applied.json"))
    found = json.loads(file.read_bytes())
    del found["items"]["x"]["at"]
    file.write_text(json.dumps(found))
    before = file.stat().st_ino
    assert live.reconcile("a") is Outcome.UNCHANGED
    assert file.stat().st_ino == before
    assert state.compared("x", "a").at is None
    assert state.compared("x", None).has_drifted
