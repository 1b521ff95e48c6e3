"""Effects are atomic and have their mode; none without a change, outside the root, or in a dry run."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.host import commands, processes
from agent.host import host as host_module
from agent.host.host import Host
from agent.lib.errors import HostError

ME = (os.geteuid(), os.getegid())


def test_write_sets_content_and_mode_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert host.write("/etc/x/y", "text", mode=0o640, owner=ME)
    path = tmp_path / "etc/x/y"
    assert path.read_text() == "text"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [p.name for p in path.parent.iterdir()] == ["y"]


def test_the_same_content_is_not_written_again(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.write("/f", "a", owner=ME)
    before = (tmp_path / "f").stat()
    assert not host.write("/f", "a", owner=ME)
    assert (tmp_path / "f").stat().st_mtime_ns == before.st_mtime_ns
    assert host.write("/f", "a", mode=0o600, owner=ME), "a wrong mode is a change"


def test_a_link_in_an_image_never_leads_out_of_it(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.write_text("mine")
    (root / "etc").mkdir(parents=True)
    (root / "etc/resolv.conf").symlink_to(outside)
    (root / "etc/up").symlink_to("../../../outside")
    host = Host(root)
    assert host.read("/etc/resolv.conf") is None
    host.write("/etc/resolv.conf", "theirs", owner=ME)
    host.write("/etc/up", "theirs", owner=ME)
    assert outside.read_text() == "mine"
    assert (root / "etc/resolv.conf").is_symlink(), "written through, not replaced"
    assert host.read("/etc/resolv.conf") == "theirs"


def test_a_loop_of_links_is_an_error_and_no_hang(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(HostError, match="too many symbolic links"):
        Host(tmp_path).read("/a")


def test_an_error_while_replacing_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(tmp_path)
    host.write("/f", "old", owner=ME)

    def refuse(*_: object, **_folders: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(HostError, match="/f: cannot be written: No space left"):
        host.write("/f", "new", owner=ME)
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_text() == "old"


def test_reading_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 100)
    assert Host(tmp_path).read("/f", limit=10) == "x" * 10


def test_a_file_is_read_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a part of /etc/hosts could be written back as the whole."""
    monkeypatch.setattr(host_module, "READ_LIMIT", 1 << 20)
    (tmp_path / "f").write_bytes(b"x" * (1 << 20))
    assert len(Host(tmp_path).read("/f") or "") == 1 << 20
    (tmp_path / "f").write_bytes(b"x" * ((1 << 20) + 1))
    with pytest.raises(HostError, match="/f: larger than 1 MiB"):
        Host(tmp_path).read("/f")


def test_a_name_is_never_visible_before_its_content_is_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power cut leaves an empty file, as if the administrator had emptied it."""
    done: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def recorded(
            *arguments: object, name: str = name, real: Callable[..., None] = real, **folders: int
        ) -> None:
            done.append(name)
            real(*arguments, **folders)

        monkeypatch.setattr(os, name, recorded)
    Host(tmp_path).write("/f", "x", owner=ME)
    assert done == ["fsync", "replace"]


def test_a_dry_run_records_and_changes_nothing(tmp_path: Path) -> None:
    host = Host(tmp_path, dry_run=True)
    assert host.write("/f", "x")
    assert host.mkdir("/d")
    assert host.symlink("/l", "f")
    host.run(["false"])
    host.sysfs_write("/sys/x", "1")
    assert not host.allows("format everything")
    assert list(tmp_path.iterdir()) == []
    assert [line.split()[0] for line in host.planned] == ["write", "mkdir", "link", "run", "echo", "format"]


def test_a_failed_command_names_itself_its_status_and_its_words() -> None:
    with pytest.raises(HostError, match=r"ls /nowhere-at-all: exit status 2: .*No such file"):
        Host().run(["ls", "/nowhere-at-all"])


def test_what_a_command_writes_can_be_bounded() -> None:
    endless = Host().run(("yes",), check=False, timeout=20, limit=1 << 16)
    assert endless.returncode
    assert len(endless.stdout) == 1 << 16
    short = Host().run(("sh", "-c", "echo out; echo err >&2"), limit=1 << 16)
    assert (short.stdout, short.stderr) == ("out\n", "err\n")


def test_a_command_that_hangs_is_killed() -> None:
    with pytest.raises(HostError, match=r"still running after 0\.1 s"):
        Host().run(["sleep", "60"], timeout=0.1)


def test_a_command_that_cannot_be_killed_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that waits for a hanging disk only ends when the disk answers."""
    left, kill = list[int](), os.kill
    monkeypatch.setattr(os, "kill", lambda process, _signal: left.append(process))
    monkeypatch.setattr(commands, "_GONE", 0.1)
    with pytest.raises(HostError, match="still running"):
        Host().run(["sleep", "30"], timeout=0.1)
    (process,) = left
    assert processes.state(process) == "S"
    kill(process, signal.SIGTERM)
    assert processes.wait_for_exit(process, 5)
    assert processes.state(process) == "Z"
    Host().run(["true"])
    assert not processes.state(process), "the next command takes its exit status"


