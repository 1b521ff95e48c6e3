"""The machine's UUID, in every spelling in which it appears."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.host import machine_uuid
from agent.host.host import Host

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
