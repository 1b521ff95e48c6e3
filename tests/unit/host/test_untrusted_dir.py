"""A home belongs to its user: nothing in it makes the agent write elsewhere."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from agent.host import untrusted_dir
from agent.host.host import Host
from agent.lib.errors import HostError

PARTS = (".ssh", "authorized_keys")
ME = (os.geteuid(), os.getegid())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home/admin1").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/secret").write_text("secret")
    return tmp_path / "home/admin1"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_what_was_written_is_read_with_the_modes_that_sshd_wants(host: Host, home: Path) -> None:
    assert untrusted_dir.read(host, "/home/admin1", PARTS, ME) is None
    for content in (b"one\n", b"two\n"):
        untrusted_dir.write(host, "/home/admin1", PARTS, content, ME)
        assert untrusted_dir.read(host, "/home/admin1", PARTS, ME) == content
    assert stat.S_IMODE((home / ".ssh").stat().st_mode) == 0o700
    assert stat.S_IMODE((home / ".ssh/authorized_keys").stat().st_mode) == 0o600
    assert [path.name for path in (home / ".ssh").iterdir()] == ["authorized_keys"]


def test_a_loose_folder_is_closed(host: Host, home: Path) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh").chmod(0o777)
    untrusted_dir.write(host, "/home/admin1", PARTS, b"", ME)
    assert stat.S_IMODE((home / ".ssh").stat().st_mode) == 0o700


def test_a_folder_that_is_a_link_is_not_followed(host: Host, home: Path) -> None:
    (home / ".ssh").symlink_to("../../etc")
    with pytest.raises(HostError, match="symbolic link"):
        untrusted_dir.write(host, "/home/admin1", (".ssh", "secret"), b"mine", ME)
    with pytest.raises(HostError, match="symbolic link"):
        untrusted_dir.read(host, "/home/admin1", (".ssh", "secret"), ME)
    assert (home / "../../etc/secret").read_text() == "secret"


def test_a_file_that_is_a_link_is_neither_read_nor_written_through(host: Host, home: Path) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh/authorized_keys").symlink_to("../../../etc/secret")
    with pytest.raises(HostError, match="symbolic link"):
        untrusted_dir.read(host, "/home/admin1", PARTS, ME)
    untrusted_dir.write(host, "/home/admin1", PARTS, b"mine", ME)
    assert (home / "../../etc/secret").read_text() == "secret"
    assert not (home / ".ssh/authorized_keys").is_symlink()


def test_a_second_name_of_another_file_is_not_read(host: Host, home: Path) -> None:
    (home / ".ssh").mkdir()
    os.link(home / "../../etc/secret", home / ".ssh/authorized_keys")
    with pytest.raises(HostError, match="not a regular file of this user's own"):
        untrusted_dir.read(host, "/home/admin1", PARTS, ME)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(
    ("mode", "group", "is_read"),
    [(0o600, 0, False), (0o640, 0, False), (0o604, 1234, False), (0o640, 1234, True), (0o644, 0, True)],
)
def test_a_file_of_roots_that_the_user_may_not_read_is_not_copied(
    host: Host, home: Path, mode: int, group: int, is_read: bool
) -> None:
    """The user can have moved it there: for example a backup that root keeps in the home."""
    (home / ".ssh").mkdir()
    keys = home / ".ssh/authorized_keys"
    keys.write_bytes(b"secret\n")
    for path in (home, keys.parent):
        os.chown(path, 1234, 1234)
    os.chown(keys, 0, group)
    keys.chmod(mode)
    if is_read:
        assert untrusted_dir.read(host, "/home/admin1", PARTS, (1234, 1234)) == b"secret\n"
    else:
        with pytest.raises(HostError, match="not a regular file of this user's own"):
            untrusted_dir.read(host, "/home/admin1", PARTS, (1234, 1234))


def test_a_fifo_does_not_hold_the_boot(host: Host, home: Path) -> None:
    (home / ".ssh").mkdir()
    os.mkfifo(home / ".ssh/authorized_keys")
    with pytest.raises(HostError, match="not a regular file"):
        untrusted_dir.read(host, "/home/admin1", PARTS, ME)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a folder away")
def test_a_strangers_folder_is_refused(host: Host, home: Path) -> None:
    (home / ".ssh").mkdir()
    os.chown(home / ".ssh", 12345, 12345)
    os.chown(home, 1000, 1000)
    with pytest.raises(HostError, match="another user"):
        untrusted_dir.write(host, "/home/admin1", PARTS, b"", (1000, 1000))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a folder away")
@pytest.mark.parametrize("holds", [(), ("secret",)])
def test_a_closed_folder_of_roots_is_given_away_only_while_it_is_empty(
    host: Host, home: Path, holds: tuple[str, ...]
) -> None:
    """The owner of the home can rename any folder in it to .ssh."""
    os.chown(home, 1000, 1000)
    (home / "backup").mkdir(mode=0o700)
    for name in holds:
        (home / "backup" / name).write_bytes(b"x")
    (home / "backup").rename(home / ".ssh")
    untrusted_dir.write(host, "/home/admin1", PARTS, b"key\n", (1000, 1000))
    assert (home / ".ssh").stat().st_uid == (0 if holds else 1000)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
def test_everything_that_is_made_belongs_to_the_user(host: Host, home: Path) -> None:
    os.chown(home, 1000, 1001)
    untrusted_dir.write(host, "/home/admin1", PARTS, b"", (1000, 1001))
    for made in (home / ".ssh", home / ".ssh/authorized_keys"):
        assert (made.stat().st_uid, made.stat().st_gid) == (1000, 1001)


def test_a_dry_run_writes_nothing(tmp_path: Path, home: Path) -> None:
    host = Host(tmp_path, dry_run=True)
    untrusted_dir.write(host, "/home/admin1", PARTS, b"x", ME)
    assert host.planned
    assert not (home / ".ssh").exists()


def test_a_file_that_is_too_large_is_not_cut(host: Host, home: Path) -> None:
    untrusted_dir.write(host, "/home/admin1", PARTS, b"x" * (untrusted_dir.READ_LIMIT + 1), ME)
    with pytest.raises(HostError, match="larger than 1 MiB"):
        untrusted_dir.read(host, "/home/admin1", PARTS, ME)
