"""A machine's first boot with an archive on its swap disk: the archive is applied."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.vm import checks, sample
from tests.vm.conftest import Rig
from tests.vm.rig import Disk, ImageSpec, Machine, MachineSpec, State, Table, newest_deb

UNITS = ("gandi-agent", "gandi-bootstrap", "gandi-mount", "gandi-config", "gandi-postboot")


@pytest.mark.long
def test_an_archive_on_a_raw_disk_becomes_the_machine(machine: Rig, set_up: State) -> None:
    """At 512 KiB; the machine's root filesystem is on the whole disk, without a partition table."""
    vm = machine.clone(set_up)
    _is_the_machine(vm)
    checks.addresses(vm)
    _nothing_left_on(set_up.folder / "swap")


@pytest.mark.long
def test_an_archive_on_a_gpt_disk_becomes_the_machine(machine: Rig, tmp_path: Path) -> None:
    """With the partition gandiswap; the root disk has an msdos table. The script waits for the end of the
    boot. It boots with Debian's own kernel image and initrd.
    """
    disk = sample.swap_disk(tmp_path, layout=sample.Layout.GPT, script=sample.PATIENT_SCRIPT)
    vm = _boot(machine, Table.MSDOS, disk, replace(sample.SPEC, debian_initrd=True))
    assert vm.read_file("/root/system") == b"running\n"
    _is_the_machine(vm)
    checks.addresses(vm)
    vm.run("sync")
    _nothing_left_on(disk.path)


def test_an_archive_at_the_start_of_its_disk_becomes_the_machine(machine: Rig, tmp_path: Path) -> None:
    """The root disk has a GPT with a backup header that is not at the end. The gateway is outside the
    address's network (a /32): an on-link route, over which the gateway answers.
    """
    config = sample.changed()
    pna = config["vif"][0]["pna"][0]
    pna["pna_address"], pna["pbn"]["pbn_network"] = "198.51.100.10", "198.51.100.10/32"
    disk = sample.swap_disk(tmp_path, config, script=sample.SHORT_SCRIPT, layout=sample.Layout.START)
    vm = _boot(machine, Table.GPT, disk)
    _is_the_machine(vm)
    (route,) = vm.json("ip -j route show default")
    assert route["gateway"] == "203.0.113.254"
    assert "onlink" in route["flags"]
    vm.run("ping -c1 -W5 203.0.113.254")
    assert "gandiroot" in vm.output("lsblk -rno PARTLABEL /dev/vda").split()
    vm.run("sfdisk --verify /dev/vda")
    vm.run("sync")
    _nothing_left_on(disk.path)


def _boot(machine: Rig, table: Table, disk: Disk, spec: MachineSpec = sample.SPEC) -> Machine:
    image = ImageSpec(debs=(newest_deb(),), table=table, commands=(sample.KEEPS_KEYS,))
    vm = machine.start(image, spec, disks=[disk])
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend; systemctl list-jobs")
    vm.wait_until("grep -q ^run /root/order")
    return vm


def _is_the_machine(vm: Machine) -> None:
    for check in (_names, _accounts, checks.resolvers, _swap, _scripts, _units, _root):
        check(vm)


def _nothing_left_on(medium: Path) -> None:
    raw = medium.read_bytes()
    for secret in (sample.HASH, sample.SCRIPT_SECRET, "gandi/config"):
        assert secret.encode() not in raw, f"{secret[:20]} is still on the medium"


def _root(vm: Machine) -> None:
    """Return a root disk that is made with 1.5 GB and started with 3."""
    vm.run("test $(df --output=size -B1M / | tail -1) -gt 2700")


def _names(vm: Machine) -> None:
    assert vm.output("cat /proc/sys/kernel/hostname") == "vm1"
    assert vm.read_file("/etc/hostname") == b"vm1\n"
    assert "vm1" in vm.output("grep -w vm1 /etc/hosts")
    assert vm.output("getent hosts vm1").split()[0] in ("203.0.113.10", "198.51.100.10")


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
    online = "grep -x ONLINE_STATE=online /run/systemd/netif/state"
    vm.run(f"systemctl is-active network-online.target || {online}")
    assert vm.output("stat -c '%a %u' /gandi/config") == "600 0"


def _units(vm: Machine) -> None:
    assert vm.output(f"systemctl show -P Result {' '.join(UNITS)}").split() == ["success"] * len(UNITS)
    shown = vm.output("systemctl status --no-pager --lines=50 gandi-bootstrap")
    for step in ("source", "swap", "hostname", "network", "resolver", "users"):
        assert f"{step}: changed" in shown, shown
    assert vm.run("gandi-agent status --wait=60").rc == 0
    verdict = vm.output("gandi-agent status --format=short")
    assert verdict.startswith("ready: first boot took ")
    assert verdict.endswith(", nothing failed")
    assert "cycle" not in vm.journal("init.scope")
