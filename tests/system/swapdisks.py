"""A machine with only a test's disks, and swap disks as the platform makes them.

The kernel, libblkid, mkswap and the reader are real; swapon(8) is only recorded, since the build host must
not swap to a test's disk. The guest tests do it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from agent.config.settings import SettingsFile
from agent.context import Context
from agent.host.descriptor_walk import Place, walk
from agent.host.host import Completed, Host
from agent.lib.records import dataclass, field
from agent.report import Item, StatusFile
from agent.state.store import State
from agent.steps import source, swap
from tests.contents import digest
from tests.media import OFFSET, make_archive, swap_image
from tests.system.disks import MIB, LoopDisk, sh
from tests.unit.reader.dialects.test_gandi import DOCUMENT, HASH

MakeDisk = Callable[[int], LoopDisk]
SCRIPT = b"#!/bin/sh\necho the-customers-secret\n"
ARCHIVE = make_archive(DOCUMENT, SCRIPT)


@dataclass(slots=True)
class Beside(Host):
    """This machine, with the agent's files in a folder and swapon(8) recorded."""

    folder: Path = Path("/")
    commands: list[tuple[str, ...]] = field(default_factory=list)

    def path(self, name: str) -> str:
        aside = name.startswith(("/gandi", "/var/lib/gandi", "/etc", "/run/gandi"))
        return f"{self.folder}/{name.lstrip('/')}" if aside else name

    def place(self, name: str, *, follow: bool = True, make: bool = False) -> Place:
        if self.path(name) == name:
            return Host.place(self, name, follow=follow, make=make)
        return walk(str(self.folder), name, follow=follow, make=make)

    def run(self, argv: Sequence[str], **how: Any) -> Completed:
        self.commands.append(tuple(argv))
        if argv[0] == "swapon":
            return self.swapon(argv)
        return Host.run(self, argv, **how)

    def swapon(self, argv: Sequence[str]) -> Completed:
        return Completed(tuple(argv), 0, "", "")


@dataclass(slots=True)
class Machine:
    """A machine with only these disks, booted several times."""

    folder: Path
    disks: tuple[LoopDisk, ...]
    settings: str = ""
    host: Beside = field(init=False)

    def names(self, _host: Host) -> Iterable[str]:
        return [disk.name for disk in self.disks]

    def context(self) -> Context:
        self.host = Beside(folder=self.folder)
        settings = self.folder / "etc/default/gandi"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(self.settings)
        return Context(self.host, SettingsFile(self.host), State(self.host), StatusFile(self.host))

    def boot(self, *, until: str = "swap") -> tuple[Context, list[Item]]:
        ctx = self.context()
        items = list(source.apply(ctx))
        if until == "swap":
            items += swap.apply(ctx, self.names)
        return ctx, items

    @property
    def swapped_on(self) -> list[str]:
        return [command[1] for command in self.host.commands if command[0] == "swapon"]

    @property
    def formatted(self) -> list[str]:
        return [command[-1] for command in self.host.commands if "mkswap" in command]


def put(disk: LoopDisk, offset: int = OFFSET, content: bytes = ARCHIVE) -> None:
    with open(disk.node, "r+b") as device:
        device.seek(offset)
        device.write(content)
        device.flush()
        os.fsync(device.fileno())


def blkid(node: str) -> dict[str, str]:
    done = subprocess.run(("blkid", "-p", "-o", "export", node), capture_output=True, text=True, check=False)
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def content_digest(disk: LoopDisk) -> str:
    sh("sync", disk.node)
    return digest(disk.image)


def secrets_on(disk: LoopDisk) -> list[bytes]:
    sh("blockdev", "--flushbufs", disk.node)
    data = disk.image.read_bytes()
    return [secret for secret in (HASH.encode(), b"the-customers-secret", b"ssh-ed25519") if secret in data]


def with_gpt(disk: LoopDisk, size: int, archive: bytes = b"") -> None:
    """Make the disk a swap disk of the platform with a partition, in the same image file."""
    fresh = disk.image.with_suffix(".swap")
    swap_image(fresh, size, archive=archive, gpt=True)
    with disk.image.open("r+b") as image:
        image.write(fresh.read_bytes())
    fresh.unlink()
    sh("blockdev", "--flushbufs", disk.node)
    sh("partx", "--update", disk.node)


def carrier(make_disk: MakeDisk, kind: str) -> tuple[LoopDisk, str]:
    """Return a swap disk as the platform makes it, and the device that becomes swap."""
    disk = make_disk(24 * MIB)
    if kind == "gpt":
        with_gpt(disk, 24 * MIB, ARCHIVE)
        return disk, f"/dev/{disk.part(1)}"
    put(disk, 0 if kind == "zero" else OFFSET)
    return disk, disk.node


def refused(disk: LoopDisk, machine: Callable[..., Machine], settings: str = "") -> list[Item]:
    """Check that the disk is not read, not formatted and not changed by a bit."""
    before = content_digest(disk)
    one = machine(disk, settings=settings)
    ctx, items = one.boot()
    assert ctx.config is None
    assert ctx.medium is None
    assert one.formatted == one.swapped_on == []
    assert content_digest(disk) == before
    return items
