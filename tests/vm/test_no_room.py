"""No space, no inodes, a read-only root, disks that answer with errors: at the first boot, an attach, and a
growth. What failed is reported, nothing else stops, and once the condition is over the next run completes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.systemd.journal import Message
from tests.vm import sample
from tests.vm.conftest import Rig
from tests.vm.delivered import STAGES, delivered
from tests.vm.plugging import Plugged
from tests.vm.rig import Machine, State
from tests.vm.trouble import TROUBLES, Trouble

#: Start the stages again, as a boot would, or an administrator after a repair.
AGAIN = f"systemctl restart {STAGES}"
LOOK = "udevadm trigger --settle"
#: Temporary names of files that replace others: the agent's, and those of shadow's programs.
LEFT = (
    "find / -xdev ( -name *.gandi-*-* -o -name *.gandi-???????? -o "
    "-path /etc/passwd.[0-9]* -o -path /etc/group.[0-9]* -o -path /etc/*shadow.[0-9]* )"
)
#: Seconds until a failure is reported.
SOON = 60


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(t, marks=() if t.always else pytest.mark.soak, id=t.name.replace(" ", "-"))
        for t in TROUBLES
    ],
)
def test_what_failed_is_named_and_the_next_run_ends_right(
    machine: Rig, platform: State, tmp_path: Path, trouble: Trouble
) -> None:
    vm = machine.clone(platform)
    vm.run(trouble.before)
    one, two = (Plugged(vm, tmp_path, label) for label in ("one", "two"))
    swap = sample.swap_disk(tmp_path, script=sample.SHORT_SCRIPT)

    def first_boot() -> int:
        trouble.begin(vm)
        one.attach(fails=trouble.disk_fails)
        return 1

    begun = vm.output("date +%s")
    delivered(vm, swap, fails=trouble.swap_fails, meanwhile=first_boot)
    _is_named(vm, trouble, begun)
    _mend(vm, trouble, *(["one"] if trouble.disk_fails else []))
    vm.run(f"{LOOK}; {AGAIN}", timeout=120)
    _is_set_up(vm)
    one.is_right()

    begun = vm.output("date +%s")
    _break(vm, trouble)
    two.attach(fails=trouble.disk_fails)
    _is_named(vm, trouble, begun, unless=two.right)
    _mend(vm, trouble, *(["two"] if trouble.disk_fails else []))
    vm.run(LOOK)
    two.is_right()

    begun = vm.output("date +%s")
    _break(vm, trouble)
    for plugged in (one, two):
        if trouble.disk_fails:
            vm.break_disk(plugged.label, trouble.disk_fails)
        plugged.grow()
    _is_named(vm, trouble, begun, unless="false" if trouble.disk_fails else f"{one.right} && {two.right}")
    if trouble.disk_fails:
        vm.wait_until("test $(gandi-agent status | grep -c 'failed: .*gandi-grow-') = 2", interval=1)
    _mend(vm, trouble, *(["one", "two"] if trouble.disk_fails else []))
    if trouble.disk_fails:
        # As at a boot: a filesystem with errors seen by the kernel grows only after a check.
        again = "umount /srv/$label && gandi-agent mount $label || exit"
        vm.run(f"{LOOK}; for label in one two; do {again}; done", timeout=120)
    vm.run(AGAIN, timeout=120)
    one.is_right()
    two.is_right()
    _is_set_up(vm)
    assert vm.output(LEFT.split()) == ""
    assert vm.run(f"journalctl -b -q -o cat MESSAGE_ID={Message.DEFECT}", check=False).stdout == ""


def _break(vm: Machine, trouble: Trouble) -> None:
    """Repeat the condition on a machine that is set up, with its swap disk in use."""
    trouble.begin(vm)
    if trouble.swap_fails:
        vm.break_disk("swap", trouble.swap_fails)


def _mend(vm: Machine, trouble: Trouble, *disks: str) -> None:
    for disk in (*disks, *(["swap"] if trouble.swap_fails else [])):
        vm.mend_disk(disk)
    trouble.end(vm)


def _is_named(vm: Machine, trouble: Trouble, begun: str, *, unless: str = "false") -> None:
    """Check that what failed since then (Unix time) is reported with the system's error text, ``unless``
    that condition holds.
    """
    # With the output of the programs that it has started in transient units.
    journal = f"journalctl -b -q -o cat --since=@{begun} -u gandi-*"
    named = f"{{ {journal}; gandi-agent disks; }} 2>&1 | grep -qE '{trouble.words}'"
    vm.wait_until(f"{{ {unless}; }} || {named}", timeout=SOON, interval=1)
    said = vm.run("gandi-agent status", check=False)
    assert said.rc in (0, 1, 2), said.stderr
    assert "Traceback" not in said.stderr


def _is_set_up(vm: Machine) -> None:
    """Check that the machine is as in its document."""
    said = vm.run("gandi-agent status", check=False)
    assert said.rc == 0, said.stdout
    assert vm.output("hostname") == "vm1"
    vm.wait_until("ip -br addr | grep -q 203.0.113.10/24")
    vm.run("swapon --show=NAME --noheadings | grep -q /dev/")
    vm.wait_until("grep -q ^run /root/order")
    assert [line.split()[0] for line in sample.order(vm)] == ["script", "run"]
    keys = vm.read_file("/home/admin1/.ssh/authorized_keys").decode().split("\n")
    assert keys == [sample.KEY, sample.OTHER_KEY, ""]
    assert f"admin1:{sample.HASH}:" in vm.read_file("/etc/shadow").decode()
    assert vm.output("stat -c %a /gandi/config") == "600"
