"""A changed network is kept only if a gateway answers; else the former one is in force, also in later
runs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.config.nics import Nic, Route
from agent.context import Context
from agent.hotplug import nic as hotplug
from agent.lib.errors import HostError
from agent.lib.records import replace
from agent.network import gateways, networkd, nic_inventory, rollback
from agent.network.gateways import Gateway
from agent.report import Item, Outcome
from agent.steps import network

from .conftest import Machine
from .test_network import NIC0, _enable, _plug

WRONG = replace(NIC0, routes=(Route("0.0.0.0/0", "203.0.113.77"),))
OTHER = replace(NIC0, addresses=("203.0.113.11/24",))
FILE = networkd.paths("nic0")[-1]


class Wire:
    """The machine's gateways: its default route is what the NIC's file has, and some of them answer."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.answering = root, {"203.0.113.254"}
        self.asked: list[str] = []
        self.dies = False
        monkeypatch.setattr(gateways, "defaults", lambda _host: self.defaults())
        monkeypatch.setattr(gateways, "answers", lambda _host, gateway: self.answers(gateway))
        monkeypatch.setattr(gateways, "wait", self.wait)

    def defaults(self) -> tuple[Gateway, ...]:
        path = self.root / FILE.lstrip("/")
        lines = path.read_text().splitlines() if path.exists() else []
        addresses = [line.removeprefix("Gateway=") for line in lines if line.startswith("Gateway=")]
        return tuple(Gateway(6 if ":" in one else 4, one, "ens0") for one in addresses)

    def answers(self, gateway: Gateway) -> bool:
        self.asked.append(gateway.address)
        return gateway.address in self.answering

    def wait(self, is_fine: Callable[[], bool], _seconds: float, _calm: float) -> bool:
        if self.dies:
            raise KeyboardInterrupt
        return is_fine()


