"""Runs in the guest: notes when the kernel tells of disks, and when they can be used.

Prints "ready" when it listens, and a line of JSON at the end. Times are CLOCK_MONOTONIC in seconds.

    guest_watch.py mounted COUNT      until so many filesystems are mounted below /srv
    guest_watch.py grown FOLDER BYTES until the filesystem of the folder has so many bytes
    guest_watch.py online KIND MORE   until so many more CPUs (cpu) or blocks of memory (memory) are online
"""

import glob
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


def online(kind: str) -> int:
    """How many CPUs or blocks of memory are online."""
    if kind == "cpu":
        return os.sysconf("SC_NPROCESSORS_ONLN")
    states = glob.glob("/sys/devices/system/memory/memory*/state")
    return sum(open(state).read() == "online\n" for state in states)


def count(what: str, rest: list[str]) -> int:
    """How far it has come."""
    match what:
        case "mounted":
            return mounted()
        case "grown":
            return int(size(rest[0]) >= int(rest[1]))
        case _:
            return online(rest[0])


def goal(what: str, rest: list[str]) -> int:
    """How far it is to come."""
    match what:
        case "mounted":
            return int(rest[0])
        case "grown":
            return 1
        case _:
            return online(rest[0]) + int(rest[1])


#: What the kernel's event of each begins with, and has in it.
MARKS = {
    "mounted": (b"add@", b"DEVTYPE=disk"),
    "grown": (b"change@", b"RESIZE=1"),
    "online": (b"add@", b"SUBSYSTEM="),
}


def main() -> None:
    """Watch."""
    what, *rest = sys.argv[1:]
    until = goal(what, rest)
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT)
    kernel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
    kernel.bind((0, KERNEL))
    begins, has = MARKS[what]
    with open("/proc/self/mountinfo") as mounts:
        poll = select.poll()
        poll.register(kernel, select.POLLIN)
        poll.register(mounts, select.POLLPRI)
        print("ready", flush=True)
        told: list[float] = []
        done = 0
        begun = time.monotonic()
        while time.monotonic() < begun + BOUND:
            poll.poll(LOOK * 1000 if what != "mounted" and told else 1000)
            now = time.monotonic()
            try:
                while message := kernel.recv(1 << 16):
                    if message.startswith(begins) and has in message:
                        told.append(now)
            except BlockingIOError:
                pass
            done = count(what, rest)
            if done >= until:
                break
    print(json.dumps({"told": told[:1] + told[-1:], "last": now, "done": done}), flush=True)


main()
