"""What differs between architectures: QEMU's program, consoles and firmware, and how a host of another
architecture runs a tree's programs.
"""

from __future__ import annotations

import functools
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .command import RigError, need_root, run
from .spec import Architecture

BINFMT = Path("/proc/sys/fs/binfmt_misc")
_SYSTEMD_BINFMT = "/usr/lib/systemd/systemd-binfmt"


@dataclass(frozen=True, slots=True)
class Hardware:
    """QEMU's program, the kernel's names of the first two serial ports, the firmware's two flash images, and
    the name of QEMU's user emulation.
    """

    program: str
    console: str
    shell: str
    code: Path
    variables: Path
    user: str


HARDWARE = {
    Architecture.AMD64: Hardware(
        "qemu-system-x86_64",
        "ttyS0",
        "ttyS1",
        Path("/usr/share/OVMF/OVMF_CODE_4M.fd"),
        Path("/usr/share/OVMF/OVMF_VARS_4M.fd"),
        "qemu-x86_64",
    ),
    # Its serial ports are PL011s; without firmware it has a device tree, and neither ACPI nor DMI.
    Architecture.ARM64: Hardware(
        "qemu-system-aarch64",
        "ttyAMA0",
        "ttyAMA1",
        Path("/usr/share/AAVMF/AAVMF_CODE.fd"),
        Path("/usr/share/AAVMF/AAVMF_VARS.fd"),
        "qemu-aarch64",
    ),
}


def run_foreign(architecture: Architecture) -> None:
    """Have this host's kernel run programs of the architecture, by QEMU's user emulation (packages
    qemu-user-static, arch-test). Raise RigError if it cannot.

    A host that systemd has booted does so already; another one has to mount binfmt_misc and to register this
    one interpreter. It stays registered: another build may use it.
    """
    if _runs(architecture):
        return
    need_root("running programs of another architecture")
    if not (BINFMT / "register").exists():
        run(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT])
    run([_SYSTEMD_BINFMT, f"{HARDWARE[architecture].user}.conf"])
    if not _runs(architecture):
        raise RigError(f"this host runs no programs of {architecture}: see {BINFMT}")


def _runs(architecture: Architecture) -> bool:
    return subprocess.run(["arch-test", architecture], capture_output=True, check=False).returncode == 0


@functools.cache
def host_architecture() -> Architecture:
    """Return the architecture of this host's packages."""
    return Architecture(run(["dpkg", "--print-architecture"]).strip())
