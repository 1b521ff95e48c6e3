"""Find the accelerator that works here. /dev/kvm may exist without being able to run a kernel, so one is
booted, once for each boot of the host.
"""

from __future__ import annotations

import functools
import os
import selectors
import subprocess
import time
from pathlib import Path

from .command import environment
from .hardware import HARDWARE, host_architecture
from .paths import CACHE, locked
from .spec import Architecture, digest

PROBE_SECONDS = 15
#: A kernel that runs has printed something by then, or never will.
SILENT_SECONDS = 5
# Without a root filesystem a kernel that runs gets exactly this far.
PROOF = b"Kernel panic - not syncing: VFS"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@functools.cache
def accelerator(kernel: Path, architecture: Architecture = Architecture.AMD64) -> str:
    """Return the value for -accel: that of GANDI_VM_ACCEL, kvm if it boots `kernel`, else multi-threaded
    TCG, which is all that a host has for another architecture.
    """
    tcg = "tcg,thread=multi"
    if architecture != host_architecture():
        return tcg
    match os.environ.get("GANDI_VM_ACCEL", ""):
        case "":
            return "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) and _kvm_boots(kernel) else tcg
        case "tcg":
            return tcg
        case chosen:
            return chosen


def _kvm_boots(kernel: Path) -> bool:
    """Return the answer that another process has found since this host was started, or find it."""
    known = CACHE / f"kvm-{digest(kernel, _BOOT_ID.read_text())}"
    with locked("kvm"):
        if not known.exists():
            known.write_text("yes" if _boots("kvm", kernel) else "no")
        return known.read_text() == "yes"


def _boots(accel: str, kernel: Path) -> bool:
    hardware = HARDWARE[host_architecture()]
    argv = [hardware.program, "-accel", accel, "-cpu", "max", "-m", "256", "-nodefaults", "-display", "none"]
    argv += ["-no-reboot", "-serial", "stdio"]
    argv += ["-kernel", str(kernel), "-append", "earlyprintk=ttyS0 console=ttyS0 panic=-1"]
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )
    except FileNotFoundError:
        return False
    with process:
        try:
            return PROOF in _printed(process)
        finally:
            process.kill()


def _printed(process: subprocess.Popen[bytes]) -> bytes:
    """Return what it prints until its end, for at most PROBE_SECONDS, or SILENT_SECONDS without a byte."""
    assert process.stdout
    began, said = time.monotonic(), b""
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        while (left := began + (PROBE_SECONDS if said else SILENT_SECONDS) - time.monotonic()) > 0:
            if ready.select(left):
                if not (chunk := os.read(process.stdout.fileno(), 65536)):
                    break
                said += chunk
    return said
