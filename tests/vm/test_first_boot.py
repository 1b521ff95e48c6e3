"""A machine boots for the first time with an archive in its swap disk, and is what the archive
describes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm import sample
from tests.vm.conftest import Rig
from tests.vm.rig import Image, Machine

UNITS = ("gandi-agent", "gandi-bootstrap", "gandi-mount", "gandi-config", "gandi-postboot")


@pytest.mark.parametrize("layout", list(sample.Layout))
def test_the_archive_becomes_the_machine(
    machine: Rig, image: Image, tmp_path: Path, layout: sample.Layout
) -> None:
    """Every layout of the medium: raw at 512 KiB, GPT with the partition gandiswap, and offset 0."""
    disk = sample.swap_disk(tmp_path, layout=layout)
    vm = machine.start(image, sample.SPEC, disks=[disk])
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend; systemctl list-jobs")
    vm.wait_until("grep -q ^run /root/order")
    for check in (_names, _accounts, _addresses, _resolvers, _swap, _scripts, _units):
        check(vm)
    vm.run("sync")
    raw = disk.path.read_bytes()
    for secret in (sample.HASH, sample.SCRIPT_SECRET, "gandi/config"):
        assert secret.encode() not in raw, f"{secret[:20]} is still on the medium"


def _names(vm: Machine) -> None:
    assert vm.output("cat /proc/sys/kernel/hostname") == "vm1"
    assert vm.read_file("/etc/hostname") == b"vm1\n"
    assert "vm1" in vm.output("grep -w vm1 /etc/hosts")
    assert vm.output("getent hosts vm1").split()[0] in ("203.0.113.10", "2001:db8::10", "127.0.1.1")


def _accounts(vm: Machine) -> None:
    shadow = dict(line.split(":")[:2] for line in vm.read_file("/etc/shadow").decode().splitlines())
    assert shadow["root"] == sample.HASH
    assert shadow["admin1"] == sample.HASH
    assert "sudo" in vm.output("id -Gn admin1").split()
    for user, home in (("root", "/root"), ("admin1", "/home/admin1")):
        keys = vm.read_file(f"{home}/.ssh/authorized_keys").decode().splitlines()
        assert sorted(keys) == sorted([sample.KEY, sample.OTHER_KEY])
        asked = f"stat -c '%a %U' {home}/.ssh {home}/.ssh/authorized_keys"
        assert vm.output(asked).splitlines() == [f"700 {user}", f"600 {user}"]


def _addresses(vm: Machine) -> None:
    links = {link["address"]: link["ifname"] for link in vm.json("ip -j link")}
    public, private = links[sample.PUBLIC_NIC.mac], links[sample.PRIVATE_NIC.mac]
    assert {"203.0.113.10/24", "2001:db8::10/64"} <= _cidrs(vm, public)
    assert "192.168.1.5/24" in _cidrs(vm, private)
    assert not [c for c in _cidrs(vm, public) if c.startswith("2001:db8::") and c != "2001:db8::10/64"]
    routes = vm.json("ip -j route show default")
    assert [(r["gateway"], r["dev"]) for r in routes] == [("203.0.113.254", public)]
    six = vm.json("ip -j -6 route show default")
    assert [(r["gateway"], r["dev"]) for r in six] == [("2001:db8::1", public)]
    vm.run("ping -c1 -W5 203.0.113.254")
    vm.run("ping -c1 -W5 2001:db8::1")


def _cidrs(vm: Machine, link: str) -> set[str]:
    found = vm.json(f"ip -j addr show dev {link} scope global")
    # With a filter, ip(8) prints an empty object for each address that does not match.
    return {f"{a['local']}/{a['prefixlen']}" for link in found for a in link.get("addr_info", ()) if a}


def _resolvers(vm: Machine) -> None:
    lines = vm.read_file("/etc/resolv.conf").decode().splitlines()
    servers = [line.split()[1] for line in lines if line.startswith("nameserver")]
    assert len(servers) == 3
    assert "2001:db8::3" in servers
    assert len([s for s in servers if s.startswith("203.0.113.")]) == 2
    assert "options timeout:1 attempts:3 rotate" in lines


def _swap(vm: Machine) -> None:
    swaps = vm.output("swapon --noheadings --show=NAME,TYPE").split()
    assert swaps[1] == "partition"
    assert vm.output(f"blkid -p -o value -s LABEL {swaps[0]}") == "swap"


def _scripts(vm: Machine) -> None:
    assert sample.order(vm) == ["script one two words three in /", "run in /"]
    assert vm.read_file("/root/arguments") == b"<one><two words><three>"
    assert vm.output("stat -c '%a %u' /gandi/config") == "600 0"


def _units(vm: Machine) -> None:
    for unit in UNITS:
        assert vm.output(f"systemctl show -P Result {unit}") == "success", unit
    shown = vm.output("systemctl status --no-pager --lines=50 gandi-bootstrap")
    for step in ("source", "swap", "hostname", "network", "resolver", "users"):
        assert f"{step}: changed" in shown, shown
    assert vm.run("gandi-agent status --wait=60").rc == 0
    assert "cycle" not in vm.journal("init.scope")


def test_a_gateway_outside_the_network_is_an_on_link_route(
    machine: Rig, image: Image, tmp_path: Path
) -> None:
    """A /32 with a gateway elsewhere: the route is there, and the gateway answers."""
    config = sample.changed()
    pna = {
        "pna_address": "198.51.100.10",
        "pbn": {"pbn_network": "198.51.100.10/32", "pbn_gateway": "203.0.113.254"},
    }
    config["vif"] = [{"vif_number": 0, "pna": [pna]}]
    vm = machine.start(image, sample.SPEC, disks=[sample.swap_disk(tmp_path, config)])
    assert vm.wait_booted() == "running"
    (route,) = vm.json("ip -j route show default")
    assert route["gateway"] == "203.0.113.254"
    assert "onlink" in route["flags"]
    vm.run("ping -c1 -W5 203.0.113.254")
