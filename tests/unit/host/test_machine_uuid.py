"""The machine's UUID, in every spelling in which it appears."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.host import machine_uuid
from agent.host.host import Host
from tests.unit.host.test_smbios import tables

UUID = "4c4c4544-0031-4a10-8056-b4c04f4b3332"
SWAPPED = "44454c4c-3100-104a-8056-b4c04f4b3332"


def put(root: Path, name: str, text: str) -> None:
    (root / name.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
    (root / name.lstrip("/")).write_text(text)


def test_dmi_in_capitals(tmp_path: Path) -> None:
    put(tmp_path, "/sys/class/dmi/id/product_uuid", UUID.upper() + "\n")
    assert machine_uuid.read_uuid(Host(tmp_path)) == UUID


def test_xen_comes_first(tmp_path: Path) -> None:
    put(tmp_path, "/sys/class/dmi/id/product_uuid", UUID)
    put(tmp_path, "/sys/hypervisor/uuid", "11111111-2222-3333-4444-555555555555\n")
    assert machine_uuid.read_uuid(Host(tmp_path)) == "11111111-2222-3333-4444-555555555555"


def test_a_guest_on_power_has_it_in_the_device_tree(tmp_path: Path) -> None:
    put(tmp_path, "/proc/device-tree/vm,uuid", f"{UUID}\0")
    assert machine_uuid.read_uuid(Host(tmp_path)) == machine_uuid.uuid_of_boot(Host(tmp_path)) == UUID


HOST = "11111111-2222-3333-4444-555555555555"
#: As the kernel writes it for a guest in a guest (arch/s390/kernel/sysinfo.c), in an LPAR with a UUID.
SYSINFO = f"""\
Manufacturer:         IBM
Type:                 8561
LPAR Number:          12
LPAR Name:            ZVM12
LPAR Extended Name:   VM00 UUID: {HOST}
LPAR UUID:            {HOST}

VM00 Name:            guest1
VM00 Control Program: KVM/Linux
VM00 Adjustment:      1000
VM00 Extended Name:   guest1
VM00 UUID:            {UUID}

VM01 Name:            host1
VM01 Control Program: KVM/Linux
VM01 UUID:            {HOST}
"""


def test_a_guest_on_s390x_has_its_own_and_no_hosts(tmp_path: Path) -> None:
    put(tmp_path, "/proc/sysinfo", SYSINFO)
    assert machine_uuid.read_uuid(Host(tmp_path)) == UUID
    assert machine_uuid.uuid_of_boot(Host(tmp_path)) == "", "the kernel asks the hypervisor at each reading"
    put(tmp_path, "/proc/sysinfo", SYSINFO.replace(f"VM00 UUID:            {UUID}\n", ""))
    assert machine_uuid.read_uuid(Host(tmp_path)) == ""


def test_a_kernel_without_dmi_has_qemus_tables(tmp_path: Path) -> None:
    """arm64 with a device tree. Where there is DMI, the tables do not contradict it."""
    put(tmp_path, machine_uuid.TABLES, "")
    (tmp_path / machine_uuid.TABLES.lstrip("/")).write_bytes(tables(UUID))
    assert machine_uuid.read_uuid(Host(tmp_path)) == machine_uuid.uuid_in_tables(Host(tmp_path)) == UUID
    assert machine_uuid.uuid_of_boot(Host(tmp_path)) == ""
    put(tmp_path, "/sys/class/dmi/id/product_uuid", "Not Settable\n")
    assert machine_uuid.read_uuid(Host(tmp_path)) == ""


@pytest.mark.parametrize("name", [*machine_uuid.FILES, "/proc/sysinfo", machine_uuid.TABLES])
@pytest.mark.parametrize(
    "text", ["", "\0", f"{UUID}\0\0", "x" * 70000, f"VM00 UUID: {HOST[:-1]}", "VM00 UUID:"]
)
def test_what_is_no_uuid_is_no_identity(tmp_path: Path, name: str, text: str) -> None:
    put(tmp_path, name, text)
    assert machine_uuid.read_uuid(Host(tmp_path)) == ""


def test_an_image_has_nobodys(tmp_path: Path) -> None:
    for name, text in (*((name, UUID) for name in machine_uuid.FILES), ("/proc/sysinfo", SYSINFO)):
        put(tmp_path, name, text)
    put(tmp_path, machine_uuid.TABLES, "")
    (tmp_path / machine_uuid.TABLES.lstrip("/")).write_bytes(tables(UUID))
    for read in (machine_uuid.read_uuid, machine_uuid.uuid_of_boot, machine_uuid.uuid_in_tables):
        assert read(Host(tmp_path, offline=True)) == ""


def test_dom0s_zeros_do_not_hide_dmi(tmp_path: Path) -> None:
    put(tmp_path, "/sys/class/dmi/id/product_uuid", UUID)
    put(tmp_path, "/sys/hypervisor/uuid", "00000000-0000-0000-0000-000000000000\n")
    assert machine_uuid.read_uuid(Host(tmp_path)) == UUID


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Not Settable",
        "00000000-0000-0000-0000-000000000000",
        "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        "03000200-0400-0500-0006-000700080009",
        "00020003-0004-0005-0006-000700080009",
        UUID[:-1],
        UUID + "0",
    ],
)
def test_placeholders_are_no_identity(text: str) -> None:
    assert machine_uuid.normalise(text) == ""
    assert not machine_uuid.is_same_uuid(text, text)


def test_same_in_either_byte_order_and_case() -> None:
    assert machine_uuid.swap_bytes(UUID) == SWAPPED
    assert machine_uuid.is_same_uuid(UUID, SWAPPED.upper())
    assert machine_uuid.is_same_uuid(SWAPPED, UUID)
    assert machine_uuid.is_same_uuid(UUID, UUID)
    assert not machine_uuid.is_same_uuid(UUID, UUID.replace("3332", "3333"))


def test_machine_id_is_the_fallback(tmp_path: Path) -> None:
    assert machine_uuid.fallback_id(Host(tmp_path)) == ""
    put(tmp_path, "/etc/machine-id", "uninitialized\n")
    assert machine_uuid.fallback_id(Host(tmp_path)) == ""
    put(tmp_path, "/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    assert machine_uuid.fallback_id(Host(tmp_path)) == "0123456789abcdef0123456789abcdef"
