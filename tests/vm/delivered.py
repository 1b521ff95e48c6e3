"""Drives with the sample's document in each platform's form, and checks that it was applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.vm import sample
from tests.vm.conftest import Rig
from tests.vm.rig import Bus, Disk, Image, Machine, MachineSpec

UUID = "83679162-1378-4288-a2d4-70e13ec132aa"
SCRIPT = b"#!/bin/sh\necho user data >> /root/order\n"
PASSWORD, NEW_PASSWORD = "Rabbit-Hole-4711", "Looking:Glass 0815"
#: OpenStack's form of the sample's public and private NICs.
NETWORK = {
    "links": [
        {
            "id": "l0",
            "type": "vif",
            "ethernet_mac_address": sample.PUBLIC_NIC.mac.upper(),
            "mtu": 1500,
            "vif_id": "v0",
        },
        {
            "id": "l1",
            "type": "ovs",
            "ethernet_mac_address": sample.PRIVATE_NIC.mac,
            "mtu": None,
            "vif_id": "v1",
        },
    ],
    "networks": [
        {
            "id": "n0",
            "type": "ipv4",
            "link": "l0",
            "ip_address": "203.0.113.10",
            "netmask": "255.255.255.0",
            "network_id": "a",
            "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "203.0.113.254"}],
        },
        {
            "id": "n1",
            "type": "ipv6",
            "link": "l0",
            "ip_address": "2001:db8::10",
            "netmask": "ffff:ffff:ffff:ffff::",
            "network_id": "b",
            "routes": [{"network": "::", "netmask": "::", "gateway": "2001:db8::1"}],
        },
        {
            "id": "n2",
            "type": "ipv4",
            "link": "l1",
            "ip_address": "192.168.1.5",
            "netmask": "255.255.255.0",
            "network_id": "c",
            "routes": [],
        },
    ],
    "services": [{"type": "dns", "address": a} for a in sample.CONFIG["nameservers"]],
}
#: The same in netplan's keys.
NETPLAN = f"""\
version: 2
ethernets:
  public:
    match: {{macaddress: "{sample.PUBLIC_NIC.mac}"}}
    addresses: [203.0.113.10/24, "2001:db8::10/64"]
    accept-ra: false
    routes:
      - {{to: default, via: 203.0.113.254}}
      - {{to: "::/0", via: "2001:db8::1"}}
    nameservers: {{addresses: [203.0.113.3, "2001:db8::3", 203.0.113.4, 203.0.113.5]}}
  private:
    match: {{macaddress: "{sample.PRIVATE_NIC.mac}"}}
    addresses: [192.168.1.5/24]
