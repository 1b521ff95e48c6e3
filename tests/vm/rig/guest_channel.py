"""The guest's end of the test channel: a resident program on a virtio-serial port, no part of the product.

The image builder compiles this file into the guest, where the system's `python3 -I -S` runs it before
sysinit.target and until the end of shutdown. It takes frames (MAGIC, id, length, JSON), runs each request in
a thread and answers with a frame of the same id. A frame that stops half-way (a machine resumed from a saved
state) is dropped.

Each boot pays for what is imported here, a second for json, subprocess and threading alone: only what the
interpreter has built in, and os.
"""

from __future__ import annotations

import os
import select
import time
from _json import encode_basestring_ascii, make_scanner
from _struct import Struct
from _thread import allocate_lock, start_new_thread
from binascii import a2b_base64, b2a_base64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PORT_NAME = "org.gandi-agent.rig"
MAGIC = b"\x01RIG\x02"
HEADER = Struct(">5sII")
STALLED_FRAME = 5000  # ms without another byte of a frame that has begun
OUTPUT_LIMIT = 32 * 1024 * 1024
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
}
SIGKILL = 9
# What Python ignores and programs expect to end by: SIGPIPE and SIGXFSZ.
DEFAULT_SIGNALS = (13, 25)


class Plain:
    """How JSON becomes values: as json.loads does without arguments."""

    strict = True
    object_hook = object_pairs_hook = parse_constant = None
    parse_float, parse_int = float, int


PLAIN: Any = Plain
scan = make_scanner(PLAIN)


def encode(reply: dict[str, str | float | None]) -> bytes:
    """A flat reply as JSON."""
    fields = (f"{encode_basestring_ascii(name)}: {_value(value)}" for name, value in reply.items())
    return f"{{{', '.join(fields)}}}".encode()


def _value(value: str | float | None) -> str:
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    return "null" if value is None else repr(value)


def find_port() -> str:
    """The device node of the channel's port; loads the driver and waits for the port to appear."""
    loaded = False
    while True:
        ports = os.listdir("/sys/class/virtio-ports") if os.path.isdir("/sys/class/virtio-ports") else []
        for port in ports:
            with open(f"/sys/class/virtio-ports/{port}/name") as name:
                if name.read().strip() == PORT_NAME:
                    return f"/dev/{port}"
        if not loaded:
            argv = ["modprobe", "-a", "virtio_pci", "virtio_console"]
            os.waitpid(os.posix_spawnp(argv[0], argv, ENVIRONMENT), 0)
            loaded = True
        time.sleep(0.05)


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Run a command; its output goes to memory files, so that children left behind hold up nothing."""
    began = time.monotonic()
    out, err = os.memfd_create("out"), os.memfd_create("err")
    stdin = os.memfd_create("in")
    try:
        os.write(stdin, a2b_base64(request.get("stdin", "")))
        os.lseek(stdin, 0, os.SEEK_SET)
        pid = os.posix_spawnp(
            request["argv"][0],
            request["argv"],
            ENVIRONMENT | request.get("env", {}),
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate((stdin, out, err))],
            setsid=True,
            setsigdef=DEFAULT_SIGNALS,
        )
        in_time = ends(pid, request["timeout"])
        if not in_time:
            os.killpg(pid, SIGKILL)
        rc = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        seconds = time.monotonic() - began
        shown = {"stdout": content(out), "stderr": content(err)}
        return {"rc": rc if in_time else None, "seconds": seconds, **shown}
    finally:
        for fd in (stdin, out, err):
            os.close(fd)


def ends(pid: int, timeout: float) -> bool:
    """Wait for a child to end."""
    pidfd = os.pidfd_open(pid)
    try:
        return bool(select.select([pidfd], [], [], timeout)[0])
    finally:
        os.close(pidfd)


def content(fd: int) -> str:
    """What a memory file holds, base64."""
    return base64(os.pread(fd, OUTPUT_LIMIT, 0))


def base64(data: bytes) -> str:
    """Data as text."""
    return b2a_base64(data, newline=False).decode()


def wait(request: dict[str, Any]) -> dict[str, Any]:
    """Run a command again and again until it succeeds or the time is over; gives its last result.

    The pause is twice as long as the command took: what is waited for needs the CPU too.
    """
    began = time.monotonic()
    limit = request["timeout"]
    while True:
        left = limit - (time.monotonic() - began)
        result = run(request | {"timeout": max(left, 0.1)})
        seconds = time.monotonic() - began
        if result["rc"] in (0, None) or seconds >= limit:
            return result | {"seconds": seconds}
        time.sleep(min(max(request["interval"], 2 * result["seconds"]), limit - seconds))


def read(request: dict[str, Any]) -> dict[str, Any]:
    """A file's bytes."""
    with open(request["path"], "rb") as file:
        return {"data": base64(file.read())}


def write(request: dict[str, Any]) -> dict[str, Any]:
    """Write a file with its mode, making its folders."""
    path = request["path"]
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        os.fchmod(file.fileno(), request["mode"])
        file.write(a2b_base64(request["data"]))
    return {}


def ping(request: dict[str, Any]) -> dict[str, Any]:
    """Which boot this is; sets the clock when the request has a time (seconds since the epoch)."""
    if "clock" in request:
        time.clock_settime(time.CLOCK_REALTIME, request["clock"])
    with open("/proc/sys/kernel/random/boot_id") as boot_id:
        return {"boot": boot_id.read().strip(), "uptime": time.clock_gettime(time.CLOCK_BOOTTIME)}


OPERATIONS = {"run": run, "wait": wait, "read": read, "write": write, "ping": ping}


class Port:
    """The open port: frames in, frames out."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.lock = allocate_lock()
        self.buffer = b""

    def serve(self) -> None:
        """Answer requests for ever."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        while True:
            if not poll.poll(STALLED_FRAME if self.buffer else None):
                self.buffer = b""
                continue
            chunk = os.read(self.fd, 65536)
            if not chunk:  # no connection on the host's side, and this port cannot wait for one
                time.sleep(0.02)
                continue
            self.buffer += chunk
            for number, request in self.frames():
                start_new_thread(self.answer, (number, request))

    def frames(self) -> list[tuple[int, bytes]]:
        """Take the complete frames off the buffer, skipping bytes that belong to none."""
        found = []
        while (start := self.buffer.find(MAGIC)) >= 0:
            self.buffer = self.buffer[start:]
            if len(self.buffer) < HEADER.size:
                break
            _, number, length = HEADER.unpack_from(self.buffer)
            end = HEADER.size + length
            if len(self.buffer) < end:
                break
            found.append((number, self.buffer[HEADER.size : end]))
            self.buffer = self.buffer[end:]
        return found

    def answer(self, number: int, payload: bytes) -> None:
        """Do one request and send the reply; an error of the request is a reply too."""
        try:
            request, _ = scan(payload.decode(), 0)
            reply = OPERATIONS[request["op"]](request)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        body = encode(reply)
        frame = memoryview(HEADER.pack(MAGIC, number, len(body)) + body)
        with self.lock:
            while frame:
                frame = frame[os.write(self.fd, frame[:32768]) :]


if __name__ == "__main__":
    Port(find_port()).serve()
