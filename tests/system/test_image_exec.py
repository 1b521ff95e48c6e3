"""An image cannot do anything to the machine that configures it, by any way that hostile.py tries."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agent.host.host import Host
from agent.lib.errors import HostError
from tests import creation
from tests.system import hostile
from tests.system.disks import LoopDisk
from tests.vm.rig import ImageSpec, Network, newest_deb
from tests.vm.rig.command import run
from tests.vm.rig.tree import merged

PROJECT = Path(__file__).parents[2]
NAME = "gandi-test-node"
SHM = 0x47414E44
DOCUMENT = {
    "version": 1,
    "id": "1",
    "hostname": "vm1",
    "users": [{"name": "admin1", "keys": [creation.KEY], "admin": True, "plain_password": "pass word"}],
}
#: Attempts that succeed in a bare chroot, on any kernel: they show that the attempts are real.
REAL = {
    "chroot and ..",
    "root of a process",
    "mknod of the disk",
    "a node of the image",
    "a node of /dev",
    "mode of /dev/null",
    "signal",
    "ptrace",
    "mount",
    "abstract socket",
    "socket in /run",
    "loopback",
    "raw socket",
    "open descriptors",
    "setuid",
    "new privileges",
    "/sys",
    "/proc/sys",
    "System V memory",
    "POSIX memory",
    "hostname",
    "priority",
    "clock",
}


@pytest.fixture
def image() -> Iterator[Path]:
    """A Debian tree with the package, in which ``true`` and ``useradd`` are hostile; the folders of this
    machine are mounted in it as for a chroot.
    """
    with merged(ImageSpec(network=Network.IFUPDOWN, debs=(newest_deb(),))) as tree:
        for program in ("usr/bin/true", "usr/sbin/useradd"):
            (tree / program).rename(tree / f"{program}.real")
            shutil.copy(hostile.__file__, tree / program)
            (tree / program).chmod(0o755)
        with contextlib.ExitStack() as stack:
            for name in ("proc", "sys", "dev", "run"):
                subprocess.run(["mount", "--rbind", "--make-rslave", f"/{name}", tree / name], check=True)
                stack.callback(run, ["umount", "-R", tree / name])
            yield tree


@pytest.fixture
def aims(image: Path, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Make the program's targets on this machine, and write the list of them where it reads it."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    libc = ctypes.CDLL(None, use_errno=True)
    key = libc.syscall(hostile.CALLS["add_key"], b"user", b"gandi-test", b"secret", 6, -4)
    shared = Path("/dev/shm", NAME)
    shared.write_text("secret")
    disk = LoopDisk.make(tmp_path / "disk.img", 1 << 20)
    segment = libc.shmget(SHM, 16, 0o1600)
    path = f"/run/{NAME}"
    with contextlib.ExitStack() as stack:
        stack.callback(disk.detach)
        stack.callback(shared.unlink)
        stack.callback(libc.shmctl, segment, 0, None)
        if key > 0:
            stack.callback(libc.syscall, hostile.CALLS["keyctl"], 9, key, -4)
        listening = [
            stack.enter_context(socket.socket(family))
            for family in (socket.AF_UNIX, socket.AF_UNIX, socket.AF_INET)
        ]
        addresses: tuple[Any, ...] = (f"\0{NAME}", path, ("127.0.0.1", 0))
        for listener, address in zip(listening, addresses, strict=True):
            listener.bind(address)
            listener.listen()
        stack.callback(os.unlink, path)
        sleeper = stack.enter_context(subprocess.Popen(["sleep", "600"]))
        stack.callback(sleeper.kill)
        number = os.stat(disk.node).st_rdev
        os.mknod(image / "root/node", 0o60600, number)
        made = {
            "secret": str(secret),
            "pid": sleeper.pid,
            "disk": [os.major(number), os.minor(number)],
            "name": os.path.basename(disk.node),
            "abstract": NAME,
            "socket": path,
            "port": listening[2].getsockname()[1],
            "shm": SHM,
        }
        (image / "attempts.json").write_text(json.dumps({"aims": made}))
        yield made
        assert sleeper.poll() is None


def succeeded(image: Path) -> set[str]:
    """Return the attempts that succeeded; print the table for a failed test."""
    table: dict[str, str] = json.loads((image / "attempts.json").read_text())["table"]
    print(*(f"{name:24} {why or 'SUCCEEDED'}" for name, why in table.items()), sep="\n")
    assert set(table) == set(hostile.ATTEMPTS)
    return {name for name, why in table.items() if not why}


def on_a_terminal(*argv: str) -> tuple[int, str]:
    """Run it as the leader of a terminal's session; return its exit status and output."""
    child, terminal = pty.fork()
    if not child:
        os.execvp(argv[0], argv)
    said = b""
    with contextlib.suppress(OSError):  # EIO: it is open nowhere else any more
        while chunk := os.read(terminal, 4096):
            said += chunk
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said.decode("utf-8", "replace")


