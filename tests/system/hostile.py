#!/usr/bin/python3
"""A program in an image that tries every way out of the image to the machine that it is mounted on. It runs
with the image's own Python: standard library only. ``/attempts.json`` names its targets on that machine; the
program writes there, for each attempt, why it failed, or "" for a success.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

Aims = dict[str, Any]
LIBC = ctypes.CDLL(None, use_errno=True)
TABLE = "/attempts.json"
#: Numbers of system calls on amd64 and arm64.
CALLS = {
    "x86_64": {"add_key": 248, "keyctl": 250, "bpf": 321, "delete_module": 176, "clone": 56},
    "aarch64": {"add_key": 217, "keyctl": 219, "bpf": 280, "delete_module": 106, "clone": 220},
}[os.uname().machine]
TIOCSTI, CLONE_NEWUSER = 0x5412, 0x10000000


def call(name: str, *words: object) -> int:
    """Call a function of the C library, or a system call without one. Raise OSError."""
    made: int = LIBC.syscall(CALLS[name], *words) if name in CALLS else getattr(LIBC, name)(*words)
    if made == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return made


def opened(path: str, flags: int = os.O_RDONLY) -> None:
    os.close(os.open(path, flags))


def leave_by_chroot(aims: Aims) -> None:
    root = os.open("/", os.O_RDONLY)
    with contextlib.suppress(FileExistsError):
        os.mkdir("/escape")
    os.chroot("/escape")
    try:
        os.fchdir(root)
        for _ in range(64):
            os.chdir("..")
        opened(f".{aims['secret']}")
    finally:
        os.fchdir(root)
        os.chroot(".")


def make_a_node(aims: Aims) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink("/disk")
    os.mknod("/disk", 0o600 | stat.S_IFBLK, os.makedev(*aims["disk"]))
    opened("/disk")


def trace(aims: Aims) -> None:
    call("ptrace", 16, aims["pid"], 0, 0)  # PTRACE_ATTACH
    os.waitpid(aims["pid"], 0)
    call("ptrace", 17, aims["pid"], 0, 0)  # PTRACE_DETACH


def connect(family: int, address: str | tuple[str, int]) -> None:
    with socket.socket(family) as client:
        client.settimeout(2)
        client.connect(address)


def write_a_terminal(aims: Aims) -> None:
    terminal = os.open("/dev/tty", os.O_RDWR)
    fcntl.ioctl(terminal, TIOCSTI, b" ")


def use_a_descriptor(aims: Aims) -> None:
    """Use any inherited descriptor except pipes and nameless files."""
    for number in range(1024):
        with contextlib.suppress(OSError):
            info = os.fstat(number)
            if number > 2 or (not stat.S_ISFIFO(info.st_mode) and info.st_nlink):
                return
    raise OSError(9, "none")


def regain_by_setuid(aims: Aims) -> None:
    """As an ordinary user of the image, run a setuid program of root's."""
    subprocess.run(["cp", "/usr/bin/id", "/rootid"], check=True)
    os.chown("/rootid", 0, 0)
    os.chmod("/rootid", 0o4755)
    said = subprocess.run(["/rootid"], user=65534, group=65534, capture_output=True, text=True, check=True)
    if "euid=0" not in said.stdout:
        raise OSError(1, said.stdout.strip())


def read_a_key(aims: Aims) -> None:
    serial = call("keyctl", 10, -4, b"user", b"gandi-test", 0)  # KEYCTL_SEARCH in the user's keyring
    call("keyctl", 11, serial, ctypes.create_string_buffer(64), 64)  # KEYCTL_READ


def unshare_the_user(aims: Aims) -> None:
    child = os.fork()
    if not child:
        os._exit(0 if LIBC.unshare(CLONE_NEWUSER) == 0 else 1)
    if os.waitpid(child, 0)[1]:
        raise OSError(1, "unshare")


def clone_the_user(aims: Aims) -> None:
    child = call("clone", CLONE_NEWUSER | 17, 0, 0, 0, 0)
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


