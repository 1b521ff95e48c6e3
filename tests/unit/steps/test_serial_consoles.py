"""Logins on the serial terminals that a document names: one link each, which the administrator may take."""

from __future__ import annotations

import os

import pytest

from agent.config.system import System
from agent.steps import console, serial_consoles
from tests.unit.steps.conftest import Machine

LINK = "etc/systemd/system/getty.target.wants/serial-getty@ttyS0.service"


@pytest.fixture(autouse=True)
def _serial(machine: Machine) -> None:
    machine.put(serial_consoles.TEMPLATE)
    machine.deliver(system=System(consoles=("ttyS0",)))


def test_the_link_of_systemctl_enable_is_made_once(machine: Machine) -> None:
    assert machine.run(serial_consoles.apply) == {"console:ttyS0": "changed"}
    assert os.readlink(machine.root / LINK) == "/usr/lib/systemd/system/serial-getty@.service"
    before = machine.stamps()
    assert machine.run(serial_consoles.apply) == {"console:ttyS0": "unchanged"}
    assert machine.stamps() == before


def test_the_search_for_consoles_leaves_it_alone(machine: Machine) -> None:
    machine.run(serial_consoles.apply)
    machine.put("/sys/class/tty/console/active", "ttyS0\n")
    assert machine.run(console.apply) == {"serial-getty@ttyS0.service": "unchanged"}


def test_one_that_is_disabled_or_masked_stays_so(machine: Machine) -> None:
    machine.run(serial_consoles.apply)
    (machine.root / LINK).unlink()
    assert machine.run(serial_consoles.apply) == {"console:ttyS0": "kept: changed by admin"}
    (machine.root / "etc/systemd/system/serial-getty@ttyS0.service").symlink_to("/dev/null")
    assert machine.run(serial_consoles.apply)["console:ttyS0"].startswith("kept: masked")
    assert not os.path.lexists(machine.root / LINK)


def test_it_goes_with_the_document(machine: Machine) -> None:
    machine.run(serial_consoles.apply)
    machine.deliver(system=None)
    assert machine.run(serial_consoles.apply)["console:ttyS0"].startswith("changed")
    assert not os.path.lexists(machine.root / LINK)
    assert machine.run(serial_consoles.apply) == {}


def test_a_document_with_an_error_withdraws_nothing(machine: Machine) -> None:
    machine.run(serial_consoles.apply)
    machine.deliver(system=None, partial=True)
    assert machine.run(serial_consoles.apply) == {}
    assert os.path.lexists(machine.root / LINK)


def test_a_system_without_the_template(machine: Machine) -> None:
    (machine.root / serial_consoles.TEMPLATE.lstrip("/")).unlink()
    assert machine.run(serial_consoles.apply)["console:ttyS0"].startswith("skipped")
