"""The second boot and later ones: nothing runs twice, nothing is undone, only changes are applied."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm import sample, test_config_stage
from tests.vm.conftest import Rig
from tests.vm.delivered import delivered_again
from tests.vm.rig import Disk, Machine, MachineSpec, State

#: Every file that the agent may have written since the image was made (the channel is its last file), with
#: the time of its last change.
WRITTEN = (
    "find /etc /gandi /var/lib/gandi /root/.ssh /home/admin1 -xdev -type f -newer /usr/lib/rig/channel.py "
    "! -path '/etc/machine-id' ! -path '*/systemd/random-seed' -printf '%p %T@\\n' | sort"
)


@pytest.mark.long
def test_a_boot_with_nothing_new_changes_nothing(machine: Rig, set_up: State, tmp_path: Path) -> None:
    """A reboot without an archive; then, after a power cut, with the same archive as at each cold boot."""
    vm = machine.clone(set_up)
    vm.run("sync")
    before, stamps = vm.output(WRITTEN), vm.output(test_config_stage.STAMPS)
    vm.reboot()
    assert vm.wait_booted() == "running"
    _nothing_moved(vm, before)
    test_config_stage.nothing_moved(vm, stamps)
    vm.cut_power()
    vm.cold_boot(disks=[sample.swap_disk(tmp_path)])
    assert vm.wait_booted() == "running"
    _nothing_moved(vm, before, fresh=("source", "swap"))
    assert vm.output("swapon --noheadings --show=NAME"), "the new disk is swap again"


def _nothing_moved(vm: Machine, before: str, fresh: tuple[str, ...] = ()) -> None:
    assert "/etc/hostname" in before
    assert vm.output(WRITTEN) == before
    found = sample.steps(vm, "bootstrap")
    assert {step: outcome for step, outcome in found.items() if step not in fresh} == {
        step: outcome if outcome == "skipped" else "unchanged"
        for step, outcome in found.items()
        if step not in fresh
    }
    assert found["users"] == found["network"] == found["hostname"] == found["resolver"] == "unchanged"
    assert len(sample.order(vm)) == 2, "what runs once ran once"


#: The administrator's changes by hand.
ADMINISTERS = " && ".join(
    [
        "echo root:other | chpasswd",
        "echo mine > /etc/hostname",
        "hostname mine",
        "printf 'nameserver 203.0.113.3\\n' > /etc/resolv.conf",
        f"sed -i '/{sample.KEY.split()[1]}/d' /root/.ssh/authorized_keys",
        "userdel admin1",
    ]
)


def test_what_the_administrator_changed_is_kept(machine: Rig, set_up: State, tmp_path: Path) -> None:
    """Password, hostname, resolver, a removed key and a removed user, over a cold boot with the same
    archive.
    """
    vm = machine.clone(set_up)
    vm.run(f"{ADMINISTERS} && sync")
    password = _password(vm)
    vm.cut_power()
    vm.cold_boot(disks=[sample.swap_disk(tmp_path)])
    assert vm.wait_booted() == "running"
    assert _password(vm) == password
    _as_the_administrator_left_it(vm)
    kept = {item["name"] for item in sample.items(vm, "bootstrap") if item["outcome"] == "kept"}
    assert {"hostname", "resolvers", "password:root", "user:admin1"} <= kept, kept
    assert "changed by admin" in vm.output("gandi-agent status")

    # One field is changed in the archive: only that one is applied.
    delivered_again(vm, sample.swap_disk(tmp_path, sample.changed(password=sample.NEW_HASH)))
    assert _password(vm) == sample.NEW_HASH
    _as_the_administrator_left_it(vm)
    assert len(sample.order(vm)) == 2


def _password(vm: Machine) -> str:
    return vm.output("grep ^root: /etc/shadow").split(":")[1]


def _as_the_administrator_left_it(vm: Machine) -> None:
    assert vm.output("cat /etc/hostname /proc/sys/kernel/hostname").split() == ["mine", "mine"]
    assert vm.read_file("/etc/resolv.conf") == b"nameserver 203.0.113.3\n"
    assert vm.read_file("/root/.ssh/authorized_keys").decode().splitlines() == [sample.OTHER_KEY]
    vm.run("! id admin1")


@pytest.mark.soak
def test_another_id_is_another_instance(machine: Rig, set_up: State, tmp_path: Path) -> None:
    """A clone of the disk on another machine with its own archive is set up again, scripts included."""
    vm = machine.clone(set_up)
    identifies = "cat /etc/machine-id /etc/ssh/ssh_host_*_key.pub"
    before = vm.output(identifies).splitlines()
    vm.power_off()
    config = sample.changed() | {"vm_hostname": "vm2"}
    other = MachineSpec(
        nics=sample.SPEC.nics, root_size=sample.ROOT_SIZE, uuid="6a1d8f5e-52a5-4c39-9d0c-000000000002"
    )
    vm.spec = other
    vm.cold_boot(disks=[sample.swap_disk(tmp_path, config)])
    assert vm.wait_booted() == "running"
    vm.wait_until("test $(wc -l < /root/order) = 4")
    assert vm.output("cat /etc/hostname") == "vm2"
    after = vm.output(identifies).splitlines()
    assert len(before) == len(after) == 4
    assert not set(before) & set(after)


@pytest.mark.soak
def test_no_medium_and_another_uuid_is_the_same_instance(machine: Rig, set_up: State) -> None:
    """A restored or migrated machine keeps its address and keys, with a warning that names the remedy."""
    vm = machine.clone(set_up)
    vm.power_off()
    vm.spec = MachineSpec(
        nics=sample.SPEC.nics, root_size=sample.ROOT_SIZE, uuid="6a1d8f5e-52a5-4c39-9d0c-000000000003"
    )
    disks: list[Disk] = []
    vm.cold_boot(disks=disks)
    assert vm.wait_booted() == "running"
    assert vm.output("cat /etc/hostname") == "vm1"
    assert "203.0.113.10/24" in vm.output("ip -br addr")
    assert "gandi-agent clean" in vm.output("gandi-agent status")
    assert len(sample.order(vm)) == 2
