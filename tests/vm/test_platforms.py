"""The same image on each platform: what is on the medium becomes the machine, at boot and while it runs."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests import drives
from tests.vm import checks, sample
from tests.vm.conftest import Rig
from tests.vm.rig import MIB, Bus, Disk, Image, ImageSpec, Machine, build, make_filesystem, newest_deb

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


@pytest.fixture(scope="session")
def platform_image() -> Image:
    """With what a NoCloud drive needs."""
    return build(ImageSpec(debs=(newest_deb(),), extra=("python3-yaml",)))


def _drive(path: Path, *, bus: Bus = Bus.CDROM, id: str = "drive") -> Disk:
    return Disk(path=path, id=id, bus=bus, read_only=True)


def _boot(machine: Rig, image: Image, *disks: Disk) -> Machine:
    vm = machine.start(image, sample.SPEC, disks=disks)
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend; systemctl list-jobs")
    return vm


def _password_is(vm: Machine, user: str, password: str) -> bool:
    """Asked of the system's own crypt(3), in the guest."""
    ask = "my @e = getpwnam($ARGV[0]); chomp(my $p = <STDIN>); exit(crypt($p, $e[1]) ne $e[1])"
    return vm.run(["perl", "-e", ask, user], stdin=password.encode(), check=False).rc == 0


def _is_nowhere(vm: Machine, secret: str) -> None:
    vm.run(f"! grep -rlF '{secret}' /etc /var /run /root /home /tmp")
    vm.run(f"! systemctl show '*' | grep -F '{secret}'")


def _keys(vm: Machine, home: str = "/root") -> list[str]:
    return vm.read_file(f"{home}/.ssh/authorized_keys").decode().splitlines()


def _named(vm: Machine, name: str) -> None:
    assert vm.output("hostname") == name
    assert vm.read_file("/etc/hostname").decode() == f"{name}\n"


def _scripted(vm: Machine) -> None:
    vm.wait_until("test -s /root/order")
    assert sample.order(vm) == ["user data"]


def _leases(vm: Machine) -> None:
    """Every NIC has an address by DHCP."""
    for nic, network in ((sample.PUBLIC_NIC, "203.0.113."), (sample.PRIVATE_NIC, "192.168.1.")):
        link = next(link["ifname"] for link in vm.json("ip -j link") if link["address"] == nic.mac)
        vm.wait_until(f"ip -4 -br addr show dev {link} | grep -qF ' {network}'")


def test_cloudstack(machine: Rig, platform_image: Image, tmp_path: Path) -> None:
    """The older drive: ISO level 3 without Rock Ridge; then its passwords, over boots and while it runs."""
    content = dict(
        drives.cloudstack(
            password=PASSWORD + "\r\n",
            public_keys=sample.KEY,
            local_ipv4="02:00:4c:9f:00:0a",
            service_offering="Small",
            user_data=SCRIPT.decode(),
        )
    )
    # An older version's spelling of a name.
    content["cloudstack/metadata/local_hostname.txt"] = content.pop("cloudstack/metadata/local-hostname.txt")
    first = drives.make_iso(tmp_path / "1.iso", content, "config", drives.PLAIN)
    vm = _boot(machine, platform_image, _drive(first))
    _named(vm, "cs1")
    assert _keys(vm) == [sample.KEY]
    assert _password_is(vm, "root", PASSWORD)
    _is_nowhere(vm, PASSWORD)
    _scripted(vm)
    _leases(vm)

    def with_password(number: int, password: str) -> Path:
        more = content | {"cloudstack/password/vm_password.txt": password.encode()}
        return drives.make_iso(tmp_path / f"{number}.iso", more, "config", drives.PLAIN)

    vm.cold_boot(disks=[_drive(with_password(2, "saved_password"))])
    assert vm.wait_booted() == "running"
    assert _password_is(vm, "root", PASSWORD)
    vm.cold_boot(disks=[])
    assert vm.wait_booted() == "running"
    _named(vm, "cs1")
    assert _password_is(vm, "root", PASSWORD)
    assert _keys(vm) == [sample.KEY]
    assert sample.order(vm) == ["user data"]
    vm.add_disk(_drive(with_password(3, NEW_PASSWORD)))
    vm.wait_until("gandi-agent status --json | grep -q password:root", timeout=60)
    assert _password_is(vm, "root", NEW_PASSWORD)
    _is_nowhere(vm, NEW_PASSWORD)


