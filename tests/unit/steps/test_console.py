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


#: As the kernel writes its list: one port, without and with a program that has it open.
FREE = (
    "serinfo:1.0 driver revision:\n"
    "0: uart:16550A port:000003F8 irq:4 tx:9 rx:0 CTS|DSR|CD\n"
    "1: uart:unknown port:000002F8 irq:3\n"
)
OPEN = FREE.replace("CTS|DSR|CD", "RTS|CTS|DTR|DSR|CD")
NONE = "serinfo:1.0 driver revision:\n0: uart:unknown port:000003F8 irq:4\n"
SERIAL = "serial-getty@ttyS0.service"


@pytest.mark.parametrize(
    ("active", "ports", "outcome"),
    [
        ("tty0", FREE, "changed: started"),
        ("tty0", OPEN, "skipped: another program uses ttyS0"),
        ("tty0", NONE, None),
        ("tty0", None, None),
        ("tty0 ttyS1", FREE, None),
        ("tty0 ttynull", FREE, None),
        ("", FREE, None),
    ],
    ids=["free", "in use", "no port", "no driver", "another one is named", "none is wanted", "no console"],
)
def test_a_serial_port_that_the_command_line_does_not_name(
    machine: Machine, active: str, ports: str | None, outcome: str | None
) -> None:
    (machine.root / f"run/systemd/generator/getty.target.wants/{SERIAL}").unlink()
    machine.put("/sys/class/tty/console/active", f"{active}\n")
    if ports is not None:
        machine.put("/proc/tty/driver/serial", ports)
    assert machine.run(console.apply).get(SERIAL) == outcome
    if outcome == "changed: started":
        machine.put("/proc/tty/driver/serial", OPEN)
        assert machine.run(console.apply, same_boot=True)[SERIAL] == "unchanged", "it has the port open"


@pytest.mark.parametrize(
    ("lines", "outcome"),
    [("RTS|CTS|DSR|CD", "changed: started"), ("RTS|DTR", "skipped: another program uses ttyAMA0")],
)
def test_the_port_of_a_machine_without_8250s(machine: Machine, lines: str, outcome: str) -> None:
    machine.put("/sys/class/tty/console/active", "tty0\n")
    ports = f"serinfo:1.0 driver revision:\n0: uart:PL011 rev1 mmio:0x09000000 irq:13 tx:9 rx:0 {lines}\n"
    machine.put("/proc/tty/driver/ttyAMA", ports)
    found = machine.run(console.apply)
    assert found == {"getty@tty1.service": "unchanged", "serial-getty@ttyAMA0.service": outcome}


def test_a_hypervisors_console_that_the_command_line_does_not_name(machine: Machine) -> None:
    machine.put("/sys/class/tty/console/active", "tty0 ttyS0\n")
    machine.put("/sys/class/tty/hvc0/dev", "229:0\n")
    assert machine.run(console.apply)[HVC] == "changed: started"


def test_a_machine_without_a_console(machine: Machine) -> None:
    (machine.root / "sys/class/tty/console/active").unlink()
    assert machine.run(console.apply) == {}
