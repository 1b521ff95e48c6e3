"""A machine to which CPUs, memory and NICs can be added, with a document for one more NIC than it has,
booted once for all hot-plug tests.
"""

from __future__ import annotations

from agent.config.nics import Nic, Route
from tests.vm import rig
from tests.vm.documents import stored
from tests.vm.rig import Image, ImageSpec, Machine, MachineSpec, State, build, newest_deb, saved

#: A NIC of the document that is there, one of the document that is plugged in later, and one in no document.
FIRST, LATER, OTHER = "52:54:00:00:03:00", "52:54:00:00:03:01", "52:54:00:00:03:02"
QUEUES = "52:54:00:00:03:09"
MOST_QUEUES = 4
ADDRESS, LATER_ADDRESS = "203.0.113.10/24", "192.168.1.5/24"
#: A program for three hooks, which writes a line with its arguments.
HOOK = b'#!/bin/sh\necho "${0##*/} $ACTION $INTERFACE" >> /run/hooks\n'
NICS = (
    Nic(0, FIRST, addresses=(ADDRESS,), routes=(Route("0.0.0.0/0", "203.0.113.254"),), accept_ra=False),
    Nic(1, LATER, addresses=(LATER_ADDRESS,), mtu=1400, accept_ra=False),
    Nic(2, QUEUES, addresses=("192.168.2.5/24",), accept_ra=False),
)
#: Replaces the rig's own file, which would configure every NIC.
NOBODYS = rig.GuestFile("/etc/systemd/network/90-dhcp.network", b"[Match]\nName=none\n")
SPEC = MachineSpec(
    max_cpus=4,
    memory_slots=8,
    cmdline=("memhp_default_state=offline",),
    nics=(
        rig.Nic(id="net0", mac=FIRST, backend="user,restrict=on,net=203.0.113.0/24"),
        rig.multiqueue_nic("queues", QUEUES, MOST_QUEUES),
    ),
    uuid="6a1d8f5e-52a5-4c39-9d0c-000000000003",
)


def image() -> Image:
    """The image with that document, and hooks."""
    hooks = tuple(
        rig.GuestFile(f"/etc/gandi/hooks/post-iface-{when}", HOOK, 0o755) for when in ("attach", "detach")
    )
    return build(ImageSpec(debs=(newest_deb(),), files=(*stored(*NICS), *hooks, NOBODYS)))


def state() -> State:
    """The machine after its boot."""
    return saved(image(), "plugged", _booted, SPEC)


def _booted(vm: Machine) -> None:
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend")


def name_of(vm: Machine, mac: str) -> str:
    """Return the guest's name for the NIC with that address, "" where there is none."""
    found = [link["ifname"] for link in vm.json("ip -j link") if link["address"] == mac]
    return str(found[0]) if found else ""


def settings(vm: Machine, line: str) -> None:
    """Add a line to the settings file."""
    vm.run(f"echo '{line}' >> /etc/default/gandi")


#: Waits for the end of a coldplug that began after a moment (Unix time).
_LOOKED = """
import json, sys, time
kinds = ("cpu", "memory", "nic")
while True:
    status = json.load(open("/run/gandi/status.json"))
    ended = min(status["devices"].get(kind, {}).get("ended", 0) for kind in kinds)
    if ended >= int(sys.argv[1]) and not set(status["work"]) & set(kinds):
        break
    time.sleep(0.3)
"""


def look_again(vm: Machine) -> None:
    """Have udev repeat the events of all these devices, as an administrator may at any time, and wait until
    the agent has handled them.
    """
    vm.run("systemctl restart gandi-agent")
    since = vm.output("date +%s")
    kinds = " ".join(f"--subsystem-match={kind}" for kind in ("cpu", "memory", "net"))
    vm.run(f"udevadm trigger {kinds}; udevadm settle")
    vm.run(["python3", "-ISc", _LOOKED, since], timeout=90)
