"""Finding the users of a filesystem in a /proc with names that users chose."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from agent.disks.usage import holders
from agent.host.host import Host
from tests.hostile import LABELS, PROCESSES

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = frozenset({"253:17"})
NAMES = [*LABELS, *PROCESSES]


def process(root: Path, pid: int, name: bytes, maps: bytes | None = b"") -> Path:
    """Create a process that has only mapped files; with None, one with unreadable maps."""
    folder = root / f"proc/{pid}"
    (folder / "fd").mkdir(parents=True)
    (folder / "comm").write_bytes(name + b"\n")
    if maps is None:
        (folder / "maps").mkdir()
    else:
        (folder / "maps").write_bytes(maps)
    return folder


def line(path: bytes, device: bytes = b"fd:11") -> bytes:
    """Return a line of proc_pid_maps(5) for a file, by default on device 253:17; newlines are escaped."""
    head = b"7f0000000000-7f0000001000 r--p 00000000 " + device + b" 12"
    return head.ljust(72) + b" " + path.replace(b"\n", b"\\012") + b"\n"


def test_hostile_names_cost_nothing(tmp_path: Path) -> None:
    anonymous = b"7f0000000000-7f0000001000 rw-p 00000000 00:00 0 \n"
    for number, name in enumerate(NAMES):
        elsewhere = line(b"/home/" + name, b"fd:12")
        process(tmp_path, 100 + number, name, anonymous + elsewhere + line(b"/srv/d/" + name))
    process(tmp_path, 99, b"innocent", anonymous + b"".join(line(name, b"00:00") for name in NAMES))
    begun = time.monotonic()
    search = holders.find_by_devno(Host(tmp_path), NUMBERS, 20.0)
    assert time.monotonic() - begun < 10, "not the bound"
    assert search.missed == ()
    assert [os.fsencode(holder.name) for holder in search.found] == NAMES
    spelled = [b"/srv/d/" + name.replace(b"\n", b"\\012") for name in NAMES]
    assert [os.fsencode(holder.path) for holder in search.found] == spelled


@pytest.mark.parametrize("maps", [b"\n", b"\xff\x00 \n", b"a b c d e f g\n", b"zz", b"1-2 r 0 zz:zz 1 /x\n"])
def test_lines_that_are_none_are_passed_over(maps: bytes, tmp_path: Path) -> None:
    process(tmp_path, 7, b"odd", maps + b"\n" + line(b"/srv/d/file"))
    (holder,) = holders.find_by_devno(Host(tmp_path), NUMBERS).found
    assert (holder.pid, holder.path) == (7, "/srv/d/file")


def test_who_cannot_be_looked_at_is_named_and_costs_itself(tmp_path: Path) -> None:
    process(tmp_path, 7, b"a\nb", None)
    process(tmp_path, 8, b"found", line(b"/srv/d/file"))
    (tmp_path / "proc/9").mkdir()  # it has just ended
    search = holders.find_by_devno(Host(tmp_path), NUMBERS)
    assert [holder.pid for holder in search.found] == [8]
    assert search.missed == ("a\\x0ab (7): Is a directory",)


def test_a_defect_is_no_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> str:
        raise ValueError("\x1b")

    monkeypatch.setattr(holders, "_mapped", broken)
    process(tmp_path, 7, b"a")
    begun = time.monotonic()
    search = holders.find_by_devno(Host(tmp_path), NUMBERS, 60.0)
    assert time.monotonic() - begun < 10
    assert search.missed == ("the processes, after 0 (unexpected ValueError)",)


def test_looking_that_takes_too_long_is_named(tmp_path: Path) -> None:
    folder = process(tmp_path, 7, b"a")
    (folder / "maps").unlink()
    os.mkfifo(folder / "maps")  # opening it waits for a writer
    search = holders.find_by_devno(Host(tmp_path), NUMBERS, 0.2)
    assert search.missed == ("all processes (not within 0.2 s)",)
    os.close(os.open(folder / "maps", os.O_WRONLY))


def test_processes_are_looked_at_once_for_all_filesystems(tmp_path: Path) -> None:
    """A disk may have many partitions: all are found in one search."""
    process(tmp_path, 7, b"one", line(b"/srv/d/file"))
    process(tmp_path, 8, b"other", line(b"/srv/e/file", b"fd:12"))
    mount = "{} 1 {} / {} rw - ext4 /dev/none rw\n".format
    (tmp_path / "proc/self").mkdir()
    (tmp_path / "proc/self/mountinfo").write_text(
        mount(20, "253:17", "/srv/d") + mount(21, "253:18", "/srv/e") + mount(22, "253:19", "/srv/f")
    )
    looks = list[int]()
    inner = holders._mapped

    def counted(host: Host, pid: int, numbers: frozenset[str]) -> str:
        looks.append(pid)
        return inner(host, pid, numbers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(holders, "_mapped", counted)
        search = holders.find_by_mountpoint(Host(tmp_path), ("/srv/d", "/srv/e", "/srv/f"))
    assert [holder.pid for holder in search.found] == [7, 8]
    assert sorted(looks) == [7, 8]
