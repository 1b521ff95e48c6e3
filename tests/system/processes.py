"""The processes of one test of the daemon, and the folder that stands for their machine."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from agent.daemon import control_socket
from agent.host.host import Host
from tests.system import machine

if TYPE_CHECKING:
    from pathlib import Path

TREE = machine.TREE
#: Seconds at most for any wait here.
BOUND = 15


class Machine:
    """The processes of one test, and its folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.started: list[subprocess.Popen[str]] = []
        script = root / "gandi-agent"
        script.write_text(
            f'#!/bin/sh\ncd {TREE}\nexec {sys.executable} -m tests.system.machine "$1" {root} "$2"\n'
        )
        script.chmod(0o755)

    def start(self, verb: str, stage: str = "", **kwargs: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.system.machine", verb, str(self.root), stage],
            cwd=TREE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **kwargs,
        )
        self.started.append(process)
        return process

    def daemon(self, **kwargs: Any) -> subprocess.Popen[str]:
        process = self.start("daemon", **kwargs)
        deadline = time.monotonic() + BOUND
        while not control_socket.ping(Host(self.root)):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return process

    def client(self, stage: str) -> tuple[int, str]:
        process = self.start("client", stage)
        output, _ = process.communicate(timeout=BOUND)
        return process.returncode, output

    def begun(self) -> None:
        machine.until(self.root / "begun")

    def go(self) -> None:
        (self.root / "go").touch()

    def ran(self) -> list[int]:
        file = self.root / "ran"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def status(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.root / "run/gandi/status.json").read_text())
        return document

    def connect(self, request: bytes = b"") -> socket.socket:
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(BOUND)
        peer.connect(str(self.root / "run/gandi/agent.sock"))
        peer.sendall(request)
        return peer

    def close(self) -> None:
        """End all processes that still run."""
        for process in self.started:
            process.kill()
            process.communicate()
