"""Lock files of shadow: which files are locks, and which are older than the boot."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from agent.accounts import defaults, shadow
from agent.host.host import Host
from agent.report import Outcome

HOUR = 3600.0


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host that counts as the running machine, up for an hour."""
    (tmp_path / "etc").mkdir()
    monkeypatch.setattr(Host, "live", property(lambda _host: True))
    monkeypatch.setattr(Host, "path", lambda host, name: f"{host.root}/{name.lstrip('/')}")
    monkeypatch.setattr(time, "clock_gettime", lambda _clock: HOUR)
    return Host(tmp_path)


def put(host: Host, name: str, age: float, content: bytes = b"1\0") -> None:
    path = Path(host.path(f"/etc/{name}"))
    path.write_bytes(content)
    os.utime(path, (time.time() - age,) * 2)


def test_on_a_machine_that_runs_only_what_is_older_than_the_boot_goes(host: Host) -> None:
    for name, age in (("passwd.lock", HOUR + 60), ("shadow.lock", HOUR - 60), ("group.lock", -HOUR)):
        put(host, name, age)
    (item,) = shadow.remove_stale_locks(host)
    assert item.outcome is Outcome.CHANGED
    assert item.detail.endswith("program: group.lock, passwd.lock")
    assert sorted(os.listdir(host.path("/etc"))) == [".pwd.lock", "shadow.lock"]
    assert list(shadow.remove_stale_locks(host)) == []


@pytest.mark.parametrize(
    ("name", "content", "is_lock"),
    [
        ("passwd.lock", b"4711\0", True),
        ("passwd.lock", b"", True),
        ("passwd.lock", b"\0\0\0\0", True),
        ("passwd.4711", b"4711\0", True),
        ("passwd.4711", b"4712\0", False),
        ("passwd.lock", b"root:x:0:0::/root:/bin/sh\n", False),
        ("passwd.20260101", b"", False),
        ("mine.lock", b"4711\0", False),
    ],
)
def test_what_is_taken_for_a_lock(host: Host, name: str, content: bytes, is_lock: bool) -> None:
    put(host, name, 2 * HOUR, content)
    assert bool(list(shadow.remove_stale_locks(host))) is is_lock


def test_a_plan_removes_nothing(host: Host) -> None:
    put(host, "passwd.lock", 2 * HOUR)
    host.dry_run = True
    (item,) = shadow.remove_stale_locks(host)
    assert item.outcome is Outcome.CHANGED
    assert host.planned == ["remove /etc/passwd.lock"]
    assert host.exists("/etc/passwd.lock")


@pytest.mark.parametrize(
    ("text", "value"), [("UMASK 027", 0o27), ("UMASK\t0x10", 16), ("UMASK 22", 22), ("UMASK 09", 5), ("", 5)]
)
def test_numbers_of_login_defs(host: Host, text: str, value: int) -> None:
    host.write("/etc/login.defs", f"# UMASK 1\n{text}\n")
    assert defaults.number(host, "UMASK", 5) == value
