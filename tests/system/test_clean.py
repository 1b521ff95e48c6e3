"""clean with the real userdel, and on real filesystems: no block of a removed file is left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.accounts import passwd
from agent.accounts.passwd import Account
from agent.host import logins
from agent.host.host import Host
from agent.image import made_accounts
from agent.lib.errors import ConfigError
from tests.system.disks import MIB, MKFS, LoopDisk, own_loop_device, sh, unmount
from tests.system.test_users import KEY, Machine, machine

__all__ = ["machine"]  # a fixture

PROJECT = Path(__file__).parents[2]
#: What the blocks of a removed file have.
MARK = b"what was done on this machine "
#: Bytes of a filesystem: XFS needs that many.
SIZE = 320 * MIB


# -- accounts ----------------------------------------------------------------------------------------


def test_the_account_goes_with_its_home_its_group_and_its_keys(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.boot()
    own = machine.file("/root/.ssh/authorized_keys")
    own.write_text(f"{own.read_text()}# mine\n")
    home = machine.file("/home/gandi1")
    assert home.is_dir()
    (home / "file").write_text("x")
    command = ["clean", "--users", "--ssh-keys", "--root", str(machine.host.root)]
    assert main([*command, "--dry-run"]) == 0
    assert "would be changed: gandi1: removed, with /home/gandi1" in capsys.readouterr().out
    assert home.is_dir()
    assert main(command) == 0
    assert passwd.account(machine.host, "gandi1") is None
    assert passwd.group(machine.host, "gandi1") is None
    assert not passwd.is_in_group(machine.host, "gandi1", "sudo")
    assert not home.exists()
    assert own.read_text() == "# mine\n"
    assert KEY not in own.read_text()


def test_a_disk_that_is_mounted_in_a_home_is_not_emptied(
    machine: Machine, make_disk: Callable[[int], LoopDisk], capsys: pytest.CaptureFixture[str]
) -> None:
    machine.boot()
    disk, data = make_disk(16 * MIB), machine.file("/home/gandi1/data")
    sh(*MKFS["ext4"], disk.node)
    data.mkdir()
    sh("mount", disk.node, str(data))
    try:
        (data / "file").write_text("x")
        assert main(["clean", "--users", "--root", str(machine.host.root)]) == 0
        assert (
            "gandi1: account removed; /home/gandi1 is left: a filesystem is mounted there"
            in capsys.readouterr().out
        )
        assert (data / "file").read_text() == "x"
    finally:
        unmount(disk, data)


def test_an_account_in_use_is_not_removed() -> None:
    user = Account("someone", 4242, 4242, "/home/someone")
    made_accounts.refuse_if_used(Host(), [user])
    with subprocess.Popen(["sleep", "600"], user=4242) as process:
        try:
            assert list(logins.running_as({4242, 4243})) == [(4242, process.pid, "sleep")]
            with pytest.raises(ConfigError, match=rf"someone is in use: process {process.pid} \(sleep\)"):
                made_accounts.refuse_if_used(Host(), [user])
            made_accounts.refuse_if_used(Host("/", offline=True), [user])
        finally:
            process.kill()


def test_a_process_of_another_root_is_not_this_machines(tmp_path: Path) -> None:
    """Its uid belongs to another account."""
    for name in ("bin", "lib", "lib64", "usr"):
        (tmp_path / name).mkdir()
        sh("mount", "--bind", f"/{name}", str(tmp_path / name))
    try:
        argv = ["chroot", "--userspec=4242:4242", str(tmp_path), "sleep", "600"]
        with subprocess.Popen(argv) as process:
            try:
                _until(lambda: os.stat(f"/proc/{process.pid}").st_uid == 4242)
                assert list(logins.running_as({4242})) == []
            finally:
                process.kill()
    finally:
        for name in ("bin", "lib", "lib64", "usr"):
            sh("umount", str(tmp_path / name))


# -- free blocks -------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    """A disk that does not discard, which a loop device cannot be set back to do."""
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(SIZE)
    with own_loop_device(image) as made:
        Path(f"/sys/block/{made.name}/queue/discard_max_bytes").write_text("0")
        yield made


@contextlib.contextmanager
def _used(disk: LoopDisk, root: Path, kind: str) -> Iterator[Path]:
    """Yield a root filesystem on the disk in which a file was removed."""
    sh(*MKFS[kind], disk.node)
    root.mkdir()
    sh("mount", disk.node, str(root))
    try:
        (root / "etc").mkdir()
        (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
        (root / "removed").write_bytes(MARK * (8 * MIB // len(MARK)))
        sh("sync", "--file-system", str(root))
        assert MARK in disk.image.read_bytes()
        (root / "removed").unlink()
        yield root
    finally:
        unmount(disk, root)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_no_block_of_a_removed_file_is_left(
    disk: LoopDisk, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with _used(disk, tmp_path / "root", kind) as root:
        command = ["clean", "--zero", "--root", str(root)]
        assert main([*command, "--dry-run"]) == 0
        assert "GiB filled with zeros" in capsys.readouterr().out
        assert MARK in disk.image.read_bytes()
        assert main(command) == 0
        assert "changed: free blocks: 0." in capsys.readouterr().out
        sh("sync", "--file-system", str(root))
        assert MARK not in disk.image.read_bytes()
        assert set(os.listdir(root)) <= {"etc", "lost+found"}


def test_where_the_disk_discards_fstrim_does_it(
    make_disk: Callable[[int], LoopDisk], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = make_disk(SIZE)
    with _used(disk, tmp_path / "root", "ext4") as root:
        allocated = disk.image.stat().st_blocks
        assert main(["clean", "--zero", "--root", str(root)]) == 0
        assert "GiB discarded" in capsys.readouterr().out
        assert MARK not in disk.image.read_bytes()
        assert disk.image.stat().st_blocks < allocated


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_leaves_no_file(disk: LoopDisk, how: signal.Signals, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "agent", "clean", "--zero", "--root", str(tmp_path / "root")]
    with _used(disk, tmp_path / "root", "ext4") as root:
        before = os.statvfs(root).f_bfree
        with subprocess.Popen(argv, cwd=PROJECT, stdout=subprocess.DEVNULL) as process:
            _until(lambda: os.statvfs(root).f_bfree < before - 1000)
            process.send_signal(how)
            assert process.wait(60) in (130, -signal.SIGKILL)
        _until(lambda: os.statvfs(root).f_bfree >= before - 1000)
        assert set(os.listdir(root)) <= {"etc", "lost+found"}


def _until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until it holds. Raise TimeoutError."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.002)
