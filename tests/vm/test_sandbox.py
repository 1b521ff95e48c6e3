"""The daemon can do what it needs and no more; what it runs for the customer is not limited by that."""

from __future__ import annotations

from tests.vm.conftest import Rig
from tests.vm.rig import Machine, State

#: systemd-analyze's exposure, times ten, at the most: what is left out has its reason in the unit.
EXPOSURE = 50
#: Capabilities that nothing of the daemon's needs, by their bits (linux/capability.h): SYS_MODULE,
#: SYS_RAWIO, SYS_BOOT, SYS_TIME, MKNOD, SYSLOG, BPF.
REFUSED = (16, 17, 22, 25, 27, 34, 39)


def test_the_daemon_is_limited_and_the_customer_is_not(machine: Rig, set_up: State) -> None:
    """As the kernel sees the daemon, and as PID 1 saw the unit of the document's script."""
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

    script = _unit(vm, "gandi-script.service")
    assert script.get("SystemCallFilter", "") == "", "systemd leaves out what is empty"
    assert script["DevicePolicy"] == "auto"
    assert script["NoNewPrivileges"] == "no"
    assert "cap_sys_module" in script["CapabilityBoundingSet"]
    assert script["RestrictNamespaces"] == "no"


def _unit(vm: Machine, name: str) -> dict[str, str]:
    """The properties of a unit, as the sample's script saw them."""
    for block in vm.read_file("/root/units").decode().split("\n\n"):
        properties = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if properties.get("Id") == name:
            return properties
    raise AssertionError(f"{name} is not among the units that the script saw")
