"""Queries and jobs of PID 1 over its private socket (no D-Bus daemon needed), by libsystemd's sd-bus(3).

Called in this process: on a slow machine, starting another one costs more than the whole answer. All threads
share one connection, open while one of them needs it: PID 1 sends the changes of all units over each
connection, which with eight of them is two thirds of what it spends on a mount.

Calls, properties and signals: org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import threading
import time
from ctypes import POINTER, byref, c_char_p, c_int, c_uint32, c_uint64, c_void_p
from functools import cache

from agent.lib.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    #: A property of a unit: its name, its D-Bus type, its value or values (s, as: texts; b: "yes" or "no";
    #: t: microseconds; ay: a text's bytes; a(sasb): one command, word by word).
    Property = tuple[str, ...]
    _Argument = bytes | c_int | c_uint64

_ADDRESS = b"unix:path=/run/systemd/private"
_SERVICE, _PATH = b"org.freedesktop.systemd1", b"/org/freedesktop/systemd1"
_MANAGER, _PROPERTIES = b"org.freedesktop.systemd1.Manager", b"org.freedesktop.DBus.Properties"
_UNIT, _SERVICE_UNIT = b"org.freedesktop.systemd1.Unit", b"org.freedesktop.systemd1.Service"
_LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_LETTERS_AND_DIGITS = _LETTERS | frozenset(b"0123456789")
#: Seconds in which PID 1 accepts a job, unless it hangs.
_ANSWER = 25.0
#: The result of a job if the connection is lost before its end.
_LOST = "the connection was lost"


class _Error(ctypes.Structure):
    """sd_bus_error."""

    _fields_ = (("name", c_char_p), ("message", c_char_p), ("need_free", c_int))


#: Functions that may fail, with the types of their fixed arguments; sd_bus_message_read and
#: sd_bus_call_method take more.
_FUNCTIONS = {
    "sd_bus_new": (POINTER(c_void_p),),
    "sd_bus_set_address": (c_void_p, c_char_p),
    "sd_bus_set_method_call_timeout": (c_void_p, c_uint64),
    "sd_bus_start": (c_void_p,),
    "sd_bus_get_fd": (c_void_p,),
    "sd_bus_is_open": (c_void_p,),
    "sd_bus_process": (c_void_p, POINTER(c_void_p)),
    "sd_bus_message_is_signal": (c_void_p, c_char_p, c_char_p),
    "sd_bus_message_read": (c_void_p, c_char_p),
    "sd_bus_call_method": (c_void_p, *(c_char_p,) * 4, POINTER(_Error), POINTER(c_void_p), c_char_p),
}
#: Functions that release a handle.
_ENDS = {
    "sd_bus_flush_close_unref": c_void_p,
    "sd_bus_message_unref": c_void_p,
    "sd_bus_error_free": POINTER(_Error),
}


class _Connection:
    """The connection that the threads share. sd-bus is not thread-safe: it is called with ``lock`` held."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._read = threading.Condition(self.lock)
        self._bus: c_void_p | None = None
        self._users = 0
        #: Path of a job that a thread waits for -> its result, "" until it has ended.
        self._jobs: dict[str, str] = {}
        #: eventfd that wakes the thread that waits for PID 1's next message; -1 while none waits.
        self._reader = -1

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep the connection open, once it is, within this context."""
        with self.lock:
            self._users += 1
        try:
            yield
        finally:
            with self.lock:
                self._users -= 1
                if not self._users:
                    self._close()

    @contextlib.contextmanager
    def bus(self, timeout: float) -> Iterator[c_void_p]:
        """Yield the open connection, with ``lock`` held and each call on it bounded by ``timeout`` seconds.

        Raise HostError if a call fails.
        """
        lib = _library()
        with self.held(), self.lock:
            try:
                if self._bus is None:
                    self._bus = c_void_p()
                    lib.sd_bus_new(byref(self._bus))
                    lib.sd_bus_set_address(self._bus, _ADDRESS)
                    lib.sd_bus_start(self._bus)
                lib.sd_bus_set_method_call_timeout(self._bus, int(timeout * 1e6))
                yield self._bus
            except OSError as error:
                self._close()
                raise HostError(f"systemd cannot be reached: {error.strerror}") from error
            except HostError:
                if not lib.sd_bus_is_open(self._bus):
                    self._close()
                raise

    def job(self, method: bytes, types: bytes, order: Sequence[_Argument], timeout: float) -> str:
        """Start a job and wait for its end; return its result, or "" if none comes in ``timeout`` seconds.

        One thread reads PID 1's messages for all that wait.
        """
        deadline = time.monotonic() + timeout
        with self.held():
            with (
                self.bus(_ANSWER) as bus,
                _called(bus, _PATH, _MANAGER, method, types, *order) as answer,
            ):
                path = c_char_p()
                _library().sd_bus_message_read(answer, b"o", byref(path))
                job = os.fsdecode(path.value or b"")
                self._jobs[job] = ""
            with self.lock:
                try:
                    while not self._has_ended(job) and (left := deadline - time.monotonic()) > 0:
                        self._await(left)
                    return self._jobs[job]
                finally:
                    del self._jobs[job]

    def _has_ended(self, job: str) -> bool:
        """Read all received messages; return whether the job has ended."""
        try:
            while self._bus is not None and self._take(self._bus):
                pass
        except OSError:
            self._close()
        return bool(self._jobs[job])

    def _await(self, seconds: float) -> None:
        """Wait up to ``seconds`` until there is something to read, or another thread has read."""
        if self._reader >= 0:
            self._read.wait(seconds)
            return
        poll = select.poll()
        poll.register(_library().sd_bus_get_fd(self._bus), select.POLLIN)
        self._reader = os.eventfd(0)
        poll.register(self._reader, select.POLLIN)
        self.lock.release()
        try:
            poll.poll(seconds * 1000)
        finally:
            self.lock.acquire()
            os.close(self._reader)
            self._reader = -1
            self._read.notify_all()

    def _end(self, job: str, result: str) -> None:
        self._jobs[job] = result
        self._read.notify_all()
        if self._reader >= 0:
            os.eventfd_write(self._reader, 1)

    def _take(self, bus: c_void_p) -> bool:
        """Process one message and note the end of a job; return whether there was a message."""
        lib, message = _library(), c_void_p()
        processed = lib.sd_bus_process(bus, byref(message))
        try:
            if message and lib.sd_bus_message_is_signal(message, _MANAGER, b"JobRemoved"):
                number, path, unit, result = c_uint32(), c_char_p(), c_char_p(), c_char_p()
                into = (byref(number), byref(path), byref(unit), byref(result))
                lib.sd_bus_message_read(message, b"uoss", *into)
                job = os.fsdecode(path.value or b"")
                if job in self._jobs:
                    self._end(job, os.fsdecode(result.value or b""))
        finally:
            lib.sd_bus_message_unref(message)
        return bool(processed)

    def _close(self) -> None:
        if self._bus is not None:
            _library().sd_bus_flush_close_unref(self._bus)
            self._bus = None
            for job in [job for job, result in self._jobs.items() if not result]:
                self._end(job, _LOST)


_connection = _Connection()


def session() -> contextlib.AbstractContextManager[None]:
    """Use one connection within this context: a new one costs PID 1 as much as starting a unit."""
    return _connection.held()


def start_transient(unit: str, properties: Sequence[Property], *, timeout: float) -> None:
    """Make a transient unit, start it, and return when its start job is done.

    ``timeout`` is in seconds; the job continues after it. Raise HostError naming the unit if the job fails.
    """
    flat = [argument for item in properties for argument in _arguments(*item)]
    order = (os.fsencode(unit), b"fail", c_int(len(properties)), *flat, c_int(0))
    result = _connection.job(b"StartTransientUnit", b"ssa(sv)a(sa(sv))", order, timeout)
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
    with session():
        with _connection.bus(_ANSWER) as bus:
            line = (b"DeviceAllow", b"a(ss)", c_int(1), device.encode(), access.encode())
            order = (os.fsencode(unit), c_int(1), c_int(1), *line)
            with _called(bus, _PATH, _MANAGER, b"SetUnitProperties", b"sba(sv)", *order):
                pass
        # PID 1 applies it after that answer and before the next one.
        active_state(unit, timeout=_ANSWER)


def system_state(*, timeout: float) -> str:
    """Return the state of the whole system: starting, running, degraded, stopping…

    ``timeout`` is in seconds. Raise HostError if PID 1 does not answer.
    """
    return _text(_PATH, _MANAGER, b"SystemState", timeout)


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
    process = c_uint32()
    with _property(_of_unit(service), _SERVICE_UNIT, b"MainPID", b"u", process, timeout):
        return process.value


def _of_unit(unit: str) -> bytes:
    """Return the path of a unit's object, with _XX for a leading digit and all but letters and digits."""
    escaped = (
        chr(byte) if byte in (_LETTERS_AND_DIGITS if place else _LETTERS) else f"_{byte:02x}"
        for place, byte in enumerate(os.fsencode(unit))
    )
    return _PATH + b"/unit/" + "".join(escaped).encode()


