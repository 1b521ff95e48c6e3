"""How much a logical volume grows; real LVM is in tests/vm/test_disk_volumes.py."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from agent.disks.growth import lvm
from agent.disks.growth.lvm import Before, Lv, Pv
from agent.host.host import Completed, Host
from agent.lib.errors import HostError
from agent.lib.records import asdict, replace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

EXTENT = 4 << 20
ONE = Lv("data", "uuid-1", 10 * EXTENT, "linear", "253:0")
TWO = Lv("more", "uuid-2", 5 * EXTENT, "linear", "253:1")
#: Of 25 extents ten are the volume's; ten were there when the operation began, so 15 were gained.
GROWN = Pv(0, 25, EXTENT, "vg", 15, (ONE,))
BEGAN = Before(10, "uuid-1", 10 * EXTENT)


@pytest.mark.parametrize(
    ("pv", "before", "answer"),
    [
        (GROWN, BEGAN, 25),
        # Five extents were free, and stay free.
        (replace(GROWN, extents=30, free=20), replace(BEGAN, extents=15), 25),
        # After a power failure: the volume has grown already, or in part.
        (replace(GROWN, volumes=(replace(ONE, size=25 * EXTENT),), free=0), BEGAN, 25),
        (replace(GROWN, volumes=(replace(ONE, size=20 * EXTENT),), free=5), BEGAN, 25),
        (replace(GROWN, volumes=(ONE, TWO)), BEGAN, "it has 2 volumes"),
        (replace(GROWN, volumes=()), Before(10), "it has no volumes"),
        (GROWN, Before(10), "its one volume is not linear"),
        (replace(GROWN, volumes=(replace(ONE, size=26 * EXTENT),)), BEGAN, "changed by another program"),
        (replace(GROWN, volumes=(replace(ONE, size=9 * EXTENT),)), BEGAN, "changed by another program"),
        (replace(GROWN, volumes=(TWO,)), BEGAN, "changed by another program"),
        (replace(GROWN, free=14), BEGAN, "in use already"),
    ],
)
def test_what_is_due(pv: Pv, before: Before, answer: int | str) -> None:
    due = lvm.due(pv, before)
    if isinstance(answer, str):
        assert isinstance(due, str)
        assert answer in due
    else:
        assert due == replace(ONE, size=answer * EXTENT)


def test_what_was_noted_counts_and_else_what_is_there() -> None:
    assert lvm.before(GROWN, None) == Before(25, "uuid-1", 10 * EXTENT)
    assert lvm.before(GROWN, json.loads(json.dumps(asdict(BEGAN)))) == BEGAN
    assert lvm.before(replace(GROWN, volumes=(ONE, TWO)), None) == Before(25)
    assert lvm.before(replace(GROWN, volumes=(replace(ONE, layout="thin,pool"),)), None) == Before(25)


class Machine(Host):
    """A machine with reports in LVM's format; ``pv`` is the physical volume in them."""

    __slots__ = ("pv",)

    def __init__(self, root: Path, pv: Pv) -> None:
        super().__init__(root)
        self.pv = pv

    def run(self, argv: Sequence[str], **_how: object) -> Completed:
        return Completed(tuple(argv), 0, json.dumps({"report": [self._report(argv)]}), "")

    def _report(self, argv: Sequence[str]) -> dict[str, list[dict[str, str]]]:
        if argv[0] == "lvs":
            return {"lv": [_line(volume) for volume in self.pv.volumes]}
        size = (1 << 20) + self.pv.extents * EXTENT + self.pv.room
        group = {"vg_name": self.pv.group, "vg_extent_size": str(EXTENT), "vg_free_count": str(self.pv.free)}
        alone = dict.fromkeys(group, "")
        more = {"dev_size": str(size), "pe_start": str(1 << 20), "pv_pe_count": str(self.pv.extents)}
        return {"pv": [{"pv_uuid": "u", **more, **(group if self.pv.group else alone)}]}


def _line(volume: Lv) -> dict[str, str]:
    major, minor = volume.number.split(":")
    numbers = {"lv_kernel_major": major, "lv_kernel_minor": minor}
    words = {"lv_name": volume.name, "lv_uuid": volume.uuid, "lv_size": str(volume.size)}
    return {**words, "lv_layout": volume.layout, **numbers}


def test_a_report_is_read(tmp_path: Path) -> None:
    assert lvm.read(Machine(tmp_path, GROWN), "/dev/vdb") == GROWN


def test_links_that_are_done_do_nothing_and_the_size_tells(tmp_path: Path) -> None:
    host = Machine(tmp_path, replace(GROWN, room=EXTENT))
    asked: list[Sequence[str]] = []
    with pytest.raises(HostError, match="after pvresize"):
        lvm.resize(host, asked.append, "/dev/vdb", host.pv)
    assert asked == [("pvresize", "--quiet", "/dev/vdb")]
    small = replace(GROWN, room=EXTENT - 1)
    assert lvm.resize(host, asked.append, "/dev/vdb", small) == small
    host.pv = GROWN
    wanted = replace(ONE, size=25 * EXTENT)
    with pytest.raises(HostError, match="after lvextend"):
        lvm.extend(host, asked.append, "/dev/vdb", GROWN, wanted)
    assert asked[-1] == ("lvextend", "--quiet", "--extents=25", "vg/data", "/dev/vdb")
    lvm.extend(host, asked.append, "/dev/vdb", replace(GROWN, volumes=(wanted,)), wanted)
    assert len(asked) == 2
