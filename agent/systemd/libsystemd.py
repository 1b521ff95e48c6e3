"""Queries and jobs of PID 1, by its private socket and libsystemd.

Called in this process: on a slow machine, starting another one costs more than the whole answer. Calls,
properties and signals: org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import contextlib
import os
from ctypes import c_char_p, c_int, c_uint32, c_uint64

from agent.lib.errors import HostError, ResultUnknown
from agent.systemd import sd_bus
from agent.systemd.sd_bus import ANSWER, MANAGER, PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.systemd.sd_bus import Argument

    #: A property of a unit: its name, its D-Bus type, its value or values (s, as: texts; b: "yes" or "no";
    #: t: microseconds; ay: a text's bytes; a(sasb): one command, word by word).
    Property = tuple[str, ...]

_UNIT, _SERVICE_UNIT = b"org.freedesktop.systemd1.Unit", b"org.freedesktop.systemd1.Service"
_LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_LETTERS_AND_DIGITS = _LETTERS | frozenset(b"0123456789")

_connection = sd_bus.Connection()


def session() -> contextlib.AbstractContextManager[None]:
    """Use one connection within this context: a new one costs PID 1 as much as starting a unit."""
    return _connection.held()


def start_transient(unit: str, properties: Sequence[Property], *, timeout: float) -> None:
    """Make a transient unit, start it, and return when its start job is done.

    ``timeout`` is in seconds; the job continues after it. Raise HostError naming the unit if the job fails,
    ResultUnknown if it ended while PID 1 re-executed.
    """
    flat = [argument for item in properties for argument in _arguments(*item)]
    order = (os.fsencode(unit), b"fail", c_int(len(properties)), *flat, c_int(0))
    try:
        result = _connection.job(b"StartTransientUnit", b"ssa(sv)a(sa(sv))", order, timeout)
    except ResultUnknown as error:
        raise ResultUnknown(f"{unit}: {error.message}") from error
    if result != "done":
        why = f"its start ended as: {result}" if result else f"not started within {timeout:g} s"
        raise HostError(f"{unit}: {why}", hint=f"see: journalctl -b -u '{unit}'")


def start(unit: str, *, timeout: float) -> str:
    """Start a unit, or join its start, and return the job's result (done, failed, dependency...).

    Return "" if the job has not ended within ``timeout`` seconds. Raise HostError if PID 1 refuses.
    """
    return _connection.job(b"StartUnit", b"ss", (os.fsencode(unit), b"replace"), timeout)


def stop(unit: str, *, timeout: float) -> str:
    """Stop a unit and those that require it, and return the job's result (done, failed, timeout...).

    Return "" if the job has not ended within ``timeout`` seconds. Raise HostError if PID 1 refuses, as for a
    unit that it has not loaded.
    """
    return _connection.job(b"StopUnit", b"ss", (os.fsencode(unit), b"replace"), timeout)


def allow_device(unit: str, device: str, access: str) -> None:
    """Add a line DeviceAllow= to a running unit until the next boot (systemd.resource-control(5)), and
    return when it is in force. PID 1 then looks for the drivers of all such lines again, which it does
    otherwise when the unit starts.

    Raise HostError with PID 1's reason.
    """

    def allow() -> None:
        line = (b"DeviceAllow", b"a(ss)", c_int(1), device.encode(), access.encode())
        order = (os.fsencode(unit), c_int(1), c_int(1), *line)
        with (
            _connection.bus(ANSWER) as bus,
            sd_bus.called(bus, PATH, MANAGER, b"SetUnitProperties", b"sba(sv)", *order),
        ):
            pass

    with session():
        sd_bus.repeated(allow)
        # PID 1 applies it after that answer and before the next one.
        active_state(unit, timeout=ANSWER)


def system_state(*, timeout: float) -> str:
    """Return the state of the whole system: starting, running, degraded, stopping…

    ``timeout`` is in seconds. Raise HostError if PID 1 does not answer.
    """
    return _text(PATH, MANAGER, b"SystemState", timeout)


def active_state(unit: str, *, timeout: float) -> str:
    """Return a unit's state: active, reloading, inactive, failed, activating, deactivating…

    A unit that does not exist is inactive. ``timeout`` is in seconds. Raise HostError if PID 1 does not
    answer.
    """
    return _text(_of_unit(unit), _UNIT, b"ActiveState", timeout)


def fragment(unit: str, *, timeout: float) -> str:
    """Return the file that PID 1 has loaded a unit from; "" for a unit without one.

    ``timeout`` is in seconds. Raise HostError if PID 1 does not answer.
    """
    return _text(_of_unit(unit), _UNIT, b"FragmentPath", timeout)


def main_process(service: str, *, timeout: float) -> int:
    """Return the process id of a service, 0 while it has none.

    ``timeout`` is in seconds. Raise HostError if PID 1 does not answer.
    """
    return int(_connection.property(_of_unit(service), _SERVICE_UNIT, b"MainPID", b"u", c_uint32, timeout))


def _of_unit(unit: str) -> bytes:
    """Return the path of a unit's object, with _XX for a leading digit and all but letters and digits."""
    escaped = (
        chr(byte) if byte in (_LETTERS_AND_DIGITS if place else _LETTERS) else f"_{byte:02x}"
        for place, byte in enumerate(os.fsencode(unit))
    )
    return PATH + b"/unit/" + "".join(escaped).encode()


def _text(path: bytes, interface: bytes, name: bytes, timeout: float) -> str:
    return os.fsdecode(_connection.property(path, interface, name, b"s", c_char_p, timeout) or b"")


def _arguments(name: str, kind: str, *values: str) -> Iterator[Argument]:
    """Yield a property's arguments for sd_bus_message_append(3)."""
    yield from (name.encode(), kind.encode())
    match kind:
        case "b":
            yield c_int(values == ("yes",))
        case "t":
            yield c_uint64(int(values[0]))
        case "ay":
            data = os.fsencode(values[0])
            yield from map(c_int, (len(data), *data))
        case "as":
            yield c_int(len(values))
            yield from map(os.fsencode, values)
        case "a(sasb)":
            words = [os.fsencode(word) for word in values]
            yield from (c_int(1), words[0], c_int(len(words)))
            yield from words
            yield c_int(0)
        case _:
            yield from map(os.fsencode, values)
