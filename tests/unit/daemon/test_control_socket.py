"""The query whether the daemon answers; hostile peers are tested in tests/system/test_daemon.py."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from agent.daemon import control_socket
from agent.host.host import Host

if TYPE_CHECKING:
    from pathlib import Path


def test_nobody_listens(tmp_path: Path) -> None:
    assert control_socket.ping(Host(tmp_path)) is None


def test_a_daemon_that_accepts_nobody_is_one_that_does_not_answer(tmp_path: Path) -> None:
    """The daemon hangs and the socket's backlog is full: connect(2) does not block then."""
    place = tmp_path / control_socket.SOCKET.lstrip("/")
    place.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place))
        listening.listen(0)
        assert control_socket.ping(Host(tmp_path), 0.1) is False  # one may wait, and keeps its place
        assert control_socket.ping(Host(tmp_path), 0.1) is False