def remove_a_module(aims: Aims) -> None:
    """The kernel checks the permission before the name."""
    with contextlib.suppress(FileNotFoundError):
        call("delete_module", b"no_such_module", 0)


def open_by_handle(aims: Aims) -> None:
    handle = (ctypes.c_uint * 34)(128, 0)
    call("name_to_handle_at", -100, b"/etc/passwd", handle, ctypes.byref(ctypes.c_int()), 0)
    os.close(call("open_by_handle_at", os.open("/etc", os.O_RDONLY), handle, os.O_RDONLY))


def gain_privileges(aims: Aims) -> None:
    if LIBC.prctl(39, 0, 0, 0, 0):  # PR_GET_NO_NEW_PRIVS
        raise OSError(1, "no_new_privs")


ATTEMPTS: dict[str, Callable[[Aims], object]] = {
    "open descriptors": use_a_descriptor,  # first: others leave some open
    "chroot and ..": leave_by_chroot,
    "root of process 1": lambda aims: opened(f"/proc/1/root{aims['secret']}"),
    "root of a process": lambda aims: opened(f"/proc/{aims['pid']}/root{aims['secret']}"),
    "mknod of the disk": make_a_node,
    "a node of the image": lambda aims: opened("/root/node"),
    "a node of /dev": lambda aims: opened(f"/dev/{aims['name']}"),
    "mode of /dev/null": lambda aims: os.chmod("/dev/null", 0o666),
    "signal": lambda aims: os.kill(aims["pid"], 0),
    "ptrace": trace,
    "mount": lambda aims: call("mount", b"none", b"/mnt", b"tmpfs", 0, None),
    "abstract socket": lambda aims: connect(socket.AF_UNIX, f"\0{aims['abstract']}"),
    "socket in /run": lambda aims: connect(socket.AF_UNIX, aims["socket"]),
    "loopback": lambda aims: connect(socket.AF_INET, ("127.0.0.1", aims["port"])),
    "raw socket": lambda aims: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close(),
    "vsock": lambda aims: socket.socket(40, socket.SOCK_STREAM).close(),
    "terminal": write_a_terminal,
    "setuid": regain_by_setuid,
    "new privileges": gain_privileges,
    "/sys": lambda aims: opened(f"/sys/class/block/{aims['name']}/uevent", os.O_WRONLY),
    "cgroup": lambda aims: opened("/sys/fs/cgroup/cgroup.procs", os.O_WRONLY),
    "/proc/sys": lambda aims: opened("/proc/sys/kernel/core_pattern", os.O_WRONLY),
    "sysrq": lambda aims: opened("/proc/sysrq-trigger", os.O_WRONLY),
    "module": remove_a_module,
    "System V memory": lambda aims: call("shmget", aims["shm"], 16, 0),
    "POSIX memory": lambda aims: opened(f"/dev/shm/{aims['abstract']}"),
    "hostname": lambda aims: socket.sethostname(socket.gethostname()),
    "keyring": read_a_key,
    "user namespace": unshare_the_user,
    "user namespace by clone": clone_the_user,
    "bpf": lambda aims: call("bpf", 0, (ctypes.c_uint * 18)(1, 4, 4, 1), 72),
    "file handle": open_by_handle,
    "priority": lambda aims: os.setpriority(os.PRIO_PROCESS, 0, -5),
    "limit": lambda aims: resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20)),
    "clock": lambda aims: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    "kernel log": lambda aims: call("klogctl", 3, ctypes.create_string_buffer(64), 64),
}


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        print("\x1b[2J\x9b2J", file=stream, flush=True)
    with open(TABLE) as file:
        aims = json.load(file)["aims"]
    table = {}
    for name, attempt in ATTEMPTS.items():
        table[name] = ""
        try:
            attempt(aims)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            table[name] = str(error) or type(error).__name__
    with open(TABLE, "w") as file:
        json.dump({"aims": aims, "table": table}, file)


if __name__ == "__main__":
    main()
    real = f"{sys.argv[0]}.real" if "/" in sys.argv[0] else ""
    if os.path.exists(real):
        os.execv(real, sys.argv)