def _text(path: bytes, interface: bytes, name: bytes, timeout: float) -> str:
    found = c_char_p()
    with _property(path, interface, name, b"s", found, timeout):
        return os.fsdecode(found.value or b"")


@contextlib.contextmanager
def _property(
    path: bytes, interface: bytes, name: bytes, kind: bytes, into: c_char_p | c_uint32, timeout: float
) -> Iterator[None]:
    """Read a property into ``into``; a text is valid within the context only."""
    with (
        _connection.bus(timeout) as bus,
        _called(bus, path, _PROPERTIES, b"Get", b"ss", interface, name) as answer,
    ):
        _library().sd_bus_message_read(answer, b"v", kind, byref(into))
        yield


@contextlib.contextmanager
def _called(
    bus: c_void_p, path: bytes, interface: bytes, method: bytes, types: bytes, *arguments: _Argument
) -> Iterator[c_void_p]:
    """Call a method and yield the answer. Raise HostError with PID 1's reason."""
    lib, answer, error = _library(), c_void_p(), _Error()
    target = (_SERVICE, path, interface, method)
    try:
        lib.sd_bus_call_method(bus, *target, byref(error), byref(answer), types, *arguments)
        yield answer
    except OSError as failure:
        reason = (error.message or str(failure.strerror).encode()).decode(errors="replace")
        raise HostError(f"systemd refuses {method.decode()}: {reason}") from failure
    finally:
        lib.sd_bus_message_unref(answer)
        lib.sd_bus_error_free(byref(error))


def _arguments(name: str, kind: str, *values: str) -> Iterator[_Argument]:
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


@cache
def _library() -> ctypes.CDLL:
    """Return libsystemd, with functions that raise OSError. Raise HostError if it cannot be loaded."""
    try:
        library = ctypes.CDLL("libsystemd.so.0")
    except OSError as error:
        raise HostError(f"systemd cannot be reached: {error}") from error
    for name, types in _FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes, function.errcheck = types, _checked
    for name, handle in _ENDS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = (handle,), None
    return library


def _checked(result: int, _function: object, _given: object) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result
