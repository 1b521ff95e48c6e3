"""ifupdown merges stanzas: the agent's must be the only ones for their NIC, and all others must stay."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.config.nics import Dhcp, Nic, NicOptions, Route
from agent.host.host import Completed, Host
from agent.lib.errors import ConfigError, HostError
from agent.network import ifupdown
from agent.systemd import units
from tests.unit.conftest import FakePid1

from .cases import CASES, links
from .readback_cases import RARE

PUBLIC = CASES["public"][0]

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
    ours = ifupdown.paths("nic0")[0]
    host.write(ours, ifupdown.render(PUBLIC)[0].text)
    before = host.read(ours)
    ifupdown.prepare(host, PUBLIC)
    assert host.read("/etc/network/interfaces") == TAKEN
    assert ifupdown.configures(host, frozenset({"eth0"}), "") == ours
    host.remove(ours)
    host.write(ifupdown.paths("dhcp-525400000001")[0], "iface eth0 inet dhcp\n")
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
    ifupdown.prepare(host, PUBLIC)
    now = host.read("/etc/network/interfaces") or ""
    assert now.endswith("\nsource /etc/network/interfaces.d/*\n") is added or now == text
    assert "iface lo" in now or text
    before = now
    ifupdown.prepare(host, PUBLIC)
    assert host.read("/etc/network/interfaces") == before


class Running(Host):
    """A machine in a folder that counts as the running system, with networking.service active; the ifdown of
    one NIC times out.
    """

    asked: list[tuple[str, ...]]

    @property
    def live(self) -> bool:
        return True

    def run(self, argv: Sequence[str], **_how: object) -> Completed:
        self.asked.append(tuple(argv))
        if tuple(argv) == ("ifdown", "--force", "eth0"):
            raise HostError("ifdown --force eth0: still running after 30 s, killed")
        return Completed(tuple(argv), 0, "", "")


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    monkeypatch.setattr(units, "is_active", lambda _host, unit: unit == "networking.service")
    host = Running(tmp_path)
    host.asked = []
    return host


def test_a_nic_that_does_not_go_down_keeps_no_other_from_coming_up(running: Running) -> None:
    with pytest.raises(HostError, match="eth0"):
        ifupdown.reload(running, CASES["two-gateways"])
    assert ("systemctl", "--no-block", "restart", "ifup@eth1.service") in running.asked


def test_what_asks_for_an_address_of_a_virtual_nic_outlives_the_daemon(
    running: Running, fake_pid1: FakePid1
) -> None:
    ifupdown.reload(running, [link for link in CASES["vlan-beside-addresses"] if link.is_virtual])
    ((unit, said),) = fake_pid1.started
    program, *arguments = said["ExecStart"]
    # The path depends on the build host.
    assert (unit, os.path.basename(program), arguments) == ("gandi-ifup-eth0-7.service", "ifup", ["eth0.7"])
    assert said["KillMode"] == ("process",)


@pytest.mark.parametrize(
    "nic",
    [
        Nic(0, dhcp4=True, options=NicOptions(dhcp4=Dhcp(hostname="$(reboot)"))),
        Nic(0, options=NicOptions(set_mac="02:00:00:00:00:01; reboot")),
        Nic(0, options=NicOptions(ipv6_address_token="::1\n    up reboot")),
        Nic(0, routes=(Route("10.0.0.0/8", type="`reboot`"),)),
        Nic(0, routes=(Route("10.0.0.0/8", "10.0.0.1|reboot"),)),
    ],
    ids=["hostname", "mac", "token", "type", "gateway"],
)
def test_a_shell_gets_no_character_that_it_interprets(nic: Nic) -> None:
    with pytest.raises(ConfigError, match="would interpret"):
        ifupdown.render(links(nic)[0])


def test_the_stanzas_of_lo_stay(host: Host) -> None:
    host.write("/etc/network/interfaces", IMAGE)
    ifupdown.prepare(host, RARE["loopback"][0])
    assert host.read("/etc/network/interfaces") == IMAGE


def test_a_nic_that_the_administrator_brings_up_is_not_brought_up(running: Running) -> None:
    required, manual, off = RARE["how-it-is-brought-up"]
    ifupdown.reload(running, [manual])
    assert running.asked == []
    ifupdown.reload(running, [off])
    assert running.asked == [("ifdown", "--force", "eth2")]
    with pytest.raises(HostError):
        ifupdown.reload(running, [required])


def test_what_the_old_file_has_added_is_removed_before_it_changes(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[tuple[str, ...]]()

    def run(_host: Host, argv: tuple[str, ...], **_how: object) -> Completed:
        asked.append(argv)
        return Completed(argv, 0, "", "")

    monkeypatch.setattr(Host, "run", run)
    old = RARE["routes-in-tables"][0]
    host.write(ifupdown.paths(old.key)[0], ifupdown.render(old)[0].text)
    # Nothing of it is in force yet.
    ifupdown.prepare(host, PUBLIC)
    assert asked == []
    monkeypatch.setattr(units, "is_active", lambda _host, unit: unit == "networking.service")
    ifupdown.prepare(host, PUBLIC)
    assert asked[0] == ("ip", "-4", "rule", "del", "from", "203.0.113.10", "lookup", "101")
    assert [argv[1:4] for argv in asked[1:]] == [("-4", "rule", "del"), ("-6", "rule", "del")]
