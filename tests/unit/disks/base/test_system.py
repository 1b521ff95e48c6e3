"""How a disk is mounted and unmounted: the commands; their effects are tested in guests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.block import mounts
from agent.disks.base import system
from agent.host.host import Completed, Host
from agent.lib.errors import HostError
from tests.unit.conftest import Asked

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.unit.conftest import FakePid1

NODE, AT, UNIT = "/dev/vdb", "/srv/my-data", r"srv-my\x2ddata.mount"
LAZY = ("umount", "--namespace=/proc/1/ns/mnt", "--lazy", "--no-canonicalize", "--", AT)


def test_a_mount_is_made_where_all_programs_see_it(tmp_path: Path) -> None:
    host = Asked(tmp_path)
    system.mount(host, NODE, AT, "ext4", "rw,nosuid")
    where = "--namespace=/proc/1/ns/mnt"
    own = "--internal-only"  # a helper that serves the mount would end with the daemon
    assert host.argvs == [("mount", where, own, "-t", "ext4", "-o", "rw,nosuid", "--", NODE, AT)]


def test_a_mount_that_fails_says_where_the_reason_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_host: Host, argv: Sequence[str], **_how: object) -> Completed:
        raise HostError(f"{argv[0]}: exit status 32: bad superblock")

    monkeypatch.setattr(Host, "run", fail)
    with pytest.raises(HostError, match="bad superblock") as caught:
        system.mount(Host(tmp_path), NODE, AT, "ext4", "rw")
    assert caught.value.hint == "see: journalctl -b -k"


def test_nothing_is_mounted_in_a_plan(tmp_path: Path) -> None:
    host = Host(tmp_path, dry_run=True)
    system.mount(host, NODE, AT, "ext4", "rw")
    assert host.planned == [f"mount {NODE} at {AT} (ext4, rw)"]


def test_a_mount_that_stays_is_ended_lazily(
    tmp_path: Path, fake_pid1: FakePid1, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PID 1 is asked first, since it also stops the services that require the mount."""
    for is_there in (False, True):
        monkeypatch.setattr(system, "is_mounted", lambda _host, _at, still=is_there: still)
        host = Asked(tmp_path)
        system.unmount(host, AT)
        assert fake_pid1.stopped.pop() == UNIT
        assert host.argvs == ([LAZY] if is_there else [])


def test_of_two_filesystems_at_one_place_the_topmost_alone_is_ended(
    tmp_path: Path, fake_pid1: FakePid1
) -> None:
    """PID 1 would end both. What its automounter has there is no filesystem."""
    host = Asked(tmp_path)
    top = f"42 1 254:16 / {AT} rw - ext4 /dev/vdb rw\n"
    for below, is_asked in (
        (f"41 1 254:32 / {AT} rw - ext4 /dev/vdc rw\n", False),
        (f"41 1 254:16 / {AT} rw - ext4 /dev/vdb rw\n", True),
        (f"41 1 0:40 / {AT} rw - autofs systemd-1 rw\n", True),
    ):
        host.write(mounts.MOUNTINFO, below + top)
        system.unmount(host, AT)
        assert fake_pid1.stopped == ([UNIT] if is_asked else [])
        assert host.argvs == [LAZY]
        fake_pid1.stopped.clear()
        host.argvs.clear()


def test_nor_does_pid_1_need_to_know_its_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PID 1 does not answer here."""
    monkeypatch.setattr(system, "is_mounted", lambda _host, _at: True)
    host = Asked(tmp_path)
    system.unmount(host, AT)
    assert host.argvs == [LAZY]
