"""No space, no inodes, a read-only root, disks that answer with errors: at the first boot, an attach, and a
growth. What failed is reported, nothing else stops, and once the condition is over the next run completes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm import sample
from tests.vm.conftest import Rig
from tests.vm.delivered import STAGES, delivered
from tests.vm.outcome import is_named, is_set_up, no_defect, nothing_left
from tests.vm.plugging import Plugged
from tests.vm.rig import Machine, State
from tests.vm.trouble import TROUBLES, Trouble

#: Start the stages again, as a boot would, or an administrator after a repair.
AGAIN = f"systemctl restart {STAGES}"
LOOK = "udevadm trigger --settle"


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
    is_named(vm, trouble.words, begun)
    _mend(vm, trouble, *(["one"] if trouble.disk_fails else []))
    vm.run(f"{LOOK}; {AGAIN}", timeout=120)
    is_set_up(vm)
    one.is_right()

    begun = vm.output("date +%s")
    _break(vm, trouble)
    two.attach(fails=trouble.disk_fails)
    is_named(vm, trouble.words, begun, unless=two.right)
    _mend(vm, trouble, *(["two"] if trouble.disk_fails else []))
    vm.run(LOOK)
    two.is_right()

    begun = vm.output("date +%s")
    _break(vm, trouble)
    for plugged in (one, two):
        if trouble.disk_fails:
            vm.break_disk(plugged.label, trouble.disk_fails)
        plugged.grow()
    is_named(
        vm, trouble.words, begun, unless="false" if trouble.disk_fails else f"{one.right} && {two.right}"
    )
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
    is_set_up(vm)
    nothing_left(vm)
    no_defect(vm)


def _break(vm: Machine, trouble: Trouble) -> None:
    """Repeat the condition on a machine that is set up, with its swap disk in use."""
    trouble.begin(vm)
    if trouble.swap_fails:
        vm.break_disk("swap", trouble.swap_fails)


def _mend(vm: Machine, trouble: Trouble, *disks: str) -> None:
    for disk in (*disks, *(["swap"] if trouble.swap_fails else [])):
        vm.mend_disk(disk)
    trouble.end(vm)
