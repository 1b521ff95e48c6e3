"""What an image has in addition for a machine with a clock that skips idle time (MachineSpec.skips)."""

from __future__ import annotations

from pathlib import Path

from .spec import GuestFile

UNIT = "rig-restless.service"
_PROGRAM = "/usr/local/lib/rig-restless.py"
_SERVICE = f"""[Unit]
DefaultDependencies=no

[Service]
ExecStart=/usr/bin/python3 -I -S {_PROGRAM}
CPUSchedulingPolicy=idle
"""
#: The kernel's own timers, which would be most of what a rest costs: seconds between two counts of free
#: memory, no defragmentation in advance, no watchdog of a CPU that hangs.
_SYSCTL = "vm.stat_interval=60\nvm.compaction_proactiveness=0\nkernel.watchdog=0\n"
FILES = (
    GuestFile(f"/etc/systemd/system/{UNIT}", _SERVICE.encode()),
    GuestFile(_PROGRAM, Path(__file__).with_name("guest_restless.py").read_bytes()),
    GuestFile("/etc/sysctl.d/rig-restless.conf", _SYSCTL.encode()),
)
#: Starts the program; and no second clock against which the kernel checks the first each half second.
CMDLINE = (f"systemd.wants={UNIT}", "tsc=reliable")
