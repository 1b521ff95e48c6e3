"""Whether NetworkManager or netplan has a NIC configured already."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.host.host import Host
from agent.network import netplan, networkmanager

NAMES = frozenset({"eth0", "enp1s0"})
MAC = "52:54:00:12:34:56"
FOLDER = "/etc/NetworkManager/system-connections"


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("[connection]\ntype=ethernet\ninterface-name=enp1s0\n", True),
        ("[connection]\ntype = 802-3-ethernet\n", True),
        ("[connection]\ntype=ethernet\ninterface-name=eth1\n", False),
        ("[connection]\ntype=ethernet\n[ethernet]\nmac-address=52:54:00:12:34:56\n", True),
        ("[connection]\ntype=ethernet\n[ethernet]\nmac-address=52:54:00:12:34:57\n", False),
        ("[connection]\ntype=wifi\n", False),
        ("", False),
    ],
)
def test_a_profile_fits_as_networkmanager_says(tmp_path: Path, text: str, fits: bool) -> None:
    host = Host(tmp_path)
    host.write(f"{FOLDER}/lan.nmconnection", text)
    expected = f"{FOLDER}/lan.nmconnection" if fits else ""
    assert networkmanager.configures(host, NAMES, MAC) == expected


def test_our_own_profile_for_dhcp_is_no_reason_to_leave_a_nic(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.write(networkmanager.paths("dhcp-525400123456")[0], "type=ethernet\n")
    assert networkmanager.configures(host, NAMES, MAC) == ""


def test_netplan_is_known_by_what_it_made_for_its_backend(tmp_path: Path) -> None:
    host = Host(tmp_path)
    folder = "/run/systemd/network"
    host.write(f"{folder}/10-netplan-00-gandi-dhcp-525400123456.network", f"[Match]\nMACAddress={MAC}\n")
    assert netplan.configures(host, NAMES, MAC) == ""
    host.write(f"{folder}/10-netplan-all-en.network", "[Match]\nName=en*\n")
    assert netplan.configures(host, NAMES, MAC) == f"{folder}/10-netplan-all-en.network"
    profile = "/run/NetworkManager/system-connections/netplan-eth0.nmconnection"
    (tmp_path / folder.lstrip("/") / "10-netplan-all-en.network").unlink()
    host.write(profile, "[connection]\ntype=ethernet\ninterface-name=eth0\n")
    assert netplan.configures(host, NAMES, MAC) == profile


def test_text_is_quoted_whatever_it_says() -> None:
    tree: dict[str, object] = {
        "a": {"b": True, "c": [], "d": ["x: y", 'say "no"\n']},
        "e": [{"f": 1, "g": {"h": "no"}}, {"f": None}],
    }
    assert netplan.yaml(tree) == [
        "a:",
        "  b: true",
        "  c: []",
        "  d:",
        '    - "x: y"',
        '    - "say \\"no\\"\\n"',
        "e:",
        "  - f: 1",
        "    g:",
        '      h: "no"',
        "  - f: null",
    ]
