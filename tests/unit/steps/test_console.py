"""Logins on consoles: nothing is done where systemd or the administrator provides one."""

from __future__ import annotations

import os

import pytest

from agent.steps import console
from tests.unit.steps.conftest import Machine

HVC = "serial-getty@hvc0.service"


@pytest.fixture(autouse=True)
def _kernel(machine: Machine) -> None:
    machine.put("/sys/class/tty/console/active", "tty0 ttyS0 hvc0\n")
    machine.put("/proc/cmdline", "console=tty0 console=ttyS0 console=hvc0 quiet\n")
    for template in ("getty@.service", "serial-getty@.service"):
        machine.put(f"/usr/lib/systemd/system/{template}")
    link(machine, "/etc/systemd/system/getty.target.wants/getty@tty1.service")
    link(machine, "/run/systemd/generator/getty.target.wants/serial-getty@ttyS0.service")


def link(machine: Machine, name: str, target: str = "/usr/lib/systemd/system/getty@.service") -> None:
    path = machine.root / name[1:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def test_only_the_one_that_the_generator_missed(machine: Machine) -> None:
    fine = {"getty@tty1.service": "unchanged", "serial-getty@ttyS0.service": "unchanged"}
    assert machine.run(console.apply) == fine | {HVC: "changed: started"}
    made = machine.root / "run/systemd/system/getty.target.wants" / HVC
    assert os.readlink(made) == "/usr/lib/systemd/system/serial-getty@.service"
    assert machine.run(console.apply) == fine | {HVC: "unchanged"}


@pytest.mark.parametrize("unit", [HVC, "serial-getty@.service"])
def test_a_masked_one_is_the_administrators(machine: Machine, unit: str) -> None:
    link(machine, f"/etc/systemd/system/{unit}", "/dev/null")
    assert machine.run(console.apply)[HVC] == "kept: changed by admin"


def test_none_where_the_command_line_wants_none(machine: Machine) -> None:
    machine.put("/proc/cmdline", "console=hvc0 systemd.getty_auto=no\n")
    assert list(machine.run(console.apply)) == ["consoles"]


def test_a_machine_without_a_console(machine: Machine) -> None:
    (machine.root / "sys/class/tty/console/active").unlink()
    assert machine.run(console.apply) == {}
