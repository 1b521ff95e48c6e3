"""A machine boots for the first time with an archive in its swap disk, and is what the archive
describes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm import checks, sample
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
    for check in (_names, _accounts, checks.addresses, checks.resolvers, _swap, _scripts, _units):
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
