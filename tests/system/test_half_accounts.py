"""Accounts that useradd made in part, and locks and new files that it left: the next run completes them."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.accounts import passwd
from agent.config.model import User
from agent.host.host import Completed, Host
from agent.lib.errors import HostError
from agent.lib.records import dataclass, replace
from tests.system.test_users import HASH, KEY, Machine, machine

__all__ = ["machine"]  # a fixture
NAME = "gandi1"
ADMIN = User(NAME, HASH, (KEY,), admin=True, groups=("media",))
FILES = ("passwd", "shadow", "group", "gshadow", "subuid", "subgid")


@dataclass(slots=True)
class Cut(Host):
    """The machine with one program cut short: it has run, and a part of its result is missing."""

    program: str = ""
    undo: Callable[[Host], object] = print

    def run(self, argv: Sequence[str], **how: Any) -> Completed:
        done = Host.run(self, argv, **how)
        if argv[0] == self.program:
            self.undo(self)
            raise HostError(f"{self.program}: cut")
        return done


def _line(file: str, *, of: str = NAME) -> Callable[[Host], object]:
    """Remove the line of an account or a group from a file in /etc."""

    def undo(host: Host) -> None:
        path = f"/etc/{file}"
        lines = (host.read(path) or "").split("\n")
        mode = stat.S_IMODE(os.stat(host.path(path)).st_mode)
        owner = os.stat(host.path(path))
        kept = "\n".join(line for line in lines if not line.startswith(f"{of}:"))
        host.write(path, kept, mode=mode, owner=(owner.st_uid, owner.st_gid))

    return undo


def _home(*argv: str) -> Callable[[Host], object]:
    return lambda host: Host.run(host, ("sh", "-ec", *argv))


def _all(host: Host) -> None:
    """Remove everything after the first file, as a power cut does."""
    for file in FILES[1:]:
        _line(file)(host)
    _home(f"rm -rf /home/{NAME}")(host)


CUTS: dict[str, Callable[[Host], object]] = {
    **{file: _line(file) for file in FILES[1:]},
    "home": _home(f"rm -rf /home/{NAME}"),
    "home of root's": _home(f"rm -rf /home/{NAME}; mkdir -m 0 /home/{NAME}"),
    "skeleton": _home(f"rm /home/{NAME}/.profile"),
    "skeleton's bytes": _home(f": > /home/{NAME}/.profile"),
    # As ext4 leaves a file with its size written, but no block.
    "skeleton's blocks": _home(
        f"cd /home/{NAME}; n=$(wc -c < .profile); : > .profile; truncate -s $n .profile"
    ),
    "group of administrators": _home(f"sed -i 's/{NAME}$//' /etc/gshadow"),
    "everything else": _all,
}


def _parts(machine: Machine, name: str) -> dict[str, object]:
    """Return all parts of an account, without its ids."""
    made = passwd.account(machine.host, name)
    assert made is not None
    found = dict[str, object]()
    for file in FILES:
        lines = [line.split(":") for line in machine.file(f"/etc/{file}").read_text().split("\n")]
        own = [line for line in lines if line[0] == name]
        found[file] = [["N" if part.isdigit() else part for part in line[1:]] for line in own]
        if file in ("group", "gshadow"):
            found[f"{file}s"] = {line[0] for line in lines if name in line[-1].split(",")}
    found["passwd"] = str(found["passwd"]).replace(name, "NAME")
    home = machine.file(made.home)
    for path in (home, *home.iterdir()):
        info = path.stat()
        content = path.read_bytes() if path.is_file() else b""
        found[path.name.replace(name, "home")] = (info.st_mode, info.st_uid == made.uid, content)
    return found


def _is_whole(machine: Machine) -> None:
    """Check that the account is as after an uninterrupted run."""
    machine.boot(ADMIN, replace(ADMIN, name="whole"))
    assert _parts(machine, NAME) == _parts(machine, "whole")
    for check in ("pwck", "grpck"):
        argv = ["chroot", machine.host.root, check, "-r"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert NAME not in done.stdout + done.stderr


@pytest.mark.parametrize("what", CUTS)
def test_what_useradd_was_kept_from_making_is_made_by_the_next_run(machine: Machine, what: str) -> None:
    host = machine.host
    machine.host = Cut(host.root, program="useradd", undo=CUTS[what])
    assert machine.boot(ADMIN)[f"user:{NAME}"].startswith("failed")
    machine.host = host
    assert machine.boot()[f"user:{NAME}"] == "changed"
    _is_whole(machine)
    assert set(machine.boot().values()) == {"unchanged"}


@pytest.mark.parametrize("program", ["groupadd", "usermod"])
def test_a_group_or_a_membership_of_one_file_is_completed(machine: Machine, program: str) -> None:
    host = machine.host
    undo = (
        _line("gshadow", of="media")
        if program == "groupadd"
        else _home(f"sed -i '/^media:/s/{NAME}$//' /etc/gshadow")
    )
    machine.host = Cut(host.root, program=program, undo=undo)
    assert machine.boot(ADMIN)[f"group:{NAME}:media"].startswith("failed")
    machine.host = host
    assert machine.boot()[f"group:{NAME}:media"] == "changed"
    _is_whole(machine)


def test_what_the_administrator_left_out_stays_out(machine: Machine) -> None:
    """An account from before its delivery, a home from before its account, an account removed since."""
    machine.command("useradd", "--no-create-home", NAME)
    assert machine.boot(ADMIN)[f"user:{NAME}"] == "unchanged"
    machine.command("rm", "-rf", f"/home/{NAME}/.profile")
    machine.file("/home/other").mkdir()
    machine.boot(ADMIN, User("other"))
    assert not (machine.file("/home/other") / ".profile").exists()
    assert not (machine.file(f"/home/{NAME}") / ".profile").exists()
    machine.boot(ADMIN, User("other"), User("third"))
    machine.command("rm", "-rf", "/home/third")
    assert machine.boot(ADMIN, User("other"), User("third"))["user:third"] == "unchanged"
    assert not machine.file("/home/third").exists()


def test_a_failed_useradd_leaves_no_claim_on_what_the_administrator_makes(machine: Machine) -> None:
    machine.command("sh", "-ec", "mv /usr/sbin/useradd /usr/sbin/away")
    assert machine.boot(ADMIN)[f"user:{NAME}"].startswith("failed")
    machine.command("sh", "-ec", "mv /usr/sbin/away /usr/sbin/useradd")
    machine.command("useradd", "--no-create-home", NAME)
    assert machine.boot(ADMIN)[f"user:{NAME}"] == "unchanged"


@pytest.mark.parametrize("pages", range(0, 24, 2))
def test_a_disk_of_any_free_size_leaves_no_half_of_an_account(machine: Machine, pages: int) -> None:
    """The disk is filled but for some pages; with space again, the next run completes."""
    machine.boot(User("root", HASH, (KEY,)))
    filler = Path(machine.host.root).parent / "space/filler"
    free = os.statvfs(filler.parent).f_bavail
    subprocess.run(["fallocate", "-l", str((free - pages) * 4096), filler], check=True)
    machine.boot(ADMIN)
    filler.unlink()
    _ends_right(machine)


@pytest.mark.parametrize("inodes", range(8, 26, 2))
def test_a_disk_of_any_number_of_free_inodes_leaves_none_either(machine: Machine, inodes: int) -> None:
    machine.boot(User("root", HASH, (KEY,)))
    fillers = Path(machine.host.root).parent / "space/fillers"
    fillers.mkdir()
    for number in range(os.statvfs(fillers).f_favail - inodes):
        (fillers / str(number)).touch()
    machine.boot(ADMIN)
    shutil.rmtree(fillers)
    _ends_right(machine)


def _ends_right(machine: Machine) -> None:
    assert "failed" not in str(machine.boot())
    _is_whole(machine)
    _nothing_temporary(machine)


LEFT = {
    "passwd.lock": b"1\0",
    "shadow.lock": b"",
    "group.lock": f"{os.getpid()}\0".encode(),
    "gshadow.4711": b"4711\0",
    "subuid.4712": b"",
    "passwd+": b"root:x:0:0::/root:/bin/sh\n",
    "nshadow": b"root:secret:0:::::\n",
}
#: The administrator's copies; no process has the number in the name.
KEPT = {
    "passwd.9000000": b"root:x:0:0::/root:/bin/sh\n",
    "passwd.20260101": b"",
    "shadow.bak": b"",
    "group.lock~": b"",
}


def _leave(machine: Machine) -> None:
    for name, content in (LEFT | KEPT).items():
        machine.file(f"/etc/{name}").write_bytes(content)


def _there(machine: Machine) -> set[str]:
    return {path.name for path in machine.file("/etc").iterdir()} & set(LEFT | KEPT)


def test_locks_and_new_files_of_a_cut_run_are_removed(machine: Machine) -> None:
    """Also a lock with a PID that another program has now, and an empty one, on which shadow fails."""
    machine.boot(User("root", HASH))
    _leave(machine)
    outcomes = machine.boot(ADMIN)
    assert outcomes["account files"].startswith("changed removed leftovers of an interrupted program")
    assert outcomes[f"user:{NAME}"] == "changed"
    assert _there(machine) == set(KEPT)


def test_files_in_use_are_left(machine: Machine) -> None:
    """While a program of the shadow suite holds the lock of lckpwdf(3)."""
    machine.boot(User("root", HASH))
    _leave(machine)
    with machine.file("/etc/.pwd.lock").open("w") as held:
        # A lock of this process would not block the process itself.
        child = os.fork()
        if not child:
            fcntl.lockf(held, fcntl.LOCK_EX)
            Path(machine.file("/held")).touch()
            time.sleep(60)
            os._exit(0)
        while not machine.file("/held").exists():
            time.sleep(0.01)
    try:
        machine.boot()
        assert _there(machine) == set(LEFT | KEPT)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    machine.boot()
    assert _there(machine) == set(KEPT)


#: A useradd that, for one account, makes its lock and does not end. (The real one cannot be stopped there.)
STUCK = f"""#!/bin/sh
for name; do :; done
[ $name = {NAME} ] || exec /usr/sbin/useradd.real "$@"
printf "$$\\0" >/etc/passwd.$$
ln /etc/passwd.$$ /etc/passwd.lock
exec sleep 600
"""


@dataclass(slots=True)
class Impatient(Host):
    def run(self, argv: Sequence[str], **how: Any) -> Completed:
        return Host.run(self, argv, **how | {"timeout": 2})


def test_a_program_that_was_killed_leaves_no_lock_to_the_next(machine: Machine) -> None:
    """The next program has the same PID, so shadow would find the lock in use; the account is made later."""
    useradd = machine.file("/usr/sbin/useradd")
    useradd.rename(f"{useradd}.real")
    useradd.write_text(STUCK)
    useradd.chmod(0o755)
    host = machine.host
    machine.host = Impatient(host.root)
    outcomes = machine.boot(ADMIN, User("next"))
    assert "still running after 2 s, killed" in outcomes[f"user:{NAME}"]
    assert "passwd.1" in outcomes["account files"]
    assert outcomes["user:next"] == "changed"
    machine.host = host
    machine.command("mv", "/usr/sbin/useradd.real", "/usr/sbin/useradd")
    assert machine.boot(ADMIN)[f"user:{NAME}"] == "changed"
    _is_whole(machine)
    _nothing_temporary(machine)


def test_a_copy_with_the_number_of_a_process_stops_the_programs_that_would_overwrite_it(
    machine: Machine,
) -> None:
    copy, content = machine.file("/etc/passwd.1"), machine.file("/etc/passwd").read_bytes()
    copy.write_bytes(content)
    failed = machine.boot(ADMIN)[f"user:{NAME}"]
    assert failed.startswith("failed useradd: not run")
    assert "/etc/passwd.1: would be overwritten by the image's programs: give it another name" in failed
    assert copy.read_bytes() == content
    copy.rename(f"{copy}.bak")
    assert machine.boot()[f"user:{NAME}"] == "changed"


def _nothing_temporary(machine: Machine) -> None:
    names = [path.name for path in machine.file("/etc").iterdir()]
    assert not [n for n in names if n.endswith((".lock", "+")) and n != ".pwd.lock"]
