"""Saved running machines: boot once, then start any number of tests from that moment in half a second.

A state is the memory of a machine and its frozen disks, below `.cache/vm/states`, cached by the content of
its sources. Clones run on overlays and never change the state.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from . import qemu
from .accel import accelerator
from .command import run
from .disks import make_overlay
from .hardware import HARDWARE
from .image import Image
from .machine import Machine
from .paths import STATES, UNFINISHED, discard, keep_newest, locked, mark_used
from .slots import Slot
from .spec import Architecture, Disk, MachineSpec, digest

KEPT_STATES = 8
# Clones share the machine they were saved from, with its SMBIOS UUID: a fixed one lets the state be
# found again.
STATE_UUID = "6a1d8f5e-52a5-4c39-9d0c-5a7e0c6a2f01"


@dataclass(frozen=True, slots=True)
class State:
    """A machine at one moment. `disks` are its disks besides the root disk."""

    folder: Path
    image: Image
    spec: MachineSpec
    disks: tuple[Disk, ...]

    def clone(self, name: str, *, slot: Slot | None = None) -> Machine:
        """Return a machine resumed from this moment, with its clock set; close it like any other."""
        machine = self.off(name, slot=slot)
        try:
            machine.resume(self.folder / "memory")
        except BaseException:
            machine.close(keep_logs=True)
            raise
        return machine

    def off(self, name: str, spec: MachineSpec | None = None, *, slot: Slot | None = None) -> Machine:
        """Return a machine that is off, with the disks as a power cut at this moment leaves them: what was
        synced is there. `spec` is other hardware than the state's.
        """
        root = self.folder / "root.qcow2"
        machine = Machine(self.image, spec or self.spec, name=name, root=root, slot=slot)
        try:
            machine.disks = tuple(self._overlay(disk, machine.folder) for disk in self.disks)
        except BaseException:
            machine.close(keep_logs=True)
            raise
        return machine

    def _overlay(self, disk: Disk, folder: Path) -> Disk:
        target = make_overlay(self.folder / disk.id, disk.format, folder / f"{disk.id}.qcow2")
        return replace(disk, path=target, format="qcow2")


def booted(image: Image, spec: MachineSpec | None = None, disks: Iterable[Disk] = ()) -> State:
    """Return the state at the end of the boot of `image`."""
    return saved(image, "booted", _boot, spec, disks)


def _boot(machine: Machine) -> None:
    machine.wait_booted()


def saved(
    image: Image,
    name: str,
    prepare: Callable[[Machine], None],
    spec: MachineSpec | None = None,
    disks: Iterable[Disk] = (),
) -> State:
    """Return the state after `prepare(machine)` on a machine that has just been started; from the cache if
    it is there.

    `name` stands for what `prepare` does: change it when that changes.
    """
    spec = spec or MachineSpec(uuid=STATE_UUID)
    given = tuple(disks)
    accel, qemu_version = accelerator(image.kernel, image.architecture), _version(image.architecture)
    key = digest(name, image.folder.name, spec, given, accel, qemu_version, Path(qemu.__file__))
    folder = STATES / f"{image.folder.name}-{key}"
    state = State(folder, image, spec, given)
    with locked(f"state-{key}"):
        if not folder.is_dir():
            _make(state, prepare)
        mark_used(folder)
    return state


def _make(state: State, prepare: Callable[[Machine], None]) -> None:
    STATES.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=STATES))
    try:
        with Machine(
            state.image, state.spec, disks=state.disks, name=f"state-{state.folder.name}"
        ) as machine:
            machine.start()
            prepare(machine)
            machine.save(new / "memory")
            machine.root_file.rename(new / "root.qcow2")
            for disk in state.disks:
                shutil.copy(disk.path, new / disk.id)
        new.rename(state.folder)
    except BaseException:
        shutil.rmtree(new)
        raise
    discard(keep_newest(STATES, KEPT_STATES))


@functools.cache
def _version(architecture: Architecture) -> str:
    return run([HARDWARE[architecture].program, "--version"]).splitlines()[0]
