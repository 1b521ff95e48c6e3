"""Whether networkd manages this system, and whether it configures a NIC already."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.host.host import Host
from agent.network import networkd

NAMES = frozenset({"eth0", "enp1s0"})
MAC = "52:54:00:12:34:56"


def _put(root: Path, name: str, text: str) -> None:
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ("Name=en* eth*", True),
        ("Name=enp1s0", True),
        ("Name=!eth*", True),  # by its other name
        ("Name=wl*", False),
        ("Name=host0\nKind=veth", False),
        ("Kind=veth", False),
        ("Type=ether\nKind=!*", True),
        ("Type=wlan", False),
        ("Type=!loopback", True),
        ("MACAddress=52:54:00:12:34:56 02:00:00:00:00:01", True),
        ("MACAddress=02:00:00:00:00:01", False),
        ("Driver=virtio_net", True),  # unsupported key: counts as fitting, so the NIC is left alone
        ("Name=en*\nMACAddress=02:00:00:00:00:01", False),
        ("", False),
    ],
)
def test_a_match_section_fits_as_networkd_says(tmp_path: Path, match: str, fits: bool) -> None:
    _put(tmp_path, "/usr/lib/systemd/network/50-x.network", f"[Match]\n{match}\n\n[Network]\nName=eth0\n")
    assert bool(networkd.configures(Host(tmp_path), NAMES, MAC)) is fits


def test_the_first_file_in_etc_hides_the_image_s(tmp_path: Path) -> None:
    _put(tmp_path, "/usr/lib/systemd/network/20-wired.network", "[Match]\nName=*\n")
    assert networkd.configures(Host(tmp_path), NAMES, MAC) == "/usr/lib/systemd/network/20-wired.network"
    _put(tmp_path, "/etc/systemd/network/20-wired.network", "[Match]\nName=dummy\n")
    assert networkd.configures(Host(tmp_path), NAMES, MAC) == ""


def test_our_own_file_for_dhcp_is_no_reason_to_leave_a_nic(tmp_path: Path) -> None:
    _put(tmp_path, networkd.paths("dhcp-525400000001")[1], "[Match]\nName=*\n")
    assert networkd.configures(Host(tmp_path), NAMES, MAC) == ""
    _put(tmp_path, networkd.paths("nic0")[1], "[Match]\nName=*\n")
    assert networkd.configures(Host(tmp_path), NAMES, MAC) == networkd.paths("nic0")[1]