def test_cloudstack_with_the_other_label_and_a_hostile_tree(
    machine: Rig, platform_image: Image, tmp_path: Path
) -> None:
    """The newer drive, Rock Ridge, on a disk; with links and devices that Rock Ridge can hold."""
    tree = tmp_path / "tree"
    tree.mkdir()
    drives.write_tree(tree, drives.cloudstack(public_keys=sample.KEY, user_data=SCRIPT.decode()))
    (tree / "cloudstack/password").mkdir()
    (tree / "cloudstack/password/vm_password.txt").symlink_to("/etc/hostname")
    (tree / "openstack/latest/user_data").symlink_to("../../../../../../etc/shadow")
    os.mknod(tree / "cloudstack/metadata/zone.txt", 0o20666, os.makedev(1, 5))
    os.mkfifo(tree / "cloudstack/metadata/pipe.txt")
    iso = drives.make_iso(tmp_path / "d.iso", tree, "config-2", ("-R", "-J"))
    vm = machine.start(platform_image, sample.SPEC, disks=[_drive(iso, bus=Bus.VIRTIO)])
    vm.wait_booted()
    _named(vm, "cs1")
    assert _keys(vm) == [sample.KEY]
    assert vm.output("grep ^root: /etc/shadow").split(":")[1] in ("*", "!", "!*", "")
    _scripted(vm)
    told = {item["name"] for item in sample.items(vm, "bootstrap") if item["outcome"] == "failed"}
    assert {"cloudstack/password/vm_password.txt", "openstack/latest/user_data"} <= told
    assert "cloudstack/metadata/zone.txt" in told
    assert vm.output("findmnt -rno TARGET -t iso9660 || true") == ""


@pytest.mark.parametrize("make", [drives.make_iso, drives.make_vfat], ids=["iso", "vfat"])
def test_openstack(machine: Rig, platform_image: Image, tmp_path: Path, make: Any) -> None:
    content = drives.openstack(
        UUID,
        network=NETWORK,
        user_data=SCRIPT,
        public_keys={"me": sample.KEY},
        keys=[{"name": "me", "type": "ssh", "data": sample.KEY}],
        admin_pass=PASSWORD,
        meta={"role": "web"},
    )
    bus = Bus.CDROM if make is drives.make_iso else Bus.VIRTIO
    vm = _boot(machine, platform_image, _drive(make(tmp_path / "d.img", content, "config-2"), bus=bus))
    _named(vm, "os1")
    assert _keys(vm) == [sample.KEY]
    assert _password_is(vm, "root", PASSWORD)
    _is_nowhere(vm, PASSWORD)
    _scripted(vm)
    checks.addresses(vm)
    checks.resolvers(vm)
    assert UUID in vm.output("gandi-agent status")


def test_nocloud(machine: Rig, platform_image: Image, tmp_path: Path) -> None:
    content = drives.nocloud("nc-1", user_data=SCRIPT, network=NETPLAN, keys=(sample.KEY,))
    vm = _boot(machine, platform_image, _drive(drives.make_vfat(tmp_path / "d.img", content, "CIDATA")))
    _named(vm, "nc1")
    assert _keys(vm) == [sample.KEY]
    _scripted(vm)
    checks.addresses(vm)
    checks.resolvers(vm)


def test_native(machine: Rig, platform_image: Image, tmp_path: Path) -> None:
    """Then with nothing new: no reader is started, and no file is written."""
    iso = drives.make_iso(tmp_path / "d.iso", drives.native(NATIVE), "gandi")
    vm = _boot(machine, platform_image, _drive(iso))
    _named(vm, "nd1")
    assert _keys(vm, "/home/admin1") == [sample.KEY]
    assert vm.output("grep ^admin1: /etc/shadow").split(":")[1] == sample.HASH
    _scripted(vm)
    checks.addresses(vm)
    checks.resolvers(vm)
    vm.reboot()
    assert vm.wait_booted() == "running"
    source = next(item for item in sample.items(vm, "bootstrap") if item["name"] == "source")
    assert (source["outcome"], source["detail"]) == ("unchanged", "/dev/sr0, delivered again")
    assert sample.order(vm) == ["user data"]


def test_two_drives_that_disagree(machine: Rig, platform_image: Image, tmp_path: Path) -> None:
    """Neither is applied; once one of them is gone, the other is, without a boot."""
    one = _drive(drives.make_iso(tmp_path / "1.iso", drives.openstack(UUID), "config-2"), id="one")
    content = drives.nocloud("nc-1", user_data=SCRIPT)
    two = _drive(drives.make_vfat(tmp_path / "2.img", content, "cidata"), id="two", bus=Bus.SCSI)
    vm = machine.start(platform_image, sample.SPEC, disks=[one, two])
    vm.wait_booted()
    _leases(vm)
    (failed,) = [item for item in sample.items(vm, "bootstrap") if item["outcome"] == "failed"]
    assert "/dev/sr0" in failed["detail"]
    assert "/dev/sda" in failed["detail"]
    assert "CONFIG_DATASOURCE" in failed["hint"]
    assert vm.output("gandi-agent status | head -1") == "instance: none yet"
    vm.remove_disk("one")
    vm.run("udevadm trigger --subsystem-match=block")
    vm.wait_until("hostname | grep -qx nc1")
    _scripted(vm)


