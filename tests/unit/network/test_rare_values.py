"""What networkd and netplan are written for the rare values of a NIC: golden_rare/MANAGER/DOCUMENT.

Regenerate: GANDI_GOLDEN=write pytest tests/unit/network/test_rare_values.py, and read what has changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.config.nics import AddressOptions, BondOptions, Bridge, Dhcp, Nic, NicOptions, RouteOptions, Rule
from agent.lib.records import fields, replace
from agent.network import Renderer, limits, netplan, networkd
from agent.network.interfaces import Link

from .rare_cases import BOND0, BRIDGE0, FULL, RARE, links

GOLDEN = Path(__file__).parent / "golden_rare"
RENDERERS = (networkd, netplan)


def _text(renderer: Renderer, planned: tuple[Link, ...]) -> str:
    """Return the files, and what the manager cannot express."""
    files = [file for link in planned for file in renderer.render(link)]
    text = "\n".join(f"--- {file.path} {file.mode:04o}\n{file.text}" for file in files)
    refused = [f"{link.key} {one}" for link in planned for one in limits.unsupported(renderer, link).items()]
    return text + "".join(f"\n{one}" for one in ["--- not applied", *refused] if refused) + "\n"


@pytest.mark.parametrize("case", RARE)
@pytest.mark.parametrize("renderer", RENDERERS, ids=lambda r: r.NAME)
def test_the_files_are_the_golden_ones(renderer: Renderer, case: str) -> None:
    golden = GOLDEN / renderer.NAME / case
    text = _text(renderer, RARE[case])
    if os.environ.get("GANDI_GOLDEN") == "write":
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()


def test_no_golden_file_is_left_over() -> None:
    there = {str(path.relative_to(GOLDEN)) for path in GOLDEN.rglob("*") if path.is_file()}
    assert there == {f"{renderer.NAME}/{case}" for renderer in RENDERERS for case in RARE}


def _without_each(record: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the record once for each value in it that is not the default, without that value."""
    for field in fields(record):
        inner, at = getattr(record, field.name), f"{path}.{field.name}".lstrip(".")
        if hasattr(inner, "__dataclass_fields__"):
            for where, less in _without_each(inner, at):
                yield where, replace(record, **{field.name: less})
        elif isinstance(inner, tuple) and inner and hasattr(inner[0], "__dataclass_fields__"):
            for number, one in enumerate(inner):
                for where, less in _without_each(one, f"{at}[{number}]"):
                    some = (*inner[:number], less, *inner[number + 1 :])
                    yield where, replace(record, **{field.name: some})
        elif field.default in (None, (), False, "unicast") and inner != field.default:
            yield at, replace(record, **{field.name: field.default})


#: What the files for udev express (agent/network/link_files.py).
_BY_UDEV = ("options.set_name", "options.wake_on_lan")
_LEAVES = {
    f"{nic.kind} {path}": (nic, less)
    for nic in (FULL, BOND0, BRIDGE0)
    for path, less in _without_each(nic)
    if path.startswith(("options", "bond.options", "bridge", "routes", "rules")) and path not in _BY_UDEV
}


@pytest.mark.parametrize("leaf", _LEAVES)
@pytest.mark.parametrize("renderer", RENDERERS, ids=lambda r: r.NAME)
def test_each_value_is_written_or_named(renderer: Renderer, leaf: str) -> None:
    nic, less = _LEAVES[leaf]
    ports = [Nic(number) for number in nic.ports]
    assert _text(renderer, links(*ports, nic)) != _text(renderer, links(*ports, less))


def test_the_leaves_are_all_of_the_model() -> None:
    named = {leaf.rpartition(".")[2] for leaf in _LEAVES}
    kinds = (NicOptions, Dhcp, AddressOptions, BondOptions, Bridge, RouteOptions, Rule)
    optional = {field.name for kind in kinds for field in fields(kind) if field.default in (None, (), False)}
    # Two are the files for udev's, the records are their fields, and a token excludes a mode of generation.
    beside = {"set_name", "wake_on_lan", "dhcp4", "dhcp6", "addresses", "ipv6_address_token"}
    assert optional - named == beside | {"port_priority", "path_cost"} - named


def test_netplan_s_files_are_yaml_of_the_same_values() -> None:
    yaml = pytest.importorskip("yaml")
    main = netplan.render(RARE["everything"][0])[0].text
    nic = yaml.safe_load(main)["network"]["ethernets"]["00-gandi-nic0"]
    assert nic["addresses"] == [
        "192.0.2.7/24",
        {"192.0.2.8/24": {"label": "eth0:1"}},
        {"2001:db8::7/64": {"lifetime": "0"}},
    ]
    assert nic["routes"][1] == {"to": "10.0.0.0/8", "type": "blackhole", "metric": 7}
    # What differs between the IP versions would cost all of netplan's files.
    assert nic["dhcp4-overrides"] == nic["dhcp6-overrides"]
    assert "route-metric" not in nic["dhcp4-overrides"]
