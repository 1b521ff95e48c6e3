"""A copy is recognised by its UUID, and renewed only if the administrator has said so."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.host import machine_uuid
from agent.restored import identity
from tests.unit.host.test_smbios import tables
from tests.unit.steps.conftest import Machine

OWN = "4c4c4544-0000-1000-8000-000000000001"
COPY = "4c4c4544-0000-1000-8000-000000000002"
DMI = "/sys/class/dmi/id/product_uuid"
KEY = "/etc/ssh/ssh_host_ed25519_key"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Make a machine without an instance that booted with OWN."""
    found = Machine(tmp_path)
    found.put(DMI, f"{OWN}\n")
    found.put(KEY, "old")
    return found


def give(machine: Machine, data: bytes) -> None:
    path = machine.root / machine_uuid.TABLES.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def check(machine: Machine) -> dict[str, str]:
    ctx = machine.context(same_boot=True)
    return {item.name: f"{item.outcome}: {item.detail}" for item in identity.check(ctx)}


def test_the_same_machine_stays_as_it_is(machine: Machine) -> None:
    machine.put("/etc/default/gandi", "CONFIG_CLONE_RENEW=1\n")
    assert check(machine) == {"identity": "unchanged: the same UUID"}
    give(machine, tables(OWN))
    assert check(machine) == {"identity": "unchanged: the same UUID"}
    assert machine.text(KEY) == "old"


def test_a_copy_stays_as_it_is_without_the_setting(machine: Machine) -> None:
    give(machine, tables(COPY))
    (said,) = check(machine).values()
    assert said.startswith(f"kept: the UUID is {COPY} and was {OWN}: this looks like a copy")
    assert machine.text(KEY) == "old"


def test_a_copy_is_renewed_once_with_the_setting(machine: Machine) -> None:
    machine.put("/etc/default/gandi", "CONFIG_CLONE_RENEW=1\n")
    give(machine, tables(COPY))
    said = check(machine)
    assert said["identity"] == f"changed: the UUID is {COPY} and was {OWN}: renewed"
    assert said["host keys"] == "changed: new"
    assert not (machine.root / KEY.lstrip("/")).exists()
    machine.put(KEY, "new")
    assert check(machine) == {"identity": "unchanged: the same UUID"}


def test_an_instance_is_renewed_by_its_own_steps(machine: Machine) -> None:
    machine.put("/etc/default/gandi", "CONFIG_CLONE_RENEW=1\n")
    machine.put("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    ctx = machine.context()
    ctx.state.store_config(machine.config, {})
    give(machine, tables(COPY))
    said = check(machine)
    assert said["host keys"] == "changed: new"
    assert said["machine-id"].startswith(("changed: new", "skipped: replaced at the next boot"))
    assert machine.context(same_boot=True).state.dmi_uuid() == COPY


def test_without_a_uuid_nothing_is_renewed(machine: Machine) -> None:
    machine.put(DMI, "")
    assert check(machine)["identity"].startswith("skipped")


def test_without_dmi_a_copy_is_known_by_what_qemu_says_now(machine: Machine) -> None:
    """arm64 with a device tree: at the instance's first boot the UUID was in the same place."""
    (machine.root / DMI.lstrip("/")).unlink()
    give(machine, tables(OWN))
    assert check(machine)["identity"].startswith("skipped"), "nothing was recorded"
    machine.context()
    machine.context(same_boot=True).state.record_uuid(OWN)
    assert check(machine) == {"identity": "unchanged: the same UUID"}
    give(machine, tables(COPY))
    assert check(machine)["identity"].startswith(f"kept: the UUID is {COPY} and was {OWN}")
