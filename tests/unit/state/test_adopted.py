"""A machine that was set up before the agent: the first document changes nothing, a later one is applied."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.accounts import passwords
from agent.cli.adopt import adopt
from agent.config.model import Identity, InstanceConfig, User
from agent.host.host import Host
from agent.report import Outcome
from agent.state import adopted
from agent.state.store import State

UUID = "6a1d8f5e-52a5-4c39-9d0c-000000000001"
BOOT = "proc/sys/kernel/random/boot_id"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """An adopted machine."""
    for name, text in (("sys/class/dmi/id/product_uuid", UUID), (BOOT, "first\n")):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    host = Host(tmp_path)
    adopted.record_adoption(host, Identity(adopted.SOURCE, UUID), ["52:54:00:00:00:10"])
    State(host).set_instance(Identity(adopted.SOURCE, UUID), dmi_uuid=UUID)
    return host


def take(host: Host, config: InstanceConfig) -> State:
    """Put a document in force, as steps/source.py does."""
    state = State(host)
    state.use_unstored_instance(config.identity)
    state.store_config(config, {})
    if (known := State(host).identity()) and known.source == adopted.SOURCE:
        adopted.record_first_document(host, config)
    state.set_instance(config.identity)
    return state


def document(hostname: str) -> InstanceConfig:
    return InstanceConfig(identity=Identity("gandi", UUID), hostname=hostname)


def reconcile(state: State, name: str, delivered: str, live: str | None) -> tuple[Outcome, list[str]]:
    done = list[str]()
    item = state.reconcile(
        name, delivered=delivered, wanted=delivered, live=live, apply=lambda: done.append(delivered)
    )
    return item.outcome, done


def test_the_first_document_changes_nothing_and_a_later_one_what_it_changes(host: Host) -> None:
    state = take(host, document("one"))
    for name, live in (
        ("hostname", "mine"),
        ("key:root:x", None),
        ("timezone", "mine"),
        ("resolvers", None),
    ):
        assert reconcile(state, name, "one", live) == (Outcome.KEPT, [])
        assert reconcile(state, name, "one", live) == (Outcome.KEPT, []), "nor at the next boot"
    assert reconcile(state, "sysctl", "ours", None) == (Outcome.CHANGED, ["ours"]), "not the platform's"
    state = take(host, document("two"))
    assert reconcile(state, "hostname", "two", "mine") == (Outcome.CHANGED, ["two"])
    assert reconcile(state, "resolvers", "one", None) == (Outcome.KEPT, [])
    assert reconcile(state, "user:new", "new", None) == (Outcome.CHANGED, ["new"])


def test_what_runs_once_counts_as_done_until_somebody_wants_it_again(host: Host) -> None:
    assert State(host).is_done("ssh"), "also before there is a document"
    state = take(host, document("one"))
    assert state.is_done("ssh")
    assert state.is_done("script-1")
    host.remove(state.mark_file("script-1"))
    assert not state.is_done("script-1")
    state = take(host, document("two"))
    assert state.is_done("ssh"), "it was asked for, and counted as done, before"
    assert not state.is_done("script-2"), "a new script runs"


def test_the_administrators_files_are_not_repaired(host: Host) -> None:
    for hostname in ("one", "two"):
        system = take(host, document(hostname)).system()
        assert reconcile(system, "fstab", "UUID", "mine") == (Outcome.KEPT, [])
        assert reconcile(system, "localhost:::1", "localhost", None) == (Outcome.KEPT, [])


def test_another_instance_is_a_new_one(host: Host) -> None:
    state = State(host)
    state.set_instance(Identity("gandi", "another"))
    assert reconcile(state, "hostname", "one", "mine") == (Outcome.CHANGED, ["one"])
    assert not state.is_done("ssh")


def test_a_password_that_is_reset_later_is_applied(host: Host, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/shadow").write_text("root:$6$mine$hash:1::::::\n")
    state, user = take(host, document("one")), User("root")
    assert next(passwords.reconcile(state, user, "first")).outcome is Outcome.KEPT
    assert next(passwords.reconcile(state, user, "first")).outcome is Outcome.KEPT, (
        "with another salt, and recognised"
    )
    assert reconcile(state, "password:someone", "x", None)[0] is Outcome.KEPT
    (tmp_path / BOOT).write_text("second\n")
    assert reconcile(state, "password:other", "x", None)[0] is Outcome.CHANGED


def test_the_nics_of_that_time_are_remembered(host: Host, tmp_path: Path) -> None:
    assert adopted.nic_macs(host) == {"52:54:00:00:00:10"}
    assert adopted.nic_macs(Host(tmp_path / "elsewhere")) == frozenset()


def test_the_verb_stores_the_identity_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    monkeypatch.setattr("agent.host.atomic_write.can_chown", lambda: False)
    assert adopt(Host(tmp_path)) == 0
    assert State(Host(tmp_path)).identity() == Identity("adopted", "0123456789abcdef0123456789abcdef")
    assert adopt(Host(tmp_path)) == 0
    assert "is already recorded" in capsys.readouterr().out
