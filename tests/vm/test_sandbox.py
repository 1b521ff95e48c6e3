"""The daemon's sandbox: it can do what it needs and no more; the customer's programs are not
limited by it.
"""

from __future__ import annotations

from tests.vm.conftest import Rig
from tests.vm.rig import Machine, State

#: Highest exposure by systemd-analyze, times ten; the reason for each omission is in the unit. 0.2 of it are
#: for ProtectControlGroups=: systemd-analyze does not see the read-only path that does the same. 0.1 is for
#: mounting data disks in PID 1's mount namespace, 0.3 for vsock and its ports of root's.
EXPOSURE = 56
#: Capabilities that the daemon does not need, by bit (linux/capability.h): SYS_MODULE,
#: SYS_RAWIO, SYS_BOOT, SYS_TIME, MKNOD, SYSLOG, BPF.
REFUSED = (16, 17, 22, 25, 27, 34, 39)
#: The allowed system calls: systemd's list for services, mounting and swapping.
OPEN = ("@system-service", "@mount", "@swap")
#: Calls of these lists that are still denied: the daemon never changes its share of the machine's resources.
SHUT = "@resources"
#: Allowed calls that systemd's list does not have (yet): they wait, or query memory.
HARMLESS = frozenset({"cachestat", "futex_requeue", "futex_wait", "futex_wake", "mincore"})
#: Calls about security modules: systemd before 255 does not know them, and would warn.
NAMELESS = frozenset({"lsm_set_self_attr"})
#: Ways to the kernel's log.
LOG = (
    "dmesg -r",
    "dd if=/dev/kmsg bs=8k count=1 of=/dev/null",
    "timeout 1 head -c 1 /proc/kmsg",
    "echo > /dev/kmsg",
)
#: Prints the names from standard input that are system calls on the guest's processor, by libseccomp.
NATIVE = """
import ctypes, sys
number = ctypes.CDLL("libseccomp.so.2").seccomp_syscall_resolve_name
print(*(name for name in sys.stdin.read().split() if number(name.encode()) >= 0))
"""


def test_the_daemon_is_limited_and_the_customer_is_not(machine: Rig, set_up: State) -> None:
    """By the kernel's view of the daemon, and PID 1's properties of the unit of the document's script."""
    vm = machine.clone(set_up)
    vm.run(f"systemd-analyze security --no-pager --threshold={EXPOSURE} gandi-agent.service", timeout=120)
    vm.run("gandi-agent status --json; systemctl start gandi-agent")
    process = vm.output("systemctl show -P MainPID gandi-agent")
    lines = vm.output(f"cat /proc/{process}/status").splitlines()
    status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert status["Seccomp"] == "2"
    assert status["NoNewPrivs"] == "1"
    bounding = int(status["CapBnd"], 16)
    assert not [bit for bit in REFUSED if bounding >> bit & 1]
    refused = vm.run(f"nsenter -t {process} -m mkdir /sys/fs/cgroup/made", check=False)
    assert "Read-only file system" in refused.stderr

    # For the boot only: a daemon that is started later is a service like any other.
    weighed = " ".join(f"gandi-{name}" for name in ("agent", "bootstrap", "mount", "config", "postboot"))
    assert vm.output(f"systemctl show -P StartupCPUWeight {weighed}").split() == ["10000"] * 5
    assert vm.output(f"systemctl show -P CPUWeight {weighed}").split() == ["[not", "set]"] * 5

    script = _unit(vm, "gandi-script.service")
    assert script.get("SystemCallFilter", "") == "", "systemd leaves out what is empty"
    assert script["DevicePolicy"] == "auto"
    assert script["NoNewPrivileges"] == "no"
    assert "cap_sys_module" in script["CapabilityBoundingSet"]
    assert script["RestrictNamespaces"] == "no"


def test_the_kernels_log_is_closed_to_the_daemon(booted: Machine) -> None:
    """By the unit's settings, which lack ProtectKernelLogs=: the same unit, with another program."""
    probe = "/run/systemd/system/gandi-probe.service"
    program = "; ".join(f"{how} && echo reached" for how in LOG)
    settings = (
        "Type=oneshot",
        "Restart=no",
        "WatchdogSec=0",
        "ExecStart=",
        f"ExecStart=/bin/sh -c '{program}; true'",
    )
    booted.run(f"cp /usr/lib/systemd/system/gandi-agent.service {probe}; mkdir {probe}.d")
    booted.write_file(f"{probe}.d/other.conf", "\n".join(("[Service]", *settings, "")))
    assert booted.output(f"sh -c '{program}' 2>/dev/null").count("reached") == len(LOG)
    booted.run("systemctl daemon-reload; systemctl start gandi-probe")
    said = booted.output("journalctl -b -u gandi-probe -o cat")
    booted.run(f"rm -r {probe} {probe}.d; systemctl daemon-reload")
    assert "reached" not in said
    assert said.count("not permitted") == len(LOG), said


def test_what_services_need_is_open_and_the_rest_is_closed(booted: Machine) -> None:
    """The unit lists what is denied, systemd's lists for services what is allowed. Both must agree."""
    groups: dict[str, list[str]] = {}
    for line in booted.output("systemd-analyze --no-pager syscall-filter").splitlines():
        if line.startswith("@"):
            group = groups[line.strip()] = []
        elif line.startswith("    ") and not line.lstrip().startswith("#"):
            group.append(line.strip())

    def calls(name: str) -> set[str]:
        return set().union(*(calls(word) if word[0] == "@" else {word} for word in groups[name]))

    known, opened = calls("@known"), set().union(*map(calls, OPEN)) - calls(SHUT)
    shown = booted.output("systemctl show -P SystemCallFilter gandi-agent")
    assert shown.startswith("~")
    closed = set(shown[1:].split())
    assert not closed & opened
    rest = known - opened - closed
    native = booted.run(["python3", "-c", NATIVE], stdin=" ".join(rest).encode()).stdout.split()
    assert set(native) == HARMLESS | NAMELESS


def _unit(vm: Machine, name: str) -> dict[str, str]:
    """Return a unit's properties as the sample's script recorded them."""
    for block in vm.read_file("/root/units").decode().split("\n\n"):
        properties = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if properties.get("Id") == name:
            return properties
    raise AssertionError(f"{name} is not among the units that the script saw")