def test_a_drive_that_comes_late_and_changes(machine: Rig, platform_image: Image, tmp_path: Path) -> None:
    """Never, late, changed, another machine's, and a loop device with its label: one machine's life."""
    vm = _boot(machine, platform_image)
    _leases(vm)
    assert "no medium, nothing stored" in vm.output("gandi-agent status")

    def iso(number: int, **what: Any) -> Path:
        content = drives.nocloud(**({"id": "nc-1", "keys": (sample.KEY,), "user_data": SCRIPT} | what))
        return drives.make_iso(tmp_path / f"{number}.iso", content, "cidata")

    # Made by somebody on the machine: never read, and said.
    vm.write_file("/root/evil.iso", iso(0, hostname="evil").read_bytes())
    vm.run("losetup --find /root/evil.iso")
    vm.wait_until("gandi-agent status | grep -q 'loop0.*never read'")
    vm.wait_until("journalctl -b -t gandi-agent | grep -q 'labelled cidata, but a virtual device'")
    vm.run("test $(hostname) != evil")
    assert vm.output("gandi-agent status | head -1") == "instance: none yet"

    vm.add_disk(_drive(iso(1)))
    vm.wait_until("hostname | grep -qx nc1")
    _scripted(vm)
    assert _keys(vm) == [sample.KEY]

    vm.change_medium("drive", iso(2, hostname="nc2", network=NETPLAN, keys=(sample.OTHER_KEY,)))
    vm.wait_until("hostname | grep -qx nc2")
    vm.wait_until("ip -br addr | grep -q 192.168.1.5/24")
    assert _keys(vm) == [sample.OTHER_KEY]
    assert sample.order(vm) == ["user data"]

    vm.change_medium("drive", iso(3, id="nc-other", hostname="nc3"))
    vm.wait_until("gandi-agent status | grep -q 'waits for a boot'")
    vm.run("hostname | grep -qx nc2")

    vm.run("echo CONFIG_RELOAD=0 >> /etc/default/gandi")
    vm.change_medium("drive", iso(4, hostname="nc4", network=NETPLAN))
    vm.wait_until("gandi-agent status | grep -q CONFIG_RELOAD=0")
    vm.run("hostname | grep -qx nc2")
    vm.reboot()
    assert vm.wait_booted() == "running"
    _named(vm, "nc4")


def test_a_drive_eight_seconds_after_power_on(machine: Rig, platform_image: Image, tmp_path: Path) -> None:
    """Wherever the boot is by then."""
    vm = machine.start(platform_image, sample.SPEC, wait=False)
    time.sleep(8)
    content = drives.nocloud("nc-1", user_data=SCRIPT)
    vm.add_disk(_drive(drives.make_iso(tmp_path / "1.iso", content, "cidata"), bus=Bus.VIRTIO))
    vm.wait_ready()
    vm.wait_booted()
    vm.wait_until("hostname | grep -qx nc1")
    _scripted(vm)


def test_cloud_init_in_the_image(machine: Rig, tmp_path: Path) -> None:
    """It sets the machine up; disks stay ours."""
    image = build(ImageSpec(debs=(newest_deb(),), extra=("cloud-init",)))
    user_data = b"#cloud-config\nruncmd:\n  - echo by cloud-init >> /root/order\n"
    content = drives.nocloud("nc-1", "ci1", user_data=user_data, network=NETPLAN, keys=(sample.KEY,))
    vm = machine.start(
        image, sample.SPEC, disks=[_drive(drives.make_iso(tmp_path / "d.iso", content, "cidata"))]
    )
    vm.wait_booted()
    _named(vm, "ci1")
    vm.wait_until("test -s /root/order")
    assert sample.order(vm) == ["by cloud-init"]
    assert "left to cloud-init" in vm.output("gandi-agent status || true")
    assert vm.output("gandi-agent status | head -1") == "instance: none yet"
    assert vm.output("find /etc/systemd/network -name '*gandi*'") == ""
    data = make_filesystem(tmp_path / "data.img", 64 * MIB, "ext4", label="data")
    vm.add_disk(Disk(path=data, id="data"))
    vm.wait_until("mountpoint -q /srv/data", timeout=30)
