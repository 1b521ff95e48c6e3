"""Connect this terminal to the root shell of a running machine."""

from __future__ import annotations

import os
import select
import socket
import sys
import termios
import tty
from pathlib import Path

from .command import RigError

LEAVE = b"\x1d"  # Ctrl-]


def attach(path: Path) -> None:
    """Copy between this terminal and the shell's socket until Ctrl-] is typed or the machine ends."""
    if not sys.stdin.isatty():
        raise RigError(f"no terminal here; attach one later with: python -m tests.vm.rig shell {path}")
    print("Root shell of the guest; Ctrl-] leaves it. Press Enter for a prompt.")
    before = termios.tcgetattr(sys.stdin)
    with socket.socket(socket.AF_UNIX) as shell:
        shell.connect(str(path))
        try:
            tty.setraw(sys.stdin)
            _copy(shell)
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
    print()


def _copy(shell: socket.socket) -> None:
    while True:
        ready, _, _ = select.select([sys.stdin, shell], [], [])
        if sys.stdin in ready:
            typed = os.read(sys.stdin.fileno(), 4096)
            if LEAVE in typed:
                return
            shell.sendall(typed)
        if shell in ready:
            shown = shell.recv(65536)
            if not shown:
                return
            os.write(sys.stdout.fileno(), shown)
