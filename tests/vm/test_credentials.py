"""Machines without any drive: the document and the script are passed by SMBIOS, and by QEMU's fw_cfg."""

from __future__ import annotations

import base64
import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from tests.vm import checks, sample, test_settled
from tests.vm.conftest import Rig
from tests.vm.delivered import NATIVE, NETPLAN, keys, resolvers
from tests.vm.rig import Image, Machine, State, saved
from tests.vm.test_first_boot import UNITS
from tests.vm.test_secrets import is_only_where_it_belongs

#: The native form of the sample's document. The script beside it is passed as another credential.
DOCUMENT: dict[str, Any] = NATIVE | {
    "version": 1,
    "hostname": "vm1",
    "users": [
        {"name": "root", "password": sample.HASH, "keys": [sample.KEY]},
        {"name": "admin1", "password": sample.HASH, "keys": [sample.KEY, sample.OTHER_KEY], "admin": True},
    ],
    "scripts": [{"name": "run", "content": f"echo run in $PWD >> /root/order; : {sample.RUN_SECRET}"}],
}
SECRETS = (sample.HASH, sample.SCRIPT_SECRET, sample.RUN_SECRET)
#: PID 1's folder, where root alone can read; not on a disk.
PASSED = "/run/credentials/@system/"
#: No concern of the agent's. With an item the guest loads the module for them, and its command line differs.
OTHER_ITEM = ("opt/org.example.other", b"other")
#: One of systemd's own, in no document.
SYSTEMDS_KEY = sample.public_key(3, "systemd@platform")


def _credential(name: str, content: bytes) -> str:
    return f"io.systemd.credential.binary:{name}={base64.b64encode(content).decode()}"


def _source(vm: Machine) -> str:
    (found,) = [item["detail"] for item in sample.items(vm, "bootstrap") if item["name"] == "source"]
    return found


def _json(**changes: Any) -> bytes:
    return json.dumps(copy.deepcopy(DOCUMENT) | changes).encode()


SMBIOS = replace(
    sample.SPEC,
    smbios=(
        _credential("gandi.config", _json()),
        _credential("gandi.script", sample.SCRIPT),
        f"io.systemd.credential:ssh.authorized_keys.root={SYSTEMDS_KEY}",
    ),
    fw_cfg=(OTHER_ITEM,),
)


@pytest.fixture
def from_smbios(platform_image: Image) -> State:
    """A machine after its first boot, with strings of SMBIOS and no drive."""
    return saved(platform_image, "from smbios", _first_boot, SMBIOS)


def _first_boot(vm: Machine) -> None:
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend; systemctl list-jobs")
    vm.wait_until("grep -q ^run /root/order")
    vm.run("sync")


@pytest.mark.long
def test_smbios_makes_the_machine(machine: Rig, from_smbios: State) -> None:
    vm = machine.clone(from_smbios)
    _is_the_machine(vm)
    assert _source(vm) == "the credential gandi.config, a new instance"
    assert keys(vm) == [SYSTEMDS_KEY, sample.KEY]
    (item,) = [i for i in sample.items(vm, "bootstrap") if i["name"] == "ssh.authorized_keys.root"]
    assert "systemd" in item["detail"]
    _no_secret_leaves(vm)


@pytest.mark.long
def test_the_same_bytes_are_nothing_new_and_others_are_applied(machine: Rig, from_smbios: State) -> None:
    """The others come by fw_cfg, under systemd's name."""
    vm = machine.clone(from_smbios)
    test_settled.at_rest(vm)
    vm.run(f"! grep -qF '{sample.HASH}' {test_settled.MARK}")
    vm.run(f"{test_settled.WATCHED}; {test_settled.MARK_NOW}; sync")
    vm.power_off()
    vm.cold_boot()
    assert vm.wait_booted() == "running"
    test_settled.nothing_ran(vm)

    vm.power_off()
    changed = _json(hostname="vm2", users=[DOCUMENT["users"][0] | {"keys": [sample.OTHER_KEY]}])
    vm.spec = replace(sample.SPEC, fw_cfg=(("opt/io.systemd.credentials/gandi.config", changed), OTHER_ITEM))
    vm.cold_boot()
    assert vm.wait_booted() == "running"
    assert test_settled.said(vm) == "not as the last boot left it: was: passed gandi.config"
    assert vm.output("hostname") == "vm2"
    assert keys(vm) == [SYSTEMDS_KEY, sample.OTHER_KEY], "systemd's key is no longer passed, and stays"
    assert _source(vm) == "the credential gandi.config, a changed document"
    assert len(sample.order(vm)) == 2, "no program that runs once ran again"


