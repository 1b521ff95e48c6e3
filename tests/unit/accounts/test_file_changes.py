"""Account files changed by the agent: links in their place, kills, plans, and names that are none."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import pytest

from agent.accounts import passwd, shadow
from agent.accounts.changes import Changes, NewAccount, changes
from agent.accounts.file_changes import FileChanges
from agent.accounts.hashing import hashed, method
from agent.host.host import Host
from agent.lib.errors import AgentError, HostError, NeedsProgram

FILES = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "shadow": "root:*:19000:0:99999:7:::\n",
    "group": "root:x:0:\nsudo:x:27:\n",
    "gshadow": "root:*::\nsudo:*::\n",
    "subuid": "",
    "subgid": "",
}
NEW = NewAccount("admin1", own_group=True, member_of="sudo")
#: Only these change the files.
WATCHED = ("atomic_write.py", "lock_files.py", "account_files.py")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "etc/skel").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "etc/skel/.profile").write_text("umask 022\n")
    for name, text in FILES.items():
        (tmp_path / "etc" / name).write_text(text)
    return Host(tmp_path, offline=True, runs_programs=False)


def texts(host: Host) -> dict[str, str]:
    return {name: host.read(f"/etc/{name}") or "" for name in FILES}


def test_the_programs_make_the_changes_where_they_are_run(host: Host) -> None:
    assert isinstance(changes(host), FileChanges)
    assert isinstance(changes(Host(host.root, offline=True)), Changes)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("target", ["/etc/other", "../other", "/nowhere"])
def test_a_link_in_place_of_a_file_is_refused(host: Host, name: str, target: str) -> None:
    etc = Path(host.root) / "etc"
    (etc / name).rename(etc / "other")
    (etc.parent / "other").write_text(FILES[name])
    (etc / name).symlink_to(target)
    before = {path: path.read_bytes() for path in etc.parent.rglob("*") if path.is_file()}
    for change in (partial(changes(host).add, NEW), partial(changes(host).lock, "root")):
        with pytest.raises(HostError, match=f"/etc/{name}: a symbolic link: not changed"):
            change()
    assert (etc / name).is_symlink()
    made = {path: path.read_bytes() for path in etc.parent.rglob("*") if path.is_file()}
    assert {path: text for path, text in made.items() if path.name != ".pwd.lock"} == before


def cut(work: Callable[[], object], lines: int) -> bool:
    """Run ``work`` in a process that is killed after so many of the agent's lines; return whether it was."""
    child = os.fork()
    if child == 0:
        count = 0

        def trace(frame: FrameType, event: str, _what: object) -> object:
            nonlocal count
            if not frame.f_code.co_filename.endswith(WATCHED):
                return None
            if event == "line":
                count += 1
                if count > lines:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)  # type: ignore[arg-type]  # a local trace function may be any callable
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def test_a_kill_at_any_line_leaves_valid_files_that_the_next_run_completes(host: Host) -> None:
    etc = Path(host.root) / "etc"
    changes(host).add(NEW)
    after = texts(host)
    assert all(after[name] != FILES[name] for name in FILES)
    found, lines = set[tuple[bool, ...]](), 0
    while True:
        for path in etc.iterdir():
            if path.is_file():
                path.unlink()
        for name, text in FILES.items():
            (etc / name).write_text(text)
        if not cut(lambda: changes(host).add(NEW), lines):
            break
        there = texts(host)
        assert all(there[name] in (FILES[name], after[name]) for name in FILES)
        found.add(tuple(there[name] == after[name] for name in FILES))
        # As the step does it: what is left over goes, and the rest is made.
        list(shadow.remove_stale_locks(host))
        if passwd.account(host, "admin1") is None:
            changes(host).add(NEW)
        changes(host).join("admin1", "sudo")
        shadow.complete_account(host, "admin1", home=True)
        assert texts(host) == after
        assert {path.name for path in etc.iterdir() if path.name.endswith(".lock")} == {".pwd.lock"}
        lines += 7
    assert len(found) == 1 + len(FILES), "it is killed between any two of the files"


def test_a_plan_says_what_would_be_written(host: Host) -> None:
    host.dry_run = True
    before = texts(host)
    changes(host).add(NEW)
    assert [line.split(" ")[1] for line in host.planned] == [f"/etc/{name}" for name in FILES]
    changes(host).flush("/home/admin1")
    # Of an account that the plan has not made.
    change = changes(host)
    for name, work in {
        "group": partial(change.join, "admin1", "sudo"),
        "passwd": partial(change.set_shell, "admin1", "/bin/dash"),
        "shadow": partial(change.set_password, "admin1", "pass word"),
    }.items():
        host.planned.clear()
        work()
        assert host.planned[0].startswith(f"write /etc/{name} ")
    assert texts(host) == before
    assert sorted(os.listdir(Path(host.root) / "etc")) == sorted(("skel", *FILES))


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a:b", "a\nb", "a/b", "a,b", "-a", "+a", "~a", "a b", "a\\"]
)
def test_a_name_that_is_none_is_refused(host: Host, name: str) -> None:
    before = texts(host)
    for change in (partial(changes(host).add, NewAccount(name)), partial(changes(host).add_group, name)):
        with pytest.raises(AgentError, match="not a name"):
            change()
    assert texts(host) == before


def test_a_primary_group_is_left_to_the_first_boot(host: Host) -> None:
    with pytest.raises(NeedsProgram, match="usermod"):
        changes(host).set_group("root", "sudo")


def test_limits_of_an_image_cost_nothing(host: Host) -> None:
    """A first number that is far from the last one is no reason to count from it."""
    host.write("/etc/login.defs", "UID_MIN 1000\nUID_MAX 999999999999\nSYS_UID_MAX 999999999999\n")
    changes(host).add(NEW)
    changes(host).add(NewAccount("daemon1", system=True, create_home=False))
    host.write("/etc/login.defs", "UID_MIN 9\nUID_MAX 3\n")
    with pytest.raises(HostError, match="no uid from 9 to 3 is free"):
        changes(host).add(NewAccount("second"))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, "sha512"),
        ({"login.defs": "ENCRYPT_METHOD YESCRYPT\n"}, "yescrypt"),
        ({"login.defs": "ENCRYPT_METHOD MD5\n"}, "sha512"),
        ({"pam.d/common-password": "password\t[success=1]\tpam_unix.so obscure yescrypt\n"}, "yescrypt"),
        ({"pam.d/common-password": "# password x pam_unix.so yescrypt\n"}, "sha512"),
        (
            {
                "pam.d/system-auth": "password sufficient pam_unix.so sha512 shadow\n",
                "login.defs": "ENCRYPT_METHOD YESCRYPT\n",
            },
            "sha512",
        ),
    ],
)
def test_the_method_is_the_images(host: Host, files: dict[str, str], expected: str) -> None:
    for name, text in files.items():
        host.write(f"/etc/{name}", text)
    assert method(host) == expected
    one, other = hashed(host, "pass word"), hashed(host, "pass word")
    assert one.startswith({"sha512": "$6$", "yescrypt": "$y$"}[expected])
    assert one != other, "each has its own salt"
