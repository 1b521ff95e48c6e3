"""The second boot and later ones: nothing runs twice, nothing is undone, only changes are applied."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from agent.accounts import passwd
from tests.vm import sample, test_config_stage
from tests.vm.conftest import Rig
from tests.vm.delivered import delivered_again
from tests.vm.rig import MIB, Disk, Machine, MachineSpec, State, make_filesystem

#: Every file that the agent may have written since the image was made (the channel is its last file), with
#: the time of its last change.
WRITTEN = (
    "find /etc /gandi /var/lib/gandi /root/.ssh /home/admin1 -xdev -type f -newer /usr/lib/rig/channel.py "
    "! -path '/etc/machine-id' ! -path '*/systemd/random-seed' -printf '%p %T@\\n' | sort"
)


@pytest.mark.long
def test_a_boot_with_nothing_new_changes_nothing(machine: Rig, set_up: State, tmp_path: Path) -> None:
    """After a power cut, with the same archive as at each cold boot. Without one: test_settled.py."""
    vm = machine.clone(set_up)
    vm.run("sync")
    before, stamps = written(vm), vm.output(test_config_stage.STAMPS)
    vm.cut_power()
    vm.cold_boot(disks=[sample.swap_disk(tmp_path)])
    assert vm.wait_booted() == "running"
    nothing_moved(vm, before, fresh=("source", "swap"))
    test_config_stage.nothing_moved(vm, stamps)
    assert vm.output("swapon --noheadings --show=NAME"), "the new disk is swap again"


def written(vm: Machine) -> str:
    """Return the files that the agent may have written, with their times."""
    return vm.output(WRITTEN)


def nothing_moved(vm: Machine, before: str, fresh: tuple[str, ...] = ()) -> None:
    """Check that a boot has written no file since ``before``, and that every step but ``fresh`` is
    unchanged.
    """
    assert "/etc/hostname" in before
    assert written(vm) == before
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


#: Changes by hand, each with the item that it changes, the beginning of the answer, what to ask about it,
#: and its place in the document.
PLANTED: tuple[tuple[str, str, str, str, list[str]], ...] = (
    ("echo mine > /etc/hostname", "hostname", "changed", "/etc/hostname", ["hostname"]),
    ("chmod 0600 /etc/hosts", "hosts", "mode 0600, left as 0644", "/etc/hosts", ["hostname"]),
    (
        f"sed -i '/{sample.KEY.split()[1]}/d' /root/.ssh/authorized_keys",
        f"key:root:{passwd.fingerprint(sample.KEY)}",
        "removed",
        "me@laptop",
        ["users[root].keys[0]"],
    ),
    (
        "echo 'nameserver 192.0.2.1' > /etc/resolv.conf",
        "resolvers",
        "changed",
        "203.0.113.3",
        ["nameservers"],
    ),
    ("sysctl -qw vm.swappiness=60", "sysctl:vm.swappiness", "is 60, left as 10", "vm.swappiness", []),
    (
        "ip address delete 203.0.113.10/24 dev $(ip -br address | awk '/203.0.113.10/ { print $1 }')",
        "address:203.0.113.10/24",
        "is not on e",
        "203.0.113.10",
        ["nics[0].addresses[0]"],
    ),
    ("umount /srv/data", "disk:", "is not mounted at /srv/data", "/srv/data", []),
    ("gpasswd -d admin1 sudo", "group:admin1", "removed", "admin1", ["users[admin1].admin"]),
    ("ln -sf /usr/share/zoneinfo/Etc/UTC /etc/localtime", "timezone", "changed", "/etc/localtime", []),
    ("rm /etc/update-motd.d/15-gandi", "motd", "removed", "/etc/update-motd.d/15-gandi", []),
    (
        "echo '# mine' >> $(grep -l 192.168.1.5 /etc/systemd/network/*)",
        "nic:1",
        "changed",
        "52:54:00:00:00:11",
        ["nics[1]"],
    ),
)


def test_what_was_changed_by_hand_is_named(machine: Rig, set_up: State, tmp_path: Path) -> None:
    """``status --drift`` and ``why``: nothing on a machine as it was left, and then each planted change."""
    vm = machine.clone(set_up)
    path = make_filesystem(tmp_path / "data.img", 64 * MIB, "ext4", label="data")
    vm.add_disk(Disk(path=path, id="data"))
    vm.wait_until("mountpoint -q /srv/data")
    before = vm.output(WRITTEN)
    said = vm.json("gandi-agent status --drift --json")
    assert said["drift"] == said["not_compared"] == []
    assert {"address:192.168.1.5/24", "address:2001:db8::10/64", "user:admin1", "kernel's hostname"} < set(
        said["compared"]
    )
    assert vm.output("gandi-agent status --drift").endswith("each as the agent left it")
    assert vm.output(WRITTEN) == before, "nothing was written"

    for command, *_ in PLANTED:
        vm.run(command)
    before = vm.output(WRITTEN)
    answer = vm.run("gandi-agent status --drift --json", check=False)
    assert answer.rc == 3
    drift = json.loads(answer.stdout)["drift"]
    named = {f"{one['name'].partition(':')[0]}:" if "disk" in one["name"] else one["name"] for one in drift}
    assert named == {item for _, item, *_ in PLANTED}, drift
    for _, item, change, what, place in PLANTED:
        (one,) = (one for one in drift if one["name"].startswith(item))
        assert one["change"].startswith(change), one
        assert one["document"] == place, one
        assert one["applied"] or item in ("disk:", "address:203.0.113.10/24"), one
        assert one["change"] in _changes(vm.json(f"gandi-agent why --json {shlex.quote(what)}")), what
    assert vm.output(WRITTEN) == before, "nothing was written"
    shown = vm.run("gandi-agent status --drift; gandi-agent why root; gandi-agent why admin1", check=False)
    assert "192.0.2.1" not in shown.stdout
    assert sample.HASH not in shown.stdout


def _changes(answer: dict[str, Any]) -> list[str]:
    return [one["change"] for one in answer["answers"]]


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
