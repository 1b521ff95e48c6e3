"""A machine in a folder for tests of the daemon and its client: real processes, sockets, signals and locks;
invented steps.

``python -m tests.system.machine {daemon|client|run-stage} ROOT [STAGE]``. Timeouts are shorter, the code is
the same.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from agent import __main__ as command
from agent import stages
from agent.daemon import control_socket
from agent.daemon.dispatcher import HANDLERS
from agent.host.host import Host
from agent.report import Item, changed, failed
from agent.stages import Stage, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context

#: Seconds that a stage waits for another one.
PATIENCE = 1.0
TREE = Path(__file__).parents[2]
CLIENT = TREE / "bin/gandi-stage"
_NETLINK_KOBJECT_UEVENT, _UDEV_GROUP = 15, 2  # linux/netlink.h; systemd's MONITOR_GROUP_UDEV


def quick(ctx: Context) -> Iterator[Item]:
    """Write a line with the process id."""
    with open(ctx.host.path("/ran"), "a") as file:
        file.write(f"{os.getpid()}\n")
    yield changed("quick", "done")


def broken(ctx: Context) -> Iterator[Item]:
    """Fail when the test asks for it."""
    if ctx.host.exists("/broken"):
        yield failed("broken", "as the test wants it")


def slow(ctx: Context) -> Iterator[Item]:
    """Wait for the test's file; report the wait unless the test asks not to."""
    if not ctx.host.exists("/silent"):
        ctx.on_wait("the test")
    ctx.host.write("/begun", str(os.getpid()))
    until(Path(ctx.host.path("/go")))
    yield changed("slow")


def look(ctx: Context, device: str, action: str) -> Iterator[Item]:
    """Replace the handler of disks: write a line for each look."""
    with open(ctx.host.path("/looks"), "a") as file:
        file.write(f"{device} {action}\n")
    yield changed(device, "seen")


def until(path: Path, seconds: float = 20) -> None:
    """Wait for a file."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.01)


def message(action: str, tag: str, devpath: str, **properties: str) -> bytes:
    """Return a message as udevd sends it: struct udev_monitor_netlink_header, then properties (systemd's
    device-monitor.c).
    """
    values = {
        "ACTION": action,
        "DEVPATH": devpath,
        "SEQNUM": "1",
        "TAGS": f":{tag}:",
        "CURRENT_TAGS": f":{tag}:",
    }
    values |= {"SUBSYSTEM": "mem", "GANDI_ROLE": "disk"} | properties
    body = b"".join(f"{name}={value}".encode() + b"\0" for name, value in values.items())
    tag_hash, bloom = _hash32(tag), 0
    for shift in (0, 6, 12, 18):
        bloom |= 1 << (tag_hash >> shift & 63)
    head = b"libudev\0" + struct.pack(">I", 0xFEEDCAFE) + struct.pack("=III", 40, 40, len(body))
    kind = struct.pack(">II", _hash32(values["SUBSYSTEM"]), 0)
    return head + kind + struct.pack(">II", bloom >> 32, bloom & 0xFFFFFFFF) + body


def send(data: bytes) -> None:
    """Send a message to udev's multicast group (needs root)."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_KOBJECT_UEVENT) as udevd:
        udevd.sendto(data, (0, _UDEV_GROUP))


def _hash32(text: str) -> int:
    """MurmurHash2 with seed 0, as libudev's string_hash32()."""
    data, m = text.encode(), 0x5BD1E995
    h = len(data)
    while len(data) >= 4:
        k = int.from_bytes(data[:4], "little") * m & 0xFFFFFFFF
        k = (k ^ k >> 24) * m & 0xFFFFFFFF
        h = h * m & 0xFFFFFFFF ^ k
        data = data[4:]
    if data:
        h = (h ^ int.from_bytes(data, "little")) * m & 0xFFFFFFFF
    h = (h ^ h >> 13) * m & 0xFFFFFFFF
    return h ^ h >> 15


def main(verb: str, root: str, stage: str = "") -> int:
    """Run the verb."""
    host = Host(Path(root))
    here = f"{__name__ if __name__ != '__main__' else 'tests.system.machine'}"
    one, other = Step("quick", f"{here}:quick"), Step("slow", f"{here}:slow")
    stages.STAGES = {s: () for s in Stage} | {Stage.BOOTSTRAP: (one,), Stage.CONFIG: (one, other)}
    (stages.run.__kwdefaults__ or {})["lock_timeout"] = PATIENCE
    if host.exists("/broken"):
        stages.STAGES[Stage.MOUNT] = (Step("broken", f"{here}:broken"),)
    HANDLERS["disk"] = look
    match verb:
        case "daemon":
            return command.main(["daemon"], host)
        case "run-stage":
            return command.main(["run-stage", stage], host)
        case _:
            return _client(host, stage)


def _client(host: Host, stage: str) -> int:
    """Execute the stage client, with a connection as systemd makes it."""
    with socket.socket(socket.AF_UNIX) as daemon:
        try:
            daemon.connect(host.path(control_socket.SOCKET))
            if daemon.detach() != 3:
                raise AssertionError("this process has another descriptor 3 already")
            os.set_inheritable(3, True)
            os.environ["LISTEN_FDS"] = "1"
        except (FileNotFoundError, ConnectionRefusedError):
            os.environ.pop("LISTEN_FDS", None)
        argv = [str(CLIENT), stage, host.path("/gandi-agent")]
        os.execv(argv[0], argv)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
