"""A NoCloud drive with what few documents use, in one machine over two boots: partition table, filesystem,
mount, swap file, time servers, certificates, accounts, deferred files, programs for each boot,
routes and rules.
"""

from __future__ import annotations

from pathlib import Path

from tests import drives
from tests.vm import checks, sample
from tests.vm.conftest import Rig
from tests.vm.delivered import NETPLAN, drive, keys, resolvers
from tests.vm.rig import MIB, Bus, Disk, ImageSpec, newest_deb
from tests.vm.rig import make_disk as make_empty_disk

#: A certificate authority of this test only: its subject is CN=gandi-agent test.
CERTIFICATE = (Path(__file__).parent / "authority.pem").read_text()
CLOUD_CONFIG = """\
hostname: cc1
fqdn: cc1.lab.example
manage_etc_hosts: true
groups: [{lab: [carol]}]
users:
- {name: carol, uid: 1777, gecos: Carol, primary_group: users, lock_passwd: true}
write_files:
- {path: /home/carol/.config/lab.ini, content: "a=1", owner: "carol:users", defer: true}
- {path: /etc/lab.conf, content: "a=1", owner: "labd", defer: true}
apt: {sources: {lab: {source: "deb [trusted=yes] file:/srv/repository ./"}}}
packages: [lab-tool]
disk_setup: {/dev/disk/by-id/virtio-data: {table_type: gpt, layout: [50, 50]}}
fs_setup: [{device: /dev/disk/by-id/virtio-data, partition: 2, filesystem: ext4, label: lab}]
mounts: [[LABEL=lab, /mnt/lab, ext4, "defaults,nofail"]]
swap: {filename: /swapfile, size: 32M}
ntp: {servers: [203.0.113.9]}
ca_certs: {trusted: [CERTIFICATE]}
final_message: "the lab is ready after $UPTIME s"
runcmd: [null, "echo run >> /root/order"]
puppet: {install: true}
"""
PARTS = f"""\
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="=="

--==
Content-Type: text/cloud-config

{CLOUD_CONFIG.replace("CERTIFICATE", repr(CERTIFICATE).replace("'", '"'))}
--==
Content-Type: text/x-shellscript-per-boot; name="each"

#!/bin/sh
echo boot >> /root/order
--==
Content-Type: text/cloud-boothook

#!/bin/sh
echo "$INSTANCE_ID $(systemctl is-active network.target)" >> /root/hook
--==--
"""
NETWORK = NETPLAN.replace(
    "    routes:\n",
    """\
    routing-policy: [{from: 198.51.100.7, table: 101}]
    routes:
      - {to: 198.51.100.128/25, type: blackhole}
      - {to: default, via: 203.0.113.254, table: 101}
""",
).replace("ethernets:\n", "ethernets:\n  lo: {addresses: [198.51.100.7/32]}\n")
#: A package of which the script makes the account labd, in a repository of the image.
CONTROL = "Package: lab-tool\nVersion: 1\nArchitecture: all\nMaintainer: none\nDescription: empty\n"
_BUILD = f"""\
set -e; cd /srv; mkdir -p build/DEBIAN repository
printf {CONTROL!r} > build/DEBIAN/control
printf '#!/bin/sh\\nuseradd --system labd\\n' > build/DEBIAN/postinst; chmod 755 build/DEBIAN/postinst
dpkg-deb --root-owner-group --build build repository/lab.deb; cd repository
{{ cat ../build/DEBIAN/control; echo "Filename: ./lab.deb"; stat -c 'Size: %s' lab.deb
echo "SHA256: $(sha256sum lab.deb | cut -d' ' -f1)"; }} > Packages
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
"""
#: Without the authorities of Mozilla: update-ca-certificates takes an emulated guest ten seconds for them.
_NO_AUTHORITIES = "sed -i 's/^[^#]/!&/' /etc/ca-certificates.conf && update-ca-certificates --fresh"
SPEC = ImageSpec(
    debs=(newest_deb(),),
    extra=("python3-yaml", "systemd-timesyncd", "ca-certificates"),
    commands=(sample.KEEPS_KEYS, _BUILD, _NO_AUTHORITIES),
)


