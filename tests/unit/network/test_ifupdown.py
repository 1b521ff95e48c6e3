"""ifupdown adds stanzas up: ours must be the only ones of their NIC, and everything else must stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import ConfigError
from agent.host import Host
from agent.network import ifupdown, networkd, renderer

from .cases import CASES

IMAGE = """\
source /etc/network/interfaces.d/*

auto lo
iface lo inet loopback

# The primary network interface
auto eth0 eth1
allow-hotplug eth0
iface eth0 inet dhcp
    # a comment of its own
    hostname x

iface eth1 inet dhcp
"""
TAKEN = """\
source /etc/network/interfaces.d/*

auto lo
iface lo inet loopback

# The primary network interface
auto eth1
# gandi-agent: allow-hotplug eth0
# gandi-agent: iface eth0 inet dhcp
    # a comment of its own
# gandi-agent:     hostname x

iface eth1 inet dhcp
"""


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "etc/network/interfaces.d").mkdir(parents=True)
    return Host(tmp_path)


def test_the_images_stanzas_of_the_nic_are_commented_out(host: Host) -> None:
    assert ifupdown.without(IMAGE, "eth0") == TAKEN
    assert ifupdown.without(TAKEN, "eth0") == TAKEN
    assert ifupdown.without(IMAGE, "eth9") == IMAGE


def test_prepare_takes_the_nic_from_every_file_but_ours(host: Host) -> None:
    host.write("/etc/network/interfaces", IMAGE)
    host.write("/etc/network/interfaces.d/50-cloud", "auto eth0\niface eth0 inet6 auto\n")
    ours = ifupdown.path("nic0")
    host.write(ours, ifupdown.render(CASES["public"]))
    before = host.read(ours)
    ifupdown.prepare(host, CASES["public"])
    assert host.read("/etc/network/interfaces") == TAKEN
    assert ifupdown.configures(host, frozenset({"eth0"}), "") == ours
    host.remove(ours)
    host.write(ifupdown.path("dhcp-525400000001"), "iface eth0 inet dhcp\n")
    assert ifupdown.configures(host, frozenset({"eth0"}), "") == ""
    host.write(ours, before or "")
    assert ifupdown.configures(host, frozenset({"eth1"}), "") == "/etc/network/interfaces"
    assert host.read(ours) == before


@pytest.mark.parametrize(
    ("text", "added"),
    [
        (None, True),
        ("iface lo inet loopback\n", True),
        ("# source /etc/network/interfaces.d/*\n", True),
        ("source /etc/network/interfaces.d/*\n", False),
        ("source-directory /etc/network/interfaces.d\n", False),
        ("source interfaces.d/*\n", False),
    ],
)
def test_our_folder_is_read(host: Host, text: str | None, added: bool) -> None:
    if text is not None:
        host.write("/etc/network/interfaces", text)
    ifupdown.prepare(host, CASES["public"])
    now = host.read("/etc/network/interfaces") or ""
    assert now.endswith("\nsource /etc/network/interfaces.d/*\n") is added or now == text
    assert "iface lo" in now or text
    before = now
    ifupdown.prepare(host, CASES["public"])
    assert host.read("/etc/network/interfaces") == before


def test_who_manages_the_system_is_asked_in_order(tmp_path: Path) -> None:
    host, etc = Host(tmp_path), tmp_path / "etc/systemd/system/multi-user.target.wants"
    with pytest.raises(ConfigError, match="no network manager"):
        renderer(host, "auto")
    etc.mkdir(parents=True)
    (etc / "networking.service").symlink_to("/usr/lib/systemd/system/networking.service")
    with pytest.raises(ConfigError, match="no network manager"):
        renderer(host, "auto")
    host.write("/usr/sbin/ifup", "", mode=0o755)
    assert renderer(host, "auto").NAME == ifupdown.NAME
    (etc / "systemd-networkd.service").symlink_to("/usr/lib/systemd/system/systemd-networkd.service")
    assert renderer(host, "auto").NAME == networkd.NAME
    assert renderer(host, "ifupdown").NAME == ifupdown.NAME
    with pytest.raises(ConfigError, match="CONFIG_RENDERER=netplan"):
        renderer(host, "netplan")
