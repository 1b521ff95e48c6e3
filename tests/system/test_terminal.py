"""The bytes that the verbs send to a terminal, when labels and processes have hostile names."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.block.mounts import mounts
from agent.disks.usage import holders
from agent.host.host import Host
from tests import crowd, labels
from tests.hostile import HARMLESS, LABELS, PROCESSES
from tests.system.disks import LoopDisk, sh

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.block.mounts import Mount

TREE = Path(__file__).parents[2]
COUNT = 100
#: Seconds that a verb may take beyond its time with harmless names.
LONGER = 3.0
NOTHING: Mapping[str, str] = {}


@pytest.fixture(scope="module")
def attached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[LoopDisk]]]:
    """A hundred disks with all labels, mounted by the agent; several of each kind of filesystem."""
    root, made = tmp_path_factory.mktemp("disks"), list[LoopDisk]()
    try:
        for number in range(COUNT):
            label = LABELS[number % len(LABELS)]
            kinds = labels.kinds(label)
            # Most are ext4; every fifth is something else.
            fstype = kinds[number // 5 % len(kinds)] if number % 5 == 0 else kinds[0]
            image = labels.make(root / f"{number}.img", fstype, label)
            made.append(LoopDisk(image, Path(sh("losetup", "--find", "--show", str(image))).name))
        yield root, made
    finally:
        for disk in made:
            disk.detach()


def on_terminal(
    root: Path, disks: list[LoopDisk], *words: str, status: int = 0, environment: Mapping[str, str] = NOTHING
) -> tuple[str, float]:
    """Return the bytes that a verb sends to a terminal, and the seconds that it takes."""
    names = ",".join(disk.name for disk in disks)
    verb = [sys.executable, "-m", "tests.system.verb", str(root), names, *words]
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", crowd.TERMINAL, *verb],
        cwd=TREE,
        env={"PATH": os.environ["PATH"], **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert done.returncode == status, done.stdout.decode() + done.stderr.decode()
    return done.stdout.decode(), time.monotonic() - begun


@contextmanager
def crowded(at: Path, names: list[bytes]) -> Iterator[list[int]]:
    """Start processes of these names that hold files of these names; give their process ids."""
    argv = [sys.executable, "-c", crowd.CROWD, str(at)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/") as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"".join(name + b"\0" for name in names))
        process.stdin.close()
        yield [int(pid) for pid in process.stdout.readline().split()]
        process.kill()


@pytest.fixture(scope="module")
def mounted(attached: tuple[Path, list[LoopDisk]]) -> tuple[Path, list[LoopDisk], list[Mount]]:
    """The same disks, mounted, with the mount stage's output already checked."""
    root, disks = attached
    said, took = on_terminal(root, disks, "mount-all")
    print(f"{COUNT} disks mounted in {took:.1f} s")
    assert HARMLESS.fullmatch(said)
    found = [mount for mount in mounts(Host()) if mount.mountpoint.startswith(f"{root}/srv/")]
    assert len(found) > COUNT // 2
    lines = said.splitlines()
    assert lines[0].startswith("disks: ")
    assert all(line.startswith(("  skipped: loop", "  failed: loop")) for line in lines[1:]), said
    return root, disks, found


@pytest.mark.parametrize(
    "environment",
    [{"LC_ALL": "C.UTF-8"}, {"LC_ALL": "POSIX"}, {"PYTHONIOENCODING": "ascii"}],
    ids=lambda each: "".join(each.values()),
)
def test_disks_and_status(
    environment: dict[str, str], mounted: tuple[Path, list[LoopDisk], list[Mount]]
) -> None:
    root, disks, found = mounted
    said, took = on_terminal(root, disks, "disks", environment=environment)
    print(f"disks: {took:.1f} s")
    assert HARMLESS.fullmatch(said)
    head, *rows = said.splitlines()
    assert head.startswith("DEVICE")
    assert [row.split()[0] for row in rows] == [disk.name for disk in disks], "a line for each disk"
    assert "does not answer" not in said
    assert sum("  mounted  " in row for row in rows) == len(found)
    assert "\\x1b[2J" in said, "spelled"
    for verb, status in (("disks", 0), ("status", 2)):
        said, _ = on_terminal(root, disks, verb, "--json", status=status, environment=environment)
        assert HARMLESS.fullmatch(said)
        assert said.isascii()
    said, took = on_terminal(root, disks, "status", status=2, environment=environment)
    print(f"status: {took:.1f} s")
    assert HARMLESS.fullmatch(said)
    assert len([line for line in said.splitlines() if line.startswith("  loop")]) >= len(found)


def test_detach_names_who_is_there(mounted: tuple[Path, list[LoopDisk], list[Mount]]) -> None:
    root, disks, found = mounted
    at = next(Path(mount.mountpoint) for mount in found if mount.fstype == "ext4")
    with crowded(at, [f"name{number}".encode() for number in range(len(PROCESSES))]):
        _, harmless = on_terminal(root, disks, "detach", str(at), status=1)
    elsewhere = root / "elsewhere"
    elsewhere.mkdir()
    # Processes that do not use the disk are read completely.
    with crowded(elsewhere, list(PROCESSES)), crowded(at, list(PROCESSES)) as pids:
        said, took = on_terminal(root, disks, "detach", str(at), status=1)
        search = holders.find_by_mountpoint(Host(), (str(at),))
    print(f"detach: {took:.1f} s, with harmless names {harmless:.1f} s")
    assert took < harmless + LONGER
    assert HARMLESS.fullmatch(said)
    assert said.count("\n") == 1, said
    assert "in use: " in said
    assert "and 45 more" in said
    assert [holder.pid for holder in search.found] == sorted(pids), "all of them"
    assert not any(f"({pid})" in missed for pid in pids for missed in search.missed)
    assert {os.fsencode(holder.name) for holder in search.found} == set(PROCESSES)
    said, _ = on_terminal(root, disks, "detach", str(at))
    assert HARMLESS.fullmatch(said)
    said, _ = on_terminal(root, disks, "mount", said.split(": ")[1])
    assert HARMLESS.fullmatch(said)


@pytest.mark.parametrize("label", [b"\x1b[2J\x1b[H", b"x\nchanged: sda", b"\xff\xfe\xfd"], ids=ascii)
def test_a_disk_is_named_by_its_label(
    label: bytes, mounted: tuple[Path, list[LoopDisk], list[Mount]]
) -> None:
    root, disks, _ = mounted
    said, _ = on_terminal(root, disks, "detach", os.fsdecode(label), status=1)
    assert HARMLESS.fullmatch(said)
    assert "more than one disk" in said
    said, _ = on_terminal(root, disks, "detach", os.fsdecode(label) + "?", status=1)
    assert HARMLESS.fullmatch(said)
    assert "no such disk" in said
    assert said.count("\n") == 2
