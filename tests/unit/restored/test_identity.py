"""A copy is recognised by its UUID, and renewed only if the administrator has said so."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from agent.restored import identity
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


def tables(uuid: str, before: bytes = b"") -> bytes:
    """Return SMBIOS structures with a System Information."""
    raw = bytes.fromhex(uuid.replace("-", ""))
    raw = raw[3::-1] + raw[5:3:-1] + raw[7:5:-1] + raw[8:]
    head = bytes([1, 27, 0, 1, 1, 2, 3, 4]) + raw + bytes([6, 5, 6])
    return before + head + b"QEMU\0PC\0\0" + bytes([127, 4, 0, 2, 0, 0])


def give(machine: Machine, data: bytes) -> None:
    path = machine.root / identity._TABLES.lstrip("/")
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


@pytest.mark.parametrize(
    ("data", "uuid"),
    [
        (tables(COPY), COPY),
        (tables(COPY, before=bytes([0, 5, 0, 0, 1]) + b"vendor\0\0"), COPY),
        (b"", ""),
        (tables(COPY)[:20], ""),
        (bytes([1, 8, 0, 1, 0, 0, 0, 0, 0, 0]), ""),
        (bytes([1, 3, 0, 1]) + tables(COPY), ""),
        (bytes([0, 5, 0, 0, 1]) + b"no end", ""),
    ],
)
def test_the_tables_of_the_firmware(data: bytes, uuid: str) -> None:
    assert identity.uuid_in(data) == uuid


def test_any_bytes_are_read_to_an_end() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(2000):
        identity.uuid_in(chance.randbytes(chance.randrange(200)))
