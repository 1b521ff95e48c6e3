"""Logins from the build host: by ssh, through a port of QEMU's user network, and on the serial console."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from pathlib import Path

from tests.vm.rig import Machine

PASSWORD = "hunter22"
HASH = (
    "$6$Zq1vN3xTabcd$TS5.OPsPaPXmNZkMf58DzwcoGgvowtX2Mwf1rtPJUtO8gsQbSCVAQE5Iz9lGjhU7WGqe1otNjaxWyAMmKChmT0"
)
#: Seconds at most for each answer on the console, emulated.
_ANSWER = 120


def make_key(folder: Path) -> Path:
    """Make an ed25519 key pair and return the path of the private key."""
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    return key


def forward(vm: Machine, address: str) -> int:
    """Forward a free port of 127.0.0.1 to the guest's sshd, at its ``address`` on the first NIC; return the
    port.
    """
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    vm.qmp.human(f"hostfwd_add net0-net tcp:127.0.0.1:{port}-{address}:22")
    return port


def ssh(port: int, user: str, key: Path, *, password: str = "") -> subprocess.CompletedProcess[str]:
    """Log in by key, or by typing the password, and run ``id -un``."""
    asker = key.with_name("askpass")
    asker.write_text(f"#!/bin/sh\necho {password}\n")
    asker.chmod(0o755)
    methods = "password,keyboard-interactive" if password else "publickey"
    argv = ["ssh", "-F", "none", "-p", str(port), "-l", user, "-o", f"PreferredAuthentications={methods}"]
    argv += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    argv += ["-o", "NumberOfPasswordPrompts=1", *(() if password else ("-i", str(key)))]
    asking = {"SSH_ASKPASS": str(asker), "SSH_ASKPASS_REQUIRE": "force"}
    return subprocess.run(
        [*argv, "127.0.0.1", "id -un"],
        env=os.environ | asking,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def on_serial(vm: Machine, user: str) -> str:
    """Log in by ``PASSWORD`` on the first serial port and return what ``id -un`` prints. The port's log ends
    here: QEMU gives it to a socket.
    """
    path = vm.logs / "console"
    place = {"type": "unix", "data": {"path": str(path)}}
    backend = {"type": "socket", "data": {"addr": place, "server": True, "wait": False}}
    vm.qmp.call("chardev-change", id="console", backend=backend)
    with socket.socket(socket.AF_UNIX) as console:
        console.connect(str(path))
        _answered(console, "", r"login: \Z")
        # agetty(8) drops what is typed while it starts anew after an empty name.
        for _ in range(3):
            if _answered(console, user, r"(login|Password): \Z")[1] == "Password":
                break
        else:
            raise AssertionError(f"no password is asked for {user}")
        _answered(console, PASSWORD, r"[#$] \Z")
        return _answered(console, "id -un; echo en''d", r"([a-z0-9_-]+)\r\nend\r\n")[1]


def _answered(console: socket.socket, text: str, pattern: str) -> re.Match[str]:
    """Type a line, and return the match once what comes has the pattern. Raise AssertionError."""
    console.sendall(f"{text}\r".encode())
    said, end = "", time.monotonic() + _ANSWER
    while not (found := re.search(pattern, said)):
        console.settimeout(max(0.1, end - time.monotonic()))
        try:
            said += console.recv(4096).decode(errors="replace")
        except TimeoutError:
            raise AssertionError(f"no {pattern!r} after {text!r}: {said!r}") from None
    return found
