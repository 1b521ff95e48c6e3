"""Whether sshd answers on this machine, by its banner (RFC 4253, 4.2)."""

from __future__ import annotations

import socket
import time

from agent.lib.text import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    #: An address and a port.
    Place = tuple[str, int]

#: Where every address is listened on, this machine's own is asked.
_OWN = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, never bound
_BANNER = b"SSH-"
#: Seconds in which one answers: it makes a process for each connection.
_ANSWER = 5.0
#: Seconds between two answers that count: at a reload sshd opens its ports again, and the first answer may
#: be from before that.
_CALM = 1.0


def places(listened: Iterable[str]) -> tuple[Place, ...]:
    """Return where to ask, by the values of ``listenaddress`` that ``sshd -T`` prints."""
    found = (text.rpartition(":") for text in listened)
    pairs = ((address.strip("[]"), number(port)) for address, _, port in found)
    return tuple((_OWN.get(address, address), port) for address, port in pairs if port is not None)


def answering(asked: Iterable[Place]) -> tuple[Place, ...]:
    """Return the places at which sshd answers."""
    return tuple(place for place in asked if _answers(place))


def wait(asked: tuple[Place, ...], seconds: float) -> bool:
    """Return whether within ``seconds`` sshd answers at one of the places twice, ``_CALM`` seconds apart."""
    deadline, times = time.monotonic() + seconds, 0
    while True:
        times = times + 1 if answering(asked) else 0
        if times == 2 or time.monotonic() >= deadline:
            return times == 2
        time.sleep(_CALM)


def _answers(place: Place) -> bool:
    try:
        with socket.create_connection(place, timeout=_ANSWER) as connection:
            return connection.recv(len(_BANNER), socket.MSG_WAITALL) == _BANNER
    except OSError:
        return False
