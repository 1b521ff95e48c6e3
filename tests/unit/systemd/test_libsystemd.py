"""The binding of libsystemd's journal: what it passes to the library, and how it treats the result."""

from __future__ import annotations

import ctypes
import errno
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from agent.host.host import Host
from agent.lib.errors import HostError
from agent.systemd import libsystemd
from agent.systemd.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable

FIELDS = (b"MESSAGE=two\nlines", b"PRIORITY=6", b"GANDI_ODD=a\0b\xff", b"EMPTY=")


def _library(send: Callable[[object, int], int]) -> Callable[[], SimpleNamespace]:
    return lambda: SimpleNamespace(sd_journal_sendv=send)


def test_the_fields_are_an_iovec(monkeypatch: pytest.MonkeyPatch) -> None:
    """writev(2) reads the same structure: it stands in for the library, which sends elsewhere."""
    reading, writing = os.pipe()
    libc = ctypes.CDLL(None)
    monkeypatch.setattr(
        libsystemd, "_library", _library(lambda vectors, count: libc.writev(writing, vectors, count))
    )
    libsystemd.journal_send(*FIELDS)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"".join(FIELDS)


def test_the_real_library_takes_an_entry() -> None:
    """Without journald the library returns 0; a refusal would be raised."""
    libsystemd.journal_send(
        b"MESSAGE=a test of gandi-agent", b"PRIORITY=7", b"SYSLOG_IDENTIFIER=gandi-agent"
    )


def test_what_the_library_refuses_is_raised() -> None:
    with pytest.raises(OSError, match="Invalid argument") as caught:
        libsystemd.journal_send(b"no field")
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), HostError("no libsystemd")])
def test_a_text_that_no_journal_takes_is_complained(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_fields: bytes) -> None:
        raise error

    monkeypatch.setattr(libsystemd, "journal_send", refuse)
    Journal(Host()).overflow()
    assert capsys.readouterr().err.startswith("device events were lost")
