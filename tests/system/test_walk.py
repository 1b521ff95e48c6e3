"""How many files a reader has to follow: those that a disk's event and a document's bytes pass through, and
how often one of them calls another.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.block import mounts
from agent.config.model import Identity
from agent.context import context as machine_context
from agent.daemon.dispatcher import Devices
from agent.disks import handler
from agent.host.host import Host
from agent.lib.records import replace
from agent.reader import child, client
from agent.steps import hostname
from agent.udev import monitor
from tests.media import make_archive
from tests.system.disks import MIB, LoopDisk, context, sh, system
from tests.system.machine import message
from tests.unit.reader.dialects.test_gandi import DOCUMENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    import pytest

#: Files of the package, and calls from one of them to another, at the most.
EVENT, BYTES = (30, 300), 25
#: Used only below a root that is not the running system's, as in these tests.
_NOT_LIVE = "host/chroot_path.py"
_PACKAGE = str(Path(child.__file__).parents[1]) + os.sep


@dataclass
class Walk:
    """The files of the package that were run, and the number of calls from one to another."""

    files: set[str] = field(default_factory=set)
    calls: int = 0
    is_over: bool = False

    def step(self, frame: FrameType, event: str, _argument: object) -> None:
        """Count a call (sys.setprofile)."""
        name = frame.f_code.co_filename
        if self.is_over or event != "call" or not name.startswith(_PACKAGE) or name.endswith(_NOT_LIVE):
            return
        self.files.add(name.removeprefix(_PACKAGE))
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(_PACKAGE):
            caller = caller.f_back
        self.calls += caller is not None and caller.f_code.co_filename != name


@contextmanager
def walked(walk: Walk) -> Iterator[None]:
    """Count the calls of this context, in all threads."""
    threading.setprofile(walk.step)
    sys.setprofile(walk.step)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def test_from_an_event_to_the_mount(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = [make_disk(64 * MIB), make_disk(64 * MIB)]
    for number, disk in enumerate(disks):
        sh("mkfs.ext4", "-q", "-L", f"walk{number}", disk.node)
    real = system(*disks)
    walk = Walk()

    def mount(*how: Any) -> None:
        real.mount(*how)
        walk.is_over = True

    every = mounts.mounts

    def own(host: Host) -> tuple[mounts.Mount, ...]:
        """Return the mounts without those of tests that run at the same time."""
        aside = f"{tmp_path}/"
        return tuple(
            m
            for m in every(host)
            if m.mountpoint == "/" or m.mountpoint.startswith(aside) or m.devno[:2] == "0:"
        )

    monkeypatch.setattr(mounts, "mounts", own)
    defaults = handler.handle.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "system", replace(real, mount=mount))
    devices = Devices(context(tmp_path))
    monkeypatch.setattr(Devices, "mounting", lambda _self: True)

    def come(disk: LoopDisk) -> None:
        event = monitor.parse(message("add", "gandi", f"/devices/{disk.name}", DEVTYPE="disk"))
        assert event is not None
        devices.queue([event])
        assert devices.workers.settle(60)

    come(disks[0])  # whatever is imported late is, then
    walk.is_over = False
    with walked(walk):
        come(disks[1])
    assert Path(tmp_path / "srv/walk1").is_mount()
    assert len(walk.files) <= EVENT[0], sorted(walk.files)
    assert walk.calls <= EVENT[1], walk.calls


def test_from_bytes_to_the_hostname(tmp_path: Path) -> None:
    ctx = machine_context(Host(tmp_path))

    media = {name: os.memfd_create(name) for name in ("first", "second")}
    for name, medium in media.items():
        os.pwrite(medium, make_archive({**DOCUMENT, "vm_hostname": name}, b"#!/bin/sh\n"), 0)

    def deliver(name: str) -> None:
        medium = media[name]
        kept = os.dup(0)
        try:
            os.dup2(medium, 0)
            answer = json.dumps(child._prepared("gandi", "0", "", [])())
        finally:
            os.dup2(kept, 0)
            os.close(medium)
        ctx.config = client._parsed(json.loads(answer)).config
        list(hostname.apply(ctx))

    ctx.state.set_instance(Identity("gandi", "4c4c4544-0000-1000-8000-000000000001"))
    deliver("first")
    walk = Walk()
    with walked(walk):
        deliver("second")
    assert (tmp_path / "etc/hostname").read_text() == "second\n"
    assert len(walk.files) <= BYTES, sorted(walk.files)