@pytest.fixture
def wire(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Wire:
    """A machine with networkd that has booted with one NIC and its gateway."""
    _enable(machine.root)
    _plug(machine.root, 0)
    machine.deliver(nics=(NIC0,))
    machine.run(network.apply)
    return Wire(machine.root, monkeypatch)


def _deliver(machine: Machine, *nics: Nic, **what: Any) -> Context:
    """Deliver another network to the running machine, as the source step does."""
    before = machine.config
    machine.deliver(nics=nics, **what)
    ctx = machine.context(same_boot=True)
    rollback.note(ctx, before, machine.config)
    return ctx


def _items(ctx: Context) -> dict[str, Item]:
    return {item.name: item for item in network.apply(ctx)}


def _record(machine: Machine) -> bool:
    return nic_inventory.has_guard(machine.context(same_boot=True))


def test_one_that_answers_stays(machine: Machine, wire: Wire) -> None:
    found = _items(_deliver(machine, OTHER))
    assert "network" not in found
    assert "203.0.113.11" in machine.text(FILE)
    assert not _record(machine)


def test_one_that_does_not_is_taken_back_and_not_tried_again(machine: Machine, wire: Wire) -> None:
    former = machine.text(FILE)
    item = _items(_deliver(machine, WRONG))["network"]
    assert item.outcome is Outcome.FAILED
    assert "203.0.113.77 on ens0" in item.detail
    assert "document" in item.hint
    assert machine.text(FILE) == former
    wire.asked.clear()
    for same_boot in (True, False):
        found = machine.run(network.apply, same_boot=same_boot)
        assert found["network"].startswith("kept: taken back: no default gateway answered within 30 s")
        assert machine.text(FILE) == former
    assert wire.asked == []
    ctx = machine.context(same_boot=True)
    list(network.apply(ctx))
    assert "taken back" in ctx.status.read()["notes"]["network"]


def test_a_document_with_another_change_does_not_try_it_again(machine: Machine, wire: Wire) -> None:
    _items(_deliver(machine, WRONG))
    found = _items(_deliver(machine, WRONG, search=("example.com",)))
    assert found["network"].outcome is Outcome.KEPT


def test_a_changed_network_is_tried_again_and_the_note_goes(machine: Machine, wire: Wire) -> None:
    _items(_deliver(machine, WRONG))
    ctx = _deliver(machine, OTHER)
    assert "network" not in _items(ctx)
    assert "203.0.113.11" in machine.text(FILE)
    assert not _record(machine)
    assert "network" not in ctx.status.read()["notes"]


def test_a_second_wrong_one_is_taken_back_to_the_one_in_force(machine: Machine, wire: Wire) -> None:
    former = machine.text(FILE)
    _items(_deliver(machine, WRONG))
    worse = replace(NIC0, addresses=("198.51.100.2/24",), routes=(Route("0.0.0.0/0", "198.51.100.1"),))
    assert _items(_deliver(machine, worse))["network"].outcome is Outcome.FAILED
    assert machine.text(FILE) == former


def test_the_former_network_delivered_again_ends_it(machine: Machine, wire: Wire) -> None:
    _items(_deliver(machine, WRONG))
    assert _items(_deliver(machine, NIC0))["nic:0"].outcome is Outcome.UNCHANGED
    assert not _record(machine)


def test_what_the_administrator_had_changed_comes_back(machine: Machine, wire: Wire) -> None:
    mine = machine.text(FILE) + "# mine\n"
    machine.put(FILE, mine)
    _items(_deliver(machine, WRONG))
    assert machine.text(FILE) == mine
    assert machine.run(network.apply, same_boot=True)["nic:0"].startswith("kept")


def test_a_change_that_was_cut_short_is_judged_at_the_next_scan(machine: Machine, wire: Wire) -> None:
    """The daemon was killed while it waited."""
    former, wire.dies = machine.text(FILE), True
    with pytest.raises(KeyboardInterrupt):
        _items(_deliver(machine, WRONG))
    assert "203.0.113.77" in machine.text(FILE)
    wire.dies = False
    assert hotplug.has_changes(machine.context(same_boot=True))
    found = machine.run(network.apply, same_boot=True)
    assert found["network"].startswith("failed: taken back")
    assert machine.text(FILE) == former
    assert not rollback.is_undecided(machine.context(same_boot=True))


def test_files_that_a_killed_run_wrote_are_read_before_they_are_judged(
    machine: Machine, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the kernel's former network would answer for the new one, and later for the wrong one."""

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    former, read = machine.text(FILE), list[list[str]]()
    with monkeypatch.context() as patch:
        patch.setattr(networkd, "reload", dies)
        with pytest.raises(KeyboardInterrupt):
            _items(_deliver(machine, WRONG))
    assert "203.0.113.77" in machine.text(FILE)
    monkeypatch.setattr(networkd, "reload", lambda _host, links: read.append([link.name for link in links]))
    assert hotplug.has_changes(machine.context(same_boot=True))
    assert machine.run(network.apply, same_boot=True)["network"].startswith("failed: taken back")
    assert machine.text(FILE) == former
    assert read == [["ens0"], ["ens0"]], "the wrong one, then the former one"


def test_former_files_that_a_killed_run_put_back_are_read(
    machine: Machine, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    former, read = machine.text(FILE), list[str]()

    def dies(*_: object) -> None:
        read.append(machine.text(FILE))
        if len(read) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(networkd, "reload", dies)
    with pytest.raises(KeyboardInterrupt):
        _items(_deliver(machine, WRONG))
    assert machine.text(FILE) == former
    assert machine.run(network.apply, same_boot=True)["network"].startswith("failed: taken back")
    assert read[1:] == [former, former]
    assert not rollback.is_undecided(machine.context(same_boot=True))


@pytest.mark.parametrize("answers", [True, False])
def test_one_that_a_power_failure_cut_short_is_judged_after_the_boot(
    machine: Machine, wire: Wire, answers: bool
) -> None:
    wire.dies = True
    with pytest.raises(KeyboardInterrupt):
        _items(_deliver(machine, WRONG))
    wire.dies = False
    assert "network" not in machine.run(network.apply), "a boot applies it: nothing can have answered yet"
    assert "203.0.113.77" in machine.text(FILE)
    wire.answering |= {"203.0.113.77"} if answers else set()
    assert hotplug.has_changes(machine.context(same_boot=True))
    found = machine.run(network.apply, same_boot=True)
    assert ("network" in found) is not answers
    assert ("203.0.113.77" in machine.text(FILE)) is answers
    assert _record(machine) is not answers


def test_a_withdrawal_that_was_cut_short_is_finished(
    machine: Machine, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = machine.text(FILE)
    with monkeypatch.context() as patch:
        patch.setattr(rollback, "_with", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            _items(_deliver(machine, WRONG))
    assert hotplug.has_changes(machine.context(same_boot=True))
    assert machine.run(network.apply)["network"].startswith("failed: taken back")
    assert machine.text(FILE) == former


def test_nothing_is_asked_where_no_gateway_answered_before(machine: Machine, wire: Wire) -> None:
    wire.answering = set()
    assert "network" not in _items(_deliver(machine, WRONG))
    assert "203.0.113.77" in machine.text(FILE)
    assert not _record(machine)


def test_nothing_is_asked_at_a_boot(machine: Machine, wire: Wire) -> None:
    _deliver(machine, WRONG)
    assert "network" not in machine.run(network.apply)
    assert wire.asked == []
    assert not _record(machine)


def test_nothing_is_stored_or_asked_with_the_setting_off(machine: Machine, wire: Wire) -> None:
    machine.put("/etc/default/gandi", "CONFIG_NETWORK_ROLLBACK=0\n")
    assert "network" not in _items(_deliver(machine, WRONG))
    assert "203.0.113.77" in machine.text(FILE)
    assert wire.asked == []


def test_one_that_was_taken_back_is_applied_once_the_setting_is_off(machine: Machine, wire: Wire) -> None:
    _items(_deliver(machine, WRONG))
    machine.put("/etc/default/gandi", "CONFIG_NETWORK_ROLLBACK=0\n")
    assert machine.run(network.apply, same_boot=True)["nic:0"].startswith("changed")
    assert "203.0.113.77" in machine.text(FILE)
    assert not _record(machine)


def test_a_plan_changes_nothing_and_asks_nothing(machine: Machine, wire: Wire) -> None:
    _deliver(machine, WRONG)
    before = machine.stamps()
    ctx = machine.context(same_boot=True, dry_run=True)
    assert "network" not in _items(ctx)
    assert machine.stamps() == before
    assert wire.asked == []
    assert _record(machine)


def test_each_ip_version_that_answered_must_answer_again(machine: Machine, wire: Wire) -> None:
    def both(last: str) -> Nic:
        six = Route("::/0", f"2001:db8::{last}")
        return replace(NIC0, addresses=(*NIC0.addresses, "2001:db8::10/64"), routes=(*NIC0.routes, six))

    wire.answering |= {"2001:db8::1"}
    _items(_deliver(machine, both("1")))
    former = machine.text(FILE)
    item = _items(_deliver(machine, both("bad")))["network"]
    assert "IPv6: 2001:db8::bad on ens0" in item.detail
    assert "IPv4" not in item.detail
    assert machine.text(FILE) == former
    # Without its gateway, IPv6 is not asked about: the document wants none, and none was learned before.
    assert "network" not in _items(_deliver(machine, NIC0))


@pytest.mark.parametrize("answers", [True, False])
def test_a_network_without_a_gateway_needs_the_former_one(
    machine: Machine, wire: Wire, answers: bool
) -> None:
    ctx = _deliver(machine, replace(NIC0, routes=()))
    asked = iter((True, answers))
    wire.answers = lambda _gateway: next(asked)  # type: ignore[method-assign, assignment]
    assert ("network" in _items(ctx)) is not answers


def test_a_lease_that_never_comes_is_no_answer(machine: Machine, wire: Wire) -> None:
    former = machine.text(FILE)
    item = _items(_deliver(machine, Nic(0, dhcp4=True)))["network"]
    assert "IPv4: there is none" in item.detail
    assert machine.text(FILE) == former


def test_a_manager_that_cannot_be_reloaded_is_judged_too(
    machine: Machine, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise HostError("no such bus")

    with monkeypatch.context() as patch:
        patch.setattr(networkd, "reload", fails)
        with pytest.raises(HostError, match="no such bus"):
            _items(_deliver(machine, OTHER))
    assert "203.0.113.11" in machine.text(FILE)
    assert not _record(machine)


def test_a_damaged_record_is_named(machine: Machine, wire: Wire) -> None:
    ctx = _deliver(machine, WRONG)
    path = nic_inventory.guard_file(ctx)
    machine.put(path, "{}")
    with pytest.raises(HostError, match=r"network\.json: damaged"):
        _items(machine.context(same_boot=True))
    assert not hotplug.has_changes(machine.context(same_boot=True))