@pytest.mark.long
def test_fw_cfg_makes_the_same_machine(machine: Rig, platform_image: Image) -> None:
    items = (("opt/net.gandi.config", _json()), ("opt/net.gandi.script", sample.SCRIPT))
    vm = machine.start(platform_image, replace(sample.SPEC, fw_cfg=items))
    _first_boot(vm)
    _is_the_machine(vm)
    assert _source(vm) == "opt/net.gandi.config of fw_cfg, a new instance"
    vm.run("! su nobody -s /bin/sh -c 'cat /sys/firmware/qemu_fw_cfg/by_name/opt/net.gandi.config/raw'")
    _no_secret_leaves(vm)
    test_settled.at_rest(vm)
    vm.run(f"grep -q 'passed .*net.gandi.script' {test_settled.MARK}")
    assert vm.output(test_settled.CHECK) == test_settled.NOTHING_NEW


def _is_the_machine(vm: Machine) -> None:
    """Check all of a first boot that an archive's disk has no part in."""
    assert vm.output("hostname") == "vm1"
    assert vm.read_file("/etc/hostname") == b"vm1\n"
    assert vm.output("getent hosts vm1").split()[0] == "203.0.113.10"
    shadow = dict(line.split(":")[:2] for line in vm.read_file("/etc/shadow").decode().splitlines())
    assert shadow["root"] == shadow["admin1"] == sample.HASH
    assert "sudo" in vm.output("id -Gn admin1").split()
    assert keys(vm, "/home/admin1") == [sample.KEY, sample.OTHER_KEY]
    for user, home in (("root", "/root"), ("admin1", "/home/admin1")):
        asked = f"stat -c '%a %U' {home}/.ssh {home}/.ssh/authorized_keys"
        assert vm.output(asked).splitlines() == [f"700 {user}", f"600 {user}"]
    checks.addresses(vm)
    resolvers(vm)
    assert sample.order(vm) == ["script  in /", "run in /"]
    assert vm.output(f"systemctl show -P Result {' '.join(UNITS)}").split() == ["success"] * len(UNITS)
    vm.run("test $(df --output=size -B1M / | tail -1) -gt 2700")
    assert vm.run("gandi-agent status --wait=60").rc == 0
    verdict = vm.output("gandi-agent status --format=short")
    assert verdict.startswith("ready: first boot took ")
    assert verdict.endswith(", nothing failed")
    assert "cycle" not in vm.journal("init.scope")


def _no_secret_leaves(vm: Machine) -> None:
    is_only_where_it_belongs(vm, SECRETS, (PASSED,))
    vm.run(f"! su nobody -s /bin/sh -c 'ls {PASSED} || ls /run/gandi/credentials/*'")


def test_a_line_of_nocloud_names_the_machine(machine: Rig, platform_image: Image) -> None:
    """By the serial number in SMBIOS; its network is on the kernel command line. No URL is fetched."""
    network = base64.b64encode(NETPLAN.encode()).decode()
    line = "ds=nocloud;h=nc1;i=line-1;s=http://203.0.113.254/"
    spec = replace(sample.SPEC, serial=line, cmdline=(f"network-config={network}",))
    vm = machine.start(platform_image, spec)
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend; systemctl list-jobs")
    assert vm.output("hostname") == "nc1"
    assert _source(vm) == "the serial number, a new instance"
    (url,) = [i for i in sample.items(vm, "bootstrap") if i["name"] == "the serial number: seedfrom"]
    assert (url["outcome"], url["detail"]) == ("skipped", "nothing is fetched from the network or a path")
    assert vm.output("gandi-agent get local-hostname") == "nc1"
    checks.addresses(vm)
