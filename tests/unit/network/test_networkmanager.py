"""Whether NetworkManager or netplan has a NIC configured already."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.nics import Bond, Kind, Nic
from agent.host.host import Host
from agent.network import Renderer, netplan, networkmanager
from agent.network.managers import NETWORKMANAGER_UNIT
from agent.systemd import units

from .cases import links
from .readback_cases import RARE

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


def test_options_that_would_cost_the_profile_are_named(tmp_path: Path) -> None:
    bond = Bond("balance-rr", 0, lacp_rate="fast", primary=0)
    made = links(Nic(0), Nic(1, name="bond0", kind=Kind.BOND, ports=(0,), bond=bond))[1]
    assert networkmanager.unsupported(made) == {
        "bond.lacp_rate": "not in the mode balance-rr",
        "bond.primary": "not in the mode balance-rr",
    }
    (file,) = networkmanager.render(made)
    assert "[bond]\nmode=balance-rr\nmiimon=0\n\n" in file.text


def test_what_a_keyfile_lacks_is_named() -> None:
    named = {
        case: [networkmanager.unsupported(link) for link in documents] for case, documents in RARE.items()
    }
    assert list(named["addresses-with-options"][0]) == [
        "addresses[0].label",
        "addresses[1].label",
        "addresses[2].lifetime",
        "addresses[3].lifetime",
    ]
    assert list(named["how-it-is-brought-up"][0]) == ["ignore_carrier"]
    assert list(named["no-link-local-beside-ipv6"][0]) == ["link_local"]
    assert list(named["resolver-without-its-ip-version"][0]) == ["nameservers[0]"]
    assert list(named["dhcp-switches-apart"][0]) == ["dhcp6.use_dns", "dhcp6.use_hostname"]
    assert list(named["bridge-outside-limits"][1]) == ["bridge.forward_delay"]
    assert [one for found in named["routes-that-lead-nowhere"] for one in found] == []


@pytest.mark.parametrize(
    ("renderer", "profile"), [(networkmanager, "gandi-nic0"), (netplan, "netplan-00-gandi-nic0")]
)
def test_a_nic_that_the_administrator_brings_up_is_not_activated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renderer: Renderer, profile: str
) -> None:
    activated = list[str]()
    monkeypatch.setattr(units, "is_active", lambda _host, unit: unit == NETWORKMANAGER_UNIT)
    monkeypatch.setattr(networkmanager, "activate", lambda _host, names: activated.extend(names))
    monkeypatch.setattr(Host, "live", property(lambda _host: True))
    monkeypatch.setattr(Host, "run", lambda _host, _argv: None)
    renderer.reload(Host(tmp_path), RARE["how-it-is-brought-up"])
    assert activated == [profile]
