"""libsystemd's sd-bus(3) by ctypes, and the connection to PID 1 by its private socket.

All threads share one connection, open while one of them needs it: PID 1 sends the changes of all units over
each connection, which with eight of them is two thirds of what it spends on a mount. When PID 1 re-executes,
as an upgrade of systemd makes it, it closes each connection, refuses new ones for about a second, and keeps
its jobs: then a call is made again, and a job is looked for.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import threading
import time
from ctypes import POINTER, byref, c_char_p, c_int, c_uint32, c_uint64, c_void_p
from functools import cache

from agent.lib.errors import HostError, ResultUnknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    Argument = bytes | c_int | c_uint64

_ADDRESS = b"unix:path=/run/systemd/private"
_SERVICE, PATH = b"org.freedesktop.systemd1", b"/org/freedesktop/systemd1"
MANAGER, _PROPERTIES = b"org.freedesktop.systemd1.Manager", b"org.freedesktop.DBus.Properties"
_JOB = b"org.freedesktop.systemd1.Job"
#: Seconds in which PID 1 accepts a job, unless it hangs.
ANSWER = 25.0
#: The result of a job if the connection is lost before its end.
_LOST = "lost"
#: Error names: of PID 1, and the beginning of D-Bus' for an object that is not there.
_UNIT_EXISTS, _UNKNOWN_TO_IT = "org.freedesktop.systemd1.UnitExists", "org.freedesktop.DBus.Error.Unknown"
_UNKNOWN = "it ended while systemd re-executed: its result is unknown"
#: Seconds to wait for PID 1 to accept connections again; seconds between two attempts.
_REEXECUTES, _PAUSE = 20.0, 0.1


class Error(ctypes.Structure):
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
    "sd_bus_call_method": (c_void_p, *(c_char_p,) * 4, POINTER(Error), POINTER(c_void_p), c_char_p),
}
#: Functions that release a handle.
_ENDS = {
    "sd_bus_flush_close_unref": c_void_p,
    "sd_bus_message_unref": c_void_p,
    "sd_bus_error_free": POINTER(Error),
}


@cache
def library() -> ctypes.CDLL:
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


class _Disconnected(HostError):
    """PID 1 has closed the connection; it does so when it re-executes."""


class _Failed(HostError):
    """A call has failed; ``name`` is that of the error, by PID 1 or by the library."""

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


class _Job:
    """A job that threads wait for; its result is "" until it has ended."""

    __slots__ = ("result", "waiters")

    def __init__(self) -> None:
        self.result, self.waiters = "", 0


class Connection:
    """The connection that the threads share. sd-bus is not thread-safe: it is called with ``lock`` held."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._read = threading.Condition(self.lock)
        self._bus: c_void_p | None = None
        self._users = 0
        #: By their paths.
        self._jobs: dict[str, _Job] = {}
        self._was_connected = False
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

        Raise HostError if a call fails, _Disconnected if the connection is lost.
        """
        lib = library()
        with self.held(), self.lock:
            try:
                bus = self._bus or self._connect(lib, timeout)
                lib.sd_bus_set_method_call_timeout(bus, int(timeout * 1e6))
                yield bus
            except OSError as error:
                self._close()
                raise HostError(f"systemd cannot be reached: {error.strerror}") from error
            except HostError as error:
                if lib.sd_bus_is_open(self._bus):
                    raise
                self._close()
                raise _Disconnected(error.message) from error
            # A call reads what PID 1 has sent before its answer: no poll shows that any more.
            self._take_all()

    def _connect(self, lib: ctypes.CDLL, timeout: float) -> c_void_p:
        """Connect to PID 1; while it re-executes, wait, with ``lock`` released. Raise OSError."""
        until = time.monotonic() + min(timeout, _REEXECUTES)
        while self._bus is None:
            bus = c_void_p()
            try:
                lib.sd_bus_new(byref(bus))
                lib.sd_bus_set_address(bus, _ADDRESS)
                lib.sd_bus_start(bus)
            except OSError as error:
                lib.sd_bus_flush_close_unref(bus)
                # It makes its socket again. Where PID 1 is not systemd there is none.
                refuses = error.errno == errno.ECONNREFUSED
                self._was_connected |= refuses
                returns = refuses or (self._was_connected and error.errno == errno.ENOENT)
                if not returns or time.monotonic() > until:
                    raise
                self._read.wait(_PAUSE)
            else:
                self._bus, self._was_connected = bus, True
        return self._bus

    def property(
        self, path: bytes, interface: bytes, name: bytes, kind: bytes, form: type[Any], timeout: float
    ) -> Any:
        """Return a property of D-Bus type ``kind``, read as a value of the form. Raise HostError."""

        def read() -> Any:
            into = form()
            with (
                self.bus(timeout) as bus,
                called(bus, path, _PROPERTIES, b"Get", b"ss", interface, name) as answer,
            ):
                library().sd_bus_message_read(answer, b"v", kind, byref(into))
                return into.value

        return repeated(read)

    def job(self, method: bytes, types: bytes, order: Sequence[Argument], timeout: float) -> str:
        """Start a job and wait for its end; return its result, or "" if none comes in ``timeout`` seconds.
        Raise ResultUnknown if it has ended while PID 1 re-executed.

        One thread reads PID 1's messages for all that wait.
        """
        deadline = time.monotonic() + timeout
        with self.held():
            try:
                path, job = self._ordered(method, types, order)
            except _Disconnected:
                path, job = self._ordered_again(method, types, order)
            try:
                while (result := self._result(job, deadline)) == _LOST:
                    self._find(path, job)
                return result
            finally:
                with self.lock:
                    job.waiters -= 1
                    if not job.waiters:
                        del self._jobs[path]

    def _ordered(self, method: bytes, types: bytes, order: Sequence[Argument]) -> tuple[str, _Job]:
        """Start a job, or join one; return its path, and what becomes of it."""
        with self.bus(ANSWER) as bus, called(bus, PATH, MANAGER, method, types, *order) as answer:
            given = c_char_p()
            library().sd_bus_message_read(answer, b"o", byref(given))
            path = os.fsdecode(given.value or b"")
            job = self._jobs.setdefault(path, _Job())
            job.waiters += 1
            return path, job

    def _ordered_again(self, method: bytes, types: bytes, order: Sequence[Argument]) -> tuple[str, _Job]:
        """Start a job that PID 1 may have begun before it re-executed."""
        try:
            return self._ordered(method, types, order)
        except _Failed as error:
            if error.name != _UNIT_EXISTS:
                raise
            # Of StartTransientUnit: it has begun.
            return self._ordered(b"StartUnit", b"ss", (order[0], b"replace"))

    def _result(self, job: _Job, deadline: float) -> str:
        with self.lock:
            while not self._has_ended(job) and (left := deadline - time.monotonic()) > 0:
                self._await(left)
            return job.result

    def _find(self, path: str, job: _Job) -> None:
        """Wait for a job again by a new connection: PID 1 keeps its jobs when it re-executes. Raise
        ResultUnknown if it has none of that path any more.
        """
        with self.lock:
            if job.result != _LOST:
                return  # another thread has connected and read it
            job.result = ""
        try:
            self.property(path.encode(), _JOB, b"State", b"s", c_char_p, ANSWER)
        except _Disconnected:
            return  # lost again, which is the job's result again
        except _Failed as error:
            if not error.name.startswith(_UNKNOWN_TO_IT):
                raise
            with self.lock:
                if not self._has_ended(job):
                    raise ResultUnknown(_UNKNOWN) from error

    def _has_ended(self, job: _Job) -> bool:
        """Read all received messages; return whether the job has ended."""
        self._take_all()
        return bool(job.result)

    def _take_all(self) -> None:
        try:
            while self._jobs and self._bus is not None and self._take(self._bus):
                pass
        except OSError:
            self._close()

    def _await(self, seconds: float) -> None:
        """Wait up to ``seconds`` until there is something to read, or another thread has read."""
        if self._reader >= 0:
            self._read.wait(seconds)
            return
        poll = select.poll()
        poll.register(library().sd_bus_get_fd(self._bus), select.POLLIN)
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

    def _end(self, job: _Job, result: str) -> None:
        job.result = result
        self._read.notify_all()
        if self._reader >= 0:
            os.eventfd_write(self._reader, 1)

    def _take(self, bus: c_void_p) -> bool:
        """Process one message and note the end of a job; return whether there was a message."""
        lib, message = library(), c_void_p()
        processed = lib.sd_bus_process(bus, byref(message))
        try:
            if message and lib.sd_bus_message_is_signal(message, MANAGER, b"JobRemoved"):
                number, path, unit, result = c_uint32(), c_char_p(), c_char_p(), c_char_p()
                into = (byref(number), byref(path), byref(unit), byref(result))
                lib.sd_bus_message_read(message, b"uoss", *into)
                if job := self._jobs.get(os.fsdecode(path.value or b"")):
                    self._end(job, os.fsdecode(result.value or b""))
        finally:
            lib.sd_bus_message_unref(message)
        return bool(processed)

    def _close(self) -> None:
        if self._bus is not None:
            library().sd_bus_flush_close_unref(self._bus)
            self._bus = None
            for job in self._jobs.values():
                if not job.result:
                    self._end(job, _LOST)


def repeated(call: Callable[[], Any]) -> Any:
    """Make a call, and once more if PID 1 has re-executed."""
    try:
        return call()
    except _Disconnected:
        return call()


@contextlib.contextmanager
def called(
    bus: c_void_p, path: bytes, interface: bytes, method: bytes, types: bytes, *arguments: Argument
) -> Iterator[c_void_p]:
    """Call a method and yield the answer. Raise HostError with PID 1's reason."""
    lib, answer, error = library(), c_void_p(), Error()
    target = (_SERVICE, path, interface, method)
    try:
        lib.sd_bus_call_method(bus, *target, byref(error), byref(answer), types, *arguments)
        yield answer
    except OSError as failure:
        reason = (error.message or str(failure.strerror).encode()).decode(errors="replace")
        name = (error.name or b"").decode()
        raise _Failed(f"systemd refuses {method.decode()}: {reason}", name) from failure
    finally:
        lib.sd_bus_message_unref(answer)
        lib.sd_bus_error_free(byref(error))
