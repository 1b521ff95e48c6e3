"""The power is cut after a write of a first boot: the next boot ends right, at every write.

The root disk and the swap disk with the archive are recorded together, so that the order of what is stored
and what is wiped is the machine's. A third disk, which is no one's, stays as it is.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.vm import checks, sample
from tests.vm.campaign import Rounds, dice
from tests.vm.recorded import PowerCuts, RecordedMachine
from tests.vm.rig import MIB, Disk, Image, Machine, make_disk, put
from tests.vm.rig.command import run
from tests.vm.rig.qemu import ROOT_ID

#: Bytes of which no program makes anything, on a disk of its own.
FOREIGN = bytes(range(1, 256)) * 256
#: The sample's programs with their marks: each runs once, and has ended when its line is there.
PROGRAMS = {"script": "script one two words three in /", "run": "run in /"}
MARKS, UNIT = "/var/lib/gandi/instances/*/done", "gandi-script.service"
#: Names of files that are being written.
UNFINISHED = (
    "find /etc /home /root /var/lib/gandi"
    " -name '*.gandi-*' -o -name '*.lock' ! -name .pwd.lock -o -name '*+' ! -path '*/alternatives/*'"
)


@pytest.mark.long
def test_after_a_cut_at_any_write_the_next_boot_ends_right(
    platform_image: Image, tmp_path: Path, rounds: Rounds
) -> None:
    chance = dice("power cuts")
    (tmp_path / "media").mkdir()
    swap = sample.swap_disk(tmp_path / "media", script=sample.SHORT_SCRIPT)
    foreign = Disk(path=put(make_disk(tmp_path / "foreign", 16 * MIB), 0, FOREIGN), id="foreign")
    disks = [swap, foreign]
    vm = RecordedMachine(platform_image, sample.SPEC, disks, tmp_path, name="recorded first boot")
    with vm.start():
        _ends_right(vm)
        vm.power_off()

    cuts = PowerCuts(vm)
    writes = [number for number, entry in enumerate(cuts.log, 1) if entry.data]
    print(f"{len(writes)} writes and {len(cuts.log) - len(writes)} flushes")
    assert len(writes) > 500
    for number, point in zip(rounds(2, 500), chance.sample(writes, 500), strict=False):
        print(f"cut {number}: after entry {point} of {len(cuts.log)}")
        overlays = cuts.cut(point)
        left = [replace(disk, path=overlays[disk.id], format="qcow2") for disk in disks]
        root = overlays[ROOT_ID]
        with Machine(platform_image, sample.SPEC, disks=left, name=f"cut-{point}", root=root) as again:
            _ends_right(again.start())
            again.power_off()
        checks.nothing_left_on(_raw(overlays[swap.id]))
        assert _raw(overlays[foreign.id]).read_bytes() == foreign.path.read_bytes()


def _raw(overlay: Path) -> Path:
    raw = overlay.with_suffix(".content")
    run(["qemu-img", "convert", "-O", "raw", overlay, raw])
    return raw


def _ends_right(vm: Machine) -> None:
    """Check the machine, and that nothing is left of what the cut has interrupted."""
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend; systemctl list-jobs")
    vm.wait_until(f"test -e {MARKS}/run-* && ! systemctl is-active {UNIT}")
    for check in (
        checks.names,
        checks.accounts,
        checks.resolvers,
        checks.addresses,
        checks.swap,
        checks.grown,
    ):
        check(vm)
    assert vm.output("gandi-agent status --format=short").endswith(", nothing failed")
    assert vm.output(UNFINISHED) == ""
    _ran_once(vm)


def _ran_once(vm: Machine) -> None:
    """Check that no program ran twice, and each at this boot unless it had been started before the cut."""
    ran = vm.output("test ! -e /root/order || cat /root/order").splitlines()
    assert len(set(ran)) == len(ran), ran
    booted = int(vm.output("awk '$1 == \"btime\" { print $2 }' /proc/stat"))
    for name, line in PROGRAMS.items():
        marked = int(vm.output(f"stat -c %Y {MARKS}/{name}-*"))
        assert line in ran or marked < booted, (name, ran)