def test_a_command_does_not_wait_for_what_it_leaves_behind(tmp_path: Path) -> None:
    before = time.monotonic()
    assert Host().run(["sh", "-c", f"sleep 30 & echo $! >{tmp_path}/left; echo done"]).stdout == "done\n"
    os.kill(int((tmp_path / "left").read_text()), signal.SIGKILL)
    assert time.monotonic() - before < 20


def test_what_a_command_leaves_behind_may_go_on_writing(tmp_path: Path) -> None:
    done = Host().run(["sh", "-c", f"yes & echo $! >{tmp_path}/left; sleep 0.1"], check=False)
    assert set(done.stdout.splitlines()) <= {"y", ""}
    assert processes.wait_for_exit(int((tmp_path / "left").read_text()), 20), "ended by its closed pipe"


@pytest.mark.parametrize("listing", ["os.listdir", "lambda _: os.open('/nowhere', 0)"])
def test_a_command_has_no_descriptor_that_this_process_was_started_with(
    tmp_path: Path, listing: str
) -> None:
    """Also where there is no /proc: in a program of an image."""
    program = f"import os; os.listdir = {listing}; from agent.host.host import Host; "
    program += "print(Host().run(['ls', '/proc/self/fd']).stdout.split())"
    with (tmp_path / "lock").open("w") as lock:
        argv, kept = (sys.executable, "-c", program), (lock.fileno(),)
        done = subprocess.run(argv, pass_fds=kept, capture_output=True, text=True, check=True)
    assert done.stdout == "['0', '1', '2', '3']\n", "3 is the folder itself"


def test_a_command_need_not_read_its_input() -> None:
    assert Host().run(["echo", "done"], stdin=b"x" * (1 << 20)).stdout == "done\n"


def test_a_command_reads_all_of_its_input_and_writes_more_than_a_pipe_holds() -> None:
    much = b"0123456789abcdef" * (1 << 16)
    assert Host().run(["cat"], stdin=much).stdout.encode() == much


def test_a_command_is_ended_by_a_closed_pipe() -> None:
    """The interpreter ignores the signal; a program has the default."""
    assert Host().run(["sh", "-c", "kill -s PIPE $$"], check=False).returncode == -signal.SIGPIPE


def test_a_missing_program_says_what_to_do() -> None:
    with pytest.raises(HostError) as caught:
        Host().run(["no-such-program"])
    assert "install" in caught.value.hint


def test_a_command_sees_a_clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    assert "SECRET" not in Host().run(["env"]).stdout


def test_remove_takes_files_links_and_empty_folders_only(tmp_path: Path) -> None:
    host = Host(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("full")
    assert not host.remove("/full")
    assert host.remove("/empty")
    assert host.remove("/link")
    assert not host.remove("/gone")
    assert (tmp_path / "full/x").exists()


def test_an_image_that_one_is_chrooted_into_is_not_the_running_system() -> None:
    image = Host(Path("/"), offline=True)
    assert Host().live
    assert not image.live
    assert image.run(("true",)).argv == ("true",)
    assert image.path("/etc/../usr/bin") == "/usr/bin"
