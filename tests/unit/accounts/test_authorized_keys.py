"""authorized_keys is changed line by line, as sshd reads it; every other byte stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.accounts import authorized_keys
from agent.accounts.passwd import Account
from agent.host.host import Host
from tests.unit.lib.test_text import NO_END

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHdf2mNDYbbiLMAH/3rdNZmPnmVcRdhNWxbWdsCbXvYF me@home"
#: Content that the agent does not write: another encoding, other line ends, no newline at the end.
OTHERS = (
    b"# from the image \xff\xfe\r\n",
    b"\n",
    b'command="ssh-ed25519 AAAA" ssh-rsa AAAAB3NzaC1yc2E \xe9\r\n',
    *(f"ssh-rsa AAAAB3NzaC1yc2E x{odd}ssh-rsa AAAA\n".encode() for odd in NO_END),
    b"ssh-rsa AAAAB3NzaC1yc2E x\0y\n",
)


@pytest.fixture
def owner(tmp_path: Path) -> Account:
    (tmp_path / "home/u").mkdir(parents=True)
    return Account("u", os.getuid(), os.getgid(), "/home/u", "/bin/sh")


def _file(root: Path) -> Path:
    return root / "home/u/.ssh/authorized_keys"


def _hold(root: Path, content: bytes) -> Host:
    _file(root).parent.mkdir(mode=0o700)
    _file(root).write_bytes(content)
    return Host(root)


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_is_added_at_the_end(tmp_path: Path, owner: Account, end: bytes) -> None:
    before = b"".join(OTHERS).removesuffix(b"\n") + end
    authorized_keys.add(_hold(tmp_path, before), owner, KEY)
    assert _file(tmp_path).read_bytes() == before.removesuffix(b"\n") + b"\n" + KEY.encode() + b"\n"


def test_the_first_line_of_a_new_file(tmp_path: Path, owner: Account) -> None:
    authorized_keys.add(Host(tmp_path), owner, KEY)
    assert _file(tmp_path).read_bytes() == KEY.encode() + b"\n"


@pytest.mark.parametrize("place", range(len(OTHERS) + 1))
def test_a_line_is_removed_wherever_it_is(tmp_path: Path, owner: Account, place: int) -> None:
    parts = [*OTHERS[:place], KEY.encode() + b"\n", *OTHERS[place:]]
    authorized_keys.remove(_hold(tmp_path, b"".join(parts)), owner, KEY)
    assert _file(tmp_path).read_bytes() == b"".join(OTHERS)


def test_the_last_line_has_no_end(tmp_path: Path, owner: Account) -> None:
    authorized_keys.remove(_hold(tmp_path, b"# one" + b"\n" + KEY.encode()), owner, KEY)
    assert _file(tmp_path).read_bytes() == b"# one\n"


@pytest.mark.parametrize("part", OTHERS, ids=ascii)
def test_any_line_is_removed_alone_and_whole(tmp_path: Path, owner: Account, part: bytes) -> None:
    host = _hold(tmp_path, b"".join(OTHERS))
    line = part.removesuffix(b"\n").decode("utf-8", "surrogateescape")
    assert line in authorized_keys.lines(host, owner)
    authorized_keys.remove(host, owner, line)
    assert _file(tmp_path).read_bytes() == b"".join(other for other in OTHERS if other != part)


@pytest.mark.parametrize("odd", NO_END, ids=ascii)
def test_a_comment_is_no_second_line(tmp_path: Path, owner: Account, odd: str) -> None:
    """Neither when the file is read nor after another line was added and removed."""
    line = f'command="/bin/true" {KEY}{odd}ssh-rsa AAAAB3NzaC1yc2E'
    host = _hold(tmp_path, f"{line}\n".encode())
    assert authorized_keys.lines(host, owner) == [line]
    authorized_keys.add(host, owner, "ssh-rsa AAAA")
    authorized_keys.remove(host, owner, "ssh-rsa AAAA")
    assert _file(tmp_path).read_bytes() == f"{line}\n".encode()