def applied(image: Path, tmp_path: Path, *before: str) -> tuple[int, str]:
    document = tmp_path / "vm1.json"
    document.write_text(json.dumps(DOCUMENT))
    words = ("-m", "agent", "apply", "--root", str(image), "--source", str(document))
    return on_a_terminal("env", "-C", str(PROJECT), *before, sys.executable, *words)


def test_a_bare_chroot_is_no_wall(image: Path, aims: dict[str, Any]) -> None:
    """The control: in a chroot each of these attempts succeeds, so a refusal below is the sandbox's."""
    on_a_terminal("chroot", str(image), "/usr/bin/true")
    subprocess.run(["umount", image / "mnt"], check=True)
    assert succeeded(image) >= REAL


def test_nothing_of_this_machine_is_reached_by_apply(
    image: Path, aims: dict[str, Any], tmp_path: Path
) -> None:
    before = (socket.gethostname(), os.stat("/dev/null").st_mode)
    status, said = applied(image, tmp_path)
    assert succeeded(image) == set(), said
    assert (socket.gethostname(), os.stat("/dev/null").st_mode) == before
    # The actual task was done, by the image's programs.
    assert status == 0, said
    assert (image / "home/admin1/.ssh/authorized_keys").read_text() == f"{creation.KEY}\n"
    (line,) = [one for one in (image / "etc/shadow").read_text().split("\n") if one.startswith("admin1:")]
    assert line.split(":")[1].startswith("$y$")
    assert "pass word" not in said


def test_nothing_of_the_node_is_reached_from_ganetis_hook(
    image: Path, aims: dict[str, Any], tmp_path: Path
) -> None:
    node = tmp_path / "node"
    node.mkdir()
    shutil.copy(newest_deb(), node / "gandi-agent.deb")
    done = creation.hook(image, node, "none")
    assert succeeded(image) == set(), done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert "?[2J" in done.stderr
    assert (done.stdout + done.stderr).replace("\n", "").replace("\t", "").isprintable()
    assert (image / "root/.ssh/authorized_keys").read_text() == f"{creation.KEY}\n"


