"""sshd's banner is asked for at real sockets of this machine."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agent.network import ssh_probe


@contextmanager
def _server(said: bytes, *, family: int = socket.AF_INET, count: int = 99) -> Iterator[int]:
    """Listen on loopback; say ``said`` to the first ``count`` connections and nothing to later ones."""
    address = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with socket.create_server((address, 0), family=family) as server:
        kept: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                kept.append(connection)
                if said and len(kept) <= count:
                    connection.sendall(said)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in kept:
                connection.close()


def test_what_sshd_prints_becomes_this_machines_addresses() -> None:
    listened = ["0.0.0.0:22", "[::]:22", "192.0.2.7:2222", "[2001:db8::7]:22", "odd"]
    own = (("127.0.0.1", 22), ("::1", 22), ("192.0.2.7", 2222), ("2001:db8::7", 22))
    assert ssh_probe.places(listened) == own


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_banner_is_an_answer(family: int) -> None:
    address = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with _server(b"SSH-2.0-x\r\n", family=family) as port:
        assert ssh_probe.answering([(address, port)]) == ((address, port),)
        assert ssh_probe.wait(((address, port),), 10)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.0 200\r\n"])
def test_silence_and_another_server_are_none(monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    monkeypatch.setattr(ssh_probe, "_ANSWER", 0.2)
    with _server(said) as port:
        assert ssh_probe.answering([("127.0.0.1", port)]) == ()
        assert not ssh_probe.wait((("127.0.0.1", port),), 0.5)


def test_a_closed_port_is_none() -> None:
    with _server(b"SSH-") as port:
        pass
    assert ssh_probe.answering([("127.0.0.1", port)]) == ()


def test_one_answer_from_before_the_reload_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_probe, "_ANSWER", 0.2)
    with _server(b"SSH-2.0-x\r\n", count=1) as port:
        assert not ssh_probe.wait((("127.0.0.1", port),), 2)
