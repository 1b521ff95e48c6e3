"""Find the accelerator that works here. /dev/kvm may exist without being able to run a kernel, so one is
booted.
"""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

from .command import environment

QEMU = "qemu-system-x86_64"
PROBE_SECONDS = 15
# Without a root filesystem a kernel that runs gets exactly this far.
PROOF = b"Kernel panic - not syncing: VFS"


@functools.cache
def accelerator(kernel: Path) -> str:
    """Return the value for -accel: that of GANDI_VM_ACCEL, kvm if it boots `kernel`, else multi-threaded
    TCG.
    """
    tcg = "tcg,thread=multi"
    match os.environ.get("GANDI_VM_ACCEL", ""):
        case "":
            return "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) and _boots("kvm", kernel) else tcg
        case "tcg":
            return tcg
        case chosen:
            return chosen


def _boots(accel: str, kernel: Path) -> bool:
    argv = [
        QEMU,
        "-accel",
        accel,
        "-cpu",
        "max",
        "-m",
        "256",
        "-nodefaults",
        "-display",
        "none",
        "-no-reboot",
    ]
    argv += ["-serial", "stdio", "-kernel", str(kernel), "-append", "console=ttyS0 panic=-1"]
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_SECONDS,
            env=environment(),
            check=False,
        )
    except (subprocess.TimeoutExpired, FileNotFoundError):
        return False
    return PROOF in done.stdout