"""
NATIVE: dict[str, Any] = {
    "id": "native-1",
    "hostname": "nd1",
    "nameservers": sample.CONFIG["nameservers"],
    "nics": [
        {
            "mac": sample.PUBLIC_NIC.mac,
            "addresses": ["203.0.113.10/24", "2001:db8::10/64"],
            "routes": [{"to": "default", "via": "203.0.113.254"}, {"to": "default", "via": "2001:db8::1"}],
            "accept_ra": False,
        },
        {"mac": sample.PRIVATE_NIC.mac, "addresses": ["192.168.1.5/24"]},
    ],
    "users": [{"name": "admin1", "password": sample.HASH, "keys": [sample.KEY], "admin": True}],
    "scripts": [{"name": "hello", "content": SCRIPT.decode()}],
}


def drive(path: Path, *, bus: Bus = Bus.CDROM, id: str = "drive") -> Disk:
    """Return the image as an optical drive, or as a disk."""
    return Disk(path=path, id=id, bus=bus, read_only=True)


#: Seconds; another architecture boots with Debian's own initrd, by an emulator that has more to do.
BOOT_TIMEOUT = 300


def boot(machine: Rig, image: Image, *disks: Disk, spec: MachineSpec = sample.SPEC) -> Machine:
    """Boot a machine with these drives; check that nothing failed."""
    vm = machine.start(image, spec, disks=disks)
    assert vm.wait_booted(BOOT_TIMEOUT) == "running", vm.output(
        "systemctl --failed --no-legend; systemctl list-jobs"
    )
    return vm


#: The agent's units that a boot starts, in order.
STAGES = "gandi-bootstrap gandi-sshdkeygen gandi-mount gandi-config gandi-postboot"
DAEMON = "gandi-agent.socket gandi-agent-uevent.socket gandi-agent.service"


def delivered(
    vm: Machine,
    *disks: Disk,
    fails: Sequence[str] = (),
    after: int = 0,
    meanwhile: Callable[[], int] = lambda: 0,
) -> Machine:
    """Attach the drives and start the stages of a boot again, with a new daemon, on a machine without a
    configuration: what a boot does, without the boot. The drives answer operations in ``fails`` with EIO
    ``after`` so many writes. ``meanwhile`` is called when no unit of the agent runs, and returns how many
    disks it has attached.
    """
    vm.run(f"systemctl stop {DAEMON} {STAGES}; rm -r /run/gandi")
    others = meanwhile()
    for disk in disks:
        vm.add_disk(disk, fails=fails, after=after)
    _there(vm, 1 + others + len(disks))
    # A unit that failed does not keep those after it from being started.
    vm.run(f"udevadm settle; systemctl start {STAGES} || true", timeout=120)
    return vm


def delivered_again(vm: Machine, disk: Disk) -> None:
    """Attach one more medium and have systemd start the bootstrap stage again."""
    vm.add_disk(replace(disk, id="again"))
    _there(vm, 1 + len(vm.disks) + 1)
    vm.run("udevadm settle; systemctl restart gandi-bootstrap || true", timeout=120)


def _there(vm: Machine, disks: int) -> None:
    vm.wait_until(f"test $(ls /sys/block | grep -c -e sd -e sr -e vd) = {disks}", interval=0.5)


def password_is(vm: Machine, user: str, password: str) -> bool:
    """Check an account's password with crypt(3) in the guest."""
    ask = "my @e = getpwnam($ARGV[0]); chomp(my $p = <STDIN>); exit(crypt($p, $e[1]) ne $e[1])"
    return vm.run(["perl", "-e", ask, user], stdin=password.encode(), check=False).rc == 0


def is_nowhere(vm: Machine, secret: str) -> None:
    """Check that no file and no property of the agent's units contains the text. All units, which
    takes PID 1 long, are in test_secrets.py.
    """
    vm.run(f"! grep -rlF '{secret}' /etc /var /run /root /home /tmp")
    vm.run(f"! systemctl show 'gandi-*' | grep -F '{secret}'")


def keys(vm: Machine, home: str = "/root") -> list[str]:
    """Check the account's authorized keys."""
    return vm.read_file(f"{home}/.ssh/authorized_keys").decode().splitlines()


def named(vm: Machine, name: str) -> None:
    """Check the machine's name, now and for the next boot."""
    assert vm.output("hostname") == name
    assert vm.read_file("/etc/hostname").decode() == f"{name}\n"


def scripted(vm: Machine) -> None:
    """Check that the user data's script ran once."""
    vm.wait_until("test -s /root/order")
    assert sample.order(vm) == ["user data"]


def leases(vm: Machine) -> None:
    """Check that every NIC has an address by DHCP."""
    for nic, network in ((sample.PUBLIC_NIC, "203.0.113."), (sample.PRIVATE_NIC, "192.168.1.")):
        link = next(link["ifname"] for link in vm.json("ip -j link") if link["address"] == nic.mac)
        vm.wait_until(f"ip -4 -br addr show dev {link} | grep -qF ' {network}'")


def resolvers(vm: Machine) -> None:
    """Check that the resolvers are all of the document's, in order."""
    lines = vm.read_file("/etc/resolv.conf").decode().splitlines()
    servers = [line.split()[1] for line in lines if line.startswith("nameserver")]
    assert servers == sample.CONFIG["nameservers"]
