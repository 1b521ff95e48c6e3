"""Runs in the guest: notes when the kernel tells of disks, and when they can be used.

Prints "ready" when it listens, and a line of JSON at the end. Times are CLOCK_MONOTONIC in seconds.

    guest_watch.py mounted COUNT      until so many filesystems are mounted below /srv
    guest_watch.py grown FOLDER BYTES until the filesystem of the folder has so many bytes
"""

import json
import os
import select
import socket
import sys
import time

NETLINK_KOBJECT_UEVENT, KERNEL = 15, 1
#: Seconds until it gives up, and between two looks at a filesystem's size, which nothing tells of.
BOUND, LOOK = 900.0, 0.01


def mounted() -> int:
    """How many filesystems are mounted below /srv."""
    with open("/proc/self/mountinfo") as file:
        return sum(line.split()[4].startswith("/srv/") for line in file)


def size(folder: str) -> int:
    """Bytes of the filesystem of a folder."""
    found = os.statvfs(folder)
    return found.f_blocks * found.f_frsize


def main() -> None:
    """Watch."""
    what, *rest = sys.argv[1:]
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT)
    kernel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
    kernel.bind((0, KERNEL))
    marks = (b"add@", b"DEVTYPE=disk") if what == "mounted" else (b"change@", b"RESIZE=1")
    with open("/proc/self/mountinfo") as mounts:
        poll = select.poll()
        poll.register(kernel, select.POLLIN)
        poll.register(mounts, select.POLLPRI)
        print("ready", flush=True)
        told: list[float] = []
        first, done = 0.0, 0
        begun = time.monotonic()
        while time.monotonic() < begun + BOUND:
            poll.poll(LOOK * 1000 if what == "grown" and told else 1000)
            now = time.monotonic()
            try:
                while message := kernel.recv(1 << 16):
                    if message.startswith(marks[0]) and marks[1] in message:
                        told.append(now)
            except BlockingIOError:
                pass
            done = mounted() if what == "mounted" else int(size(rest[0]) >= int(rest[1]))
            if done and not first:
                first = now
            if done >= (int(rest[0]) if what == "mounted" else 1):
                break
    print(json.dumps({"told": told[:1] + told[-1:], "first": first, "last": now, "done": done}), flush=True)


main()