def test_what_few_documents_say_happens(machine: Rig, tmp_path: Path) -> None:
    """And a second boot changes nothing of it, except that the programs for each boot run again."""
    content = drives.nocloud("cc-1", user_data=PARTS.encode(), network=NETWORK, keys=(sample.KEY,))
    vfat = drives.make_vfat(tmp_path / "d.img", content, "CIDATA")
    data = Disk(path=make_empty_disk(tmp_path / "data.img", 256 * MIB), id="data", serial="data")
    vm = machine.start(SPEC, sample.SPEC, disks=[drive(vfat, bus=Bus.VIRTIO), data])
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend; gandi-agent status")
    vm.wait_until("grep -q run /root/order")

    assert keys(vm) == [sample.KEY]
    assert vm.output("getent passwd carol") == "carol:x:1777:100:Carol:/home/carol:/bin/bash"
    assert vm.output("getent group lab").endswith(":carol")
    assert (
        vm.output("stat -c %U:%G /home/carol/.config /home/carol/.config/lab.ini")
        == "carol:users\ncarol:users"
    )
    # Written after the package, of which the script makes its owner.
    assert vm.output("dpkg-query -W -f '${db:Status-Status}' lab-tool") == "installed"
    assert vm.output("stat -c %U /etc/lab.conf") == "labd"
    assert vm.output("hostname --fqdn") == "cc1.lab.example"

    assert vm.output("lsblk -nro LABEL,MOUNTPOINT /dev/disk/by-id/virtio-data-part2") == "lab /mnt/lab"
    assert vm.output("grep -c '^LABEL=lab /mnt/lab ext4' /etc/fstab") == "1"
    assert vm.output("swapon --show=NAME --noheadings | grep /swapfile") == "/swapfile"
    assert "203.0.113.9" in vm.output("timedatectl show-timesync --property=SystemNTPServers")
    assert vm.output("grep -c BEGIN /etc/ssl/certs/ca-certificates.crt") == "1"
    vm.run(
        "openssl verify /usr/local/share/ca-certificates/gandi-*.crt || test -e /etc/ssl/certs/gandi-*.pem"
    )

    assert "198.51.100.7/32" in vm.output("ip -4 -o addr show dev lo")
    checks.addresses(vm)
    resolvers(vm)
    assert "blackhole 198.51.100.128/25" in vm.output("ip route show type blackhole")
    assert "via 203.0.113.254" in vm.output("ip route show table 101")
    assert "from 198.51.100.7 lookup 101" in vm.output("ip rule")

    assert vm.read_file("/root/hook") == b"cc-1 inactive\n"
    assert sorted(vm.read_file("/root/order").split()) == [b"boot", b"run"]
    vm.wait_until("journalctl -b -u gandi-script | grep -q 'the lab is ready after'")
    told = [item["name"] for item in sample.items(vm, "bootstrap") if item["outcome"] == "skipped"]
    assert "user-data, part 1: puppet" in told

    before = vm.output("lsblk -nro NAME,UUID,PARTUUID /dev/disk/by-id/virtio-data")
    vm.run("sync")
    vm.reset()
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend; gandi-agent status")
    vm.wait_until("test $(grep -c boot /root/order) = 2")
    assert vm.read_file("/root/order").count(b"run") == 1
    assert vm.read_file("/root/hook") == b"cc-1 inactive\n" * 2
    assert vm.output("lsblk -nro NAME,UUID,PARTUUID /dev/disk/by-id/virtio-data") == before
    assert vm.output("findmnt -nro TARGET /mnt/lab") == "/mnt/lab"
    assert vm.output("swapon --show=NAME --noheadings | grep /swapfile") == "/swapfile"
