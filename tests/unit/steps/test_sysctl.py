"""Kernel parameters: a file that is the agent's until it is changed, and the customer's file after it."""

from __future__ import annotations

import os

from agent.steps import sysctl
from tests.unit.steps.conftest import Machine


def test_written_once_and_left(machine: Machine) -> None:
    assert machine.run(sysctl.apply) == {"sysctl": "changed"}
    before = machine.stamps()
    assert machine.run(sysctl.apply) == {"sysctl": "unchanged"}
    assert machine.stamps() == before


def test_every_value_has_its_reason_and_none_forwards() -> None:
    lines = sysctl.TEXT.splitlines()
    values = [at for at, line in enumerate(lines) if line.startswith("-")]
    assert len(values) == 11
    assert all(lines[at - 1].startswith(("#", "-")) for at in values)
    assert "ip_forward" not in sysctl.TEXT


def test_a_changed_or_removed_file_stays_so(machine: Machine) -> None:
    machine.run(sysctl.apply)
    machine.put(sysctl.FILE, "vm.swappiness = 30\n")
    assert machine.run(sysctl.apply) == {"sysctl": "kept: changed by admin"}
    (machine.root / sysctl.FILE[1:]).unlink()
    assert machine.run(sysctl.apply) == {"sysctl": "kept: changed by admin"}
    assert not (machine.root / sysctl.FILE[1:]).exists()


def test_the_file_of_an_older_version_is_replaced(machine: Machine) -> None:
    machine.context().state.system().reconcile(
        "sysctl",
        delivered=sysctl.FILE,
        wanted="old",
        live=None,
        apply=lambda: machine.put(sysctl.FILE, "old"),
    )
    assert machine.run(sysctl.apply) == {"sysctl": "changed"}


def test_the_customers_file_comes_after_ours(machine: Machine) -> None:
    machine.put(sysctl.CUSTOMERS, "vm.swappiness = 60\n")
    assert machine.run(sysctl.apply) == {"sysctl": "changed", "sysctl.conf": f"changed: {sysctl.CUSTOMERS}"}
    link = machine.root / sysctl.LINK[1:]
    assert os.readlink(link) == sysctl.CUSTOMERS
    assert sorted(os.listdir(link.parent)) == [os.path.basename(sysctl.FILE), link.name]
    assert machine.run(sysctl.apply) == {"sysctl": "unchanged"}
    (machine.root / sysctl.CUSTOMERS[1:]).unlink()
    assert machine.run(sysctl.apply) == {"sysctl": "unchanged", "sysctl.conf": "changed: gone"}
    assert not os.path.lexists(link)
