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
from tests.vm.outcome import ends_right
from tests.vm.recorded import PowerCuts, RecordedMachine
from tests.vm.rig import MIB, Disk, Image, Machine, make_disk, put
from tests.vm.rig.command import run
from tests.vm.rig.qemu import ROOT_ID

#: Bytes of which no program makes anything, on a disk of its own.
FOREIGN = bytes(range(1, 256)) * 256


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
        ends_right(vm)
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
            ends_right(again.start())
            again.power_off()
        checks.nothing_left_on(_raw(overlays[swap.id]))
        assert _raw(overlays[foreign.id]).read_bytes() == foreign.path.read_bytes()


def _raw(overlay: Path) -> Path:
    raw = overlay.with_suffix(".content")
    run(["qemu-img", "convert", "-O", "raw", overlay, raw])
    return raw
