"""A machine with its disks as parts of one file, and a log of all writes and flushes in their order, and the
disks as a power cut after any of these leaves them.

QEMU's driver blklogwrites logs the requests for the file, so that the order is known between disks as well.
What a disk had not flushed may be lost in a cut: a cut is after a flush, or after any of the writes since.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.system import powercut
from tests.system.powercut import Write
from tests.vm.rig import Disk, Image, Machine, MachineSpec, qemu
from tests.vm.rig.command import run
from tests.vm.rig.disks import make_overlay

_NODE = "recorded"
#: Bytes that a log may have; the file is sparse.
_LONGEST = 8 << 30


class RecordedMachine(Machine):
    """A machine that records the writes to its root disk and to ``disks``, all copied to ``folder``."""

    def __init__(
        self, image: Image, spec: MachineSpec, disks: Sequence[Disk], folder: Path, *, name: str
    ) -> None:
        super().__init__(image, spec, disks=disks, name=name)
        self.file, self.log = folder / "disks", folder / "log"
        sizes = {qemu.ROOT_ID: spec.root_size} | {disk.id: disk.path.stat().st_size for disk in disks}
        self.parts: dict[str, tuple[int, int]] = {}
        paths = {qemu.ROOT_ID: image.disk} | {disk.id: disk.path for disk in disks}
        for id, path in paths.items():
            offset = sum(sizes[one] for one in self.parts)
            self.parts[id] = (offset, sizes[id])
            where = ["oflag=seek_bytes", f"seek={offset}"]
            run(
                [
                    "dd",
                    f"if={path}",
                    f"of={self.file}",
                    "bs=1M",
                    "conv=notrunc,sparse",
                    "status=none",
                    *where,
                ]
            )
        with self.file.open("r+b") as file, self.log.open("wb") as log:
            file.truncate(sum(sizes.values()))
            log.truncate(_LONGEST)
        self.before = {id: folder / f"{id}.raw" for id in paths}
        for id, path in self.before.items():
            run(["cp", "--sparse=always", paths[id], path])
            with path.open("r+b") as file:
                file.truncate(sizes[id])

    def disk_arguments(self, disks: Iterable[Disk]) -> list[str]:
        """Return QEMU's arguments for the file with its log, and for the disks, which are parts of it."""
        place, log = ({"driver": "file", "filename": str(one)} for one in (self.file, self.log))
        recorded = {"driver": "blklogwrites", "node-name": _NODE, "file": place, "log": log}
        argv = ["-blockdev", json.dumps(recorded)]
        for disk in disks:
            offset, size = self.parts[disk.id]
            part = {"driver": "raw", "node-name": disk.id, "file": _NODE, "offset": offset, "size": size}
            device = qemu.device_options(disk, port="") | {"share-rw": "on"}
            argv += ["-blockdev", json.dumps(part)]
            argv += ["-device", ",".join(f"{key}={value}" for key, value in device.items())]
        return argv


class PowerCuts:
    """The disks of a machine that has recorded, at one cut after the other."""

    def __init__(self, machine: RecordedMachine) -> None:
        self._disks, self._parts = machine.before, machine.parts
        self.log = powercut.entries(machine.log)
        self._place = 0
        for id, (offset, size) in self._parts.items():
            whole = machine.file.with_name("whole")
            run(["cp", "--sparse=always", self._disks[id], whole])
            powercut.replay(whole, self._of(id, self.log))
            # The log has each write, in its order.
            run(["cmp", f"--ignore-initial=0:{offset}", f"--bytes={size}", whole, machine.file])
            whole.unlink()

    def _of(self, id: str, log: Iterable[Write]) -> list[Write]:
        """Return the writes to a disk, with their offsets on it."""
        begin, size = self._parts[id]
        return [Write(one.offset - begin, one.data) for one in log if begin <= one.offset < begin + size]

    def cut(self, point: int) -> dict[str, Path]:
        """Return an overlay on each disk as it is after the first ``point`` entries of the log. Those of the
        last cut must no longer be used.
        """
        overlays = {}
        for id, before in self._disks.items():
            disk = before.with_suffix(".cut")
            if point < self._place or not disk.exists():
                run(["cp", "--sparse=always", before, disk])
            done = self._place if point >= self._place else 0
            powercut.replay(disk, self._of(id, self.log[done:point]))
            overlays[id] = disk.with_suffix(".qcow2")
            overlays[id].unlink(missing_ok=True)
            make_overlay(disk, "raw", overlays[id])
        self._place = point
        return overlays