@pytest.mark.parametrize(
    "before",
    [
        ("setpriv", "--bounding-set=-sys_admin"),
        ("unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /usr/bin/bwrap && exec "$@"', "sh"),
    ],
    ids=["namespaces are refused", "no bubblewrap"],
)
def test_what_cannot_be_kept_apart_is_not_run(
    image: Path, aims: dict[str, Any], tmp_path: Path, before: tuple[str, ...]
) -> None:
    passwd = (image / "etc/passwd").read_text()
    status, said = applied(image, tmp_path, *before)
    assert status == 1
    assert "cannot be isolated from this machine" in said
    assert "install bubblewrap" in said
    assert "table" not in json.loads((image / "attempts.json").read_text())
    assert (image / "etc/passwd").read_text() == passwd
    assert not (image / "home/admin1").exists()


def test_a_device_in_the_image_is_not_opened(image: Path, aims: dict[str, Any]) -> None:
    """By the agent itself."""
    (image / "etc/hostname").unlink()
    os.mknod(image / "etc/hostname", 0o60600, os.makedev(*aims["disk"]))
    with pytest.raises(HostError, match="neither a file nor a folder: not opened"):
        Host(image, offline=True).read("/etc/hostname")


# -- programs that do not behave -----------------------------------------------------


@pytest.fixture
def host() -> Iterator[Host]:
    with merged(ImageSpec()) as tree:
        yield Host(tree, offline=True)


def processes(word: str) -> list[str]:
    """Return the processes with this text in their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in path.read_bytes():
                found.append(path.parent.name)
    return found


def test_one_that_does_not_end_is_killed_although_it_may_outlive_its_parent(host: Host) -> None:
    """Its first process clears the signal at bwrap's death (PR_SET_PDEATHSIG)."""
    program = "import ctypes, time; ctypes.CDLL(None).prctl(1, 0, 0, 0, 0); time.sleep(4711)"
    before = time.monotonic()
    with pytest.raises(HostError, match="still running after 1 s, killed"):
        host.run(("python3", "-c", program), timeout=1)
    assert time.monotonic() - before < 5
    assert processes("time.sleep(4711)") == []


def test_nothing_of_it_runs_when_it_has_ended(host: Host) -> None:
    host.run(("sh", "-c", "setsid sleep 4712 </dev/null >/dev/null 2>&1 & :"))
    assert processes("4712") == []


def test_a_disk_that_is_unmounted_in_the_meantime_is_free(host: Host, tmp_path: Path) -> None:
    disk = LoopDisk.make(tmp_path / "other.img", 8 << 20)
    run(["mkfs.ext4", "-q", disk.node])
    (tmp_path / "other").mkdir()
    run(["mount", disk.node, tmp_path / "other"])
    started = Path(host.root) / "started"
    os.mkfifo(started)
    program = ("sh", "-c", "echo >/started; exec sleep 4713")
    with ThreadPoolExecutor() as pool, contextlib.ExitStack() as stack:
        running = pool.submit(host.run, program, check=False, timeout=60)
        stack.callback(disk.detach)
        started.read_text()  # It has all its mounts.
        run(["umount", tmp_path / "other"])
        claimed = os.open(disk.node, os.O_RDONLY | os.O_EXCL)
        os.close(claimed)
        for pid in processes("sleep\0004713"):
            os.kill(int(pid), signal.SIGKILL)
        assert running.result().returncode != 0


def test_what_it_says_is_bounded(host: Host) -> None:
    done = host.run(("sh", "-c", "yes; echo more >&2"), check=False)
    assert len(done.stdout) == 1 << 20
    assert "more" in done.stderr


def test_one_that_is_not_there_is_named(host: Host) -> None:
    with pytest.raises(HostError, match="no-such-program: cannot be run in") as caught:
        host.run(("no-such-program",))
    assert caught.value.hint == "install it in the image"


@pytest.mark.parametrize("name", ["passwd.1", "shadow.2", "subgid.9999"])
def test_nothing_is_run_where_a_file_has_the_name_of_a_programs_lock(host: Host, name: str) -> None:
    file = Path(host.root) / "etc" / name
    file.write_bytes(b"root:x:0:0::/root:/bin/sh\n")
    with pytest.raises(HostError, match=f"/etc/{name}: would be overwritten") as caught:
        host.run(("true",))
    assert "isolated" not in caught.value.message
    for other in ("passwd.20260101", "passwd.bak"):
        file = file.rename(file.with_name(other))
        host.run(("true",))
    # A lock's content: the PID and a NUL.
    file.with_name(name).write_bytes(b"4194304\0")
    host.run(("true",))


@pytest.mark.parametrize("name", ["dev", "proc", "run", "sys"])
def test_nothing_is_run_where_a_link_stands_for_a_folder_that_is_covered(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("../oldroot/tmp")
    with pytest.raises(HostError, match=f"/{name}: a symbolic link"):
        Host(tmp_path, offline=True).run(("true",))
