"""The guest's end of the test channel: a resident program on a virtio-serial port, no part of the product.

The image builder copies this file into the guest, where the system's `python3 -I -S` runs it before
sysinit.target and until the end of shutdown. It takes frames (MAGIC, id, length, JSON), runs each request in
a thread and answers with a frame of the same id. A frame that stops half-way (a machine resumed from a saved
state) is dropped.
"""

import base64
import json
import os
import select
import signal
import struct
import subprocess
import threading
import time
from typing import Any

PORT_NAME = "org.gandi-agent.rig"
MAGIC = b"\x01RIG\x02"
HEADER = struct.Struct(">5sII")
STALLED_FRAME = 5000  # ms without another byte of a frame that has begun
OUTPUT_LIMIT = 32 * 1024 * 1024
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
}


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
            subprocess.run(["modprobe", "-a", "virtio_pci", "virtio_console"], env=ENVIRONMENT, check=False)
            loaded = True
        time.sleep(0.05)


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Run a command; its output goes to memory files, so that children left behind hold up nothing."""
    began = time.monotonic()
    out, err = os.memfd_create("out"), os.memfd_create("err")
    stdin = os.memfd_create("in")
    os.write(stdin, base64.b64decode(request.get("stdin", "")))
    os.lseek(stdin, 0, os.SEEK_SET)
    try:
        process = subprocess.Popen(
            request["argv"],
            stdin=stdin,
            stdout=out,
            stderr=err,
            cwd="/",
            env=ENVIRONMENT | request.get("env", {}),
            start_new_session=True,
        )
        rc: int | None = None
        if ends(process.pid, request["timeout"]):
            rc = process.wait()
        else:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        seconds = time.monotonic() - began
        return {"rc": rc, "seconds": seconds, "stdout": content(out), "stderr": content(err)}
    finally:
        for fd in (stdin, out, err):
            os.close(fd)


def ends(pid: int, timeout: float) -> bool:
    """Wait for a child to end, without the sleeping loop of Popen.wait(timeout)."""
    pidfd = os.pidfd_open(pid)
    try:
        return bool(select.select([pidfd], [], [], timeout)[0])
    finally:
        os.close(pidfd)


def content(fd: int) -> str:
    """What a memory file holds, base64."""
    return base64.b64encode(os.pread(fd, OUTPUT_LIMIT, 0)).decode()


def wait(request: dict[str, Any]) -> dict[str, Any]:
    """Run a command again and again until it succeeds or the time is over; gives its last result."""
    began = time.monotonic()
    limit = request["timeout"]
    while True:
        left = limit - (time.monotonic() - began)
        result = run(request | {"timeout": max(left, 0.1)})
        seconds = time.monotonic() - began
        if result["rc"] in (0, None) or seconds >= limit:
            return result | {"seconds": seconds}
        time.sleep(request["interval"])


def read(request: dict[str, Any]) -> dict[str, Any]:
    """A file's bytes."""
    with open(request["path"], "rb") as file:
        return {"data": base64.b64encode(file.read()).decode()}


def write(request: dict[str, Any]) -> dict[str, Any]:
    """Write a file with its mode, making its folders."""
    path = request["path"]
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        os.fchmod(file.fileno(), request["mode"])
        file.write(base64.b64decode(request["data"]))
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
        self.lock = threading.Lock()
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
            if not chunk:  # nobody is connected on the host's side, and this port cannot wait for it
                time.sleep(0.02)
                continue
            self.buffer += chunk
            for number, request in self.frames():
                threading.Thread(target=self.answer, args=(number, request), daemon=True).start()

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
            request = json.loads(payload)
            reply = OPERATIONS[request["op"]](request)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        body = json.dumps(reply).encode()
        frame = memoryview(HEADER.pack(MAGIC, number, len(body)) + body)
        with self.lock:
            while frame:
                frame = frame[os.write(self.fd, frame[:32768]) :]


if __name__ == "__main__":
    Port(find_port()).serve()
