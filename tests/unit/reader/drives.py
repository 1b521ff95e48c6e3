"""Drives as the platforms make them, as files by name, for tests to change."""

from __future__ import annotations

import json
from typing import Any

from tests.unit.reader.dialects.test_gandi import HASH, key

MAC = "fa:16:3e:dd:50:9a"

NETWORK_DATA: dict[str, Any] = {
    "links": [
        {"ethernet_mac_address": MAC, "mtu": 1500, "type": "vif", "id": "l0", "vif_id": "v0"},
        {"ethernet_mac_address": "FA:16:3E:00:00:01", "mtu": None, "type": "phy", "id": "p1"},
        {"ethernet_mac_address": "fa:16:3e:00:00:02", "type": "phy", "id": "p2"},
        {
            "ethernet_mac_address": "fa:16:3e:00:00:01",
            "type": "bond",
            "id": "bond0",
            "bond_mode": "802.3ad",
            "bond_links": ["p1", "p2"],
            "bond_miimon": 100,
            "bond_xmit_hash_policy": "layer3+4",
        },
        {
            "type": "vlan",
            "id": "vlan-of-tenant-7",
            "vlan_id": 7,
            "vlan_link": "bond0",
            "vlan_mac_address": None,
        },
    ],
    "networks": [
        {
            "network_id": "n0",
            "type": "ipv4",
            "netmask": "255.255.255.248",
            "link": "l0",
            "ip_address": "198.51.100.10",
            "id": "n0-ipv4",
            "routes": [{"netmask": "0.0.0.0", "network": "0.0.0.0", "gateway": "198.51.100.9"}],
        },
        {
            "type": "ipv6",
            "netmask": "ffff:ffff:ffff:ffff::",
            "link": "l0",
            "ip_address": "2001:db8::10",
            "id": "n0-ipv6",
            "routes": [{"netmask": "::", "network": "::", "gateway": "2001:db8::1"}],
            "services": [{"type": "dns", "address": "2001:db8::53"}],
        },
        {"type": "ipv4_dhcp", "link": "bond0", "id": "n1"},
        {"type": "ipv6", "link": "vlan-of-tenant-7", "id": "n2", "ip_address": "2001:db8:7::2/64"},
    ],
    "services": [{"address": "198.51.100.1", "type": "dns"}],
}

META_DATA: dict[str, Any] = {
    "uuid": "83679162-1378-4288-a2d4-70e13ec132aa",
    "hostname": "vm1.novalocal",
    "name": "vm1",
    "availability_zone": "nova",
    "launch_index": 0,
    "project_id": "f7ac731cc11f40efbc03a9f9e1d1d21f",
    "public_keys": {"mykey": key("one") + "\n"},
    "keys": [
        {"name": "mykey", "type": "ssh", "data": key("one")},
        {"name": "win", "type": "x509", "data": "-----BEGIN CERTIFICATE-----"},
    ],
    "meta": {"role": "web", "admin_pass": "s3cr3t"},
    "files": [{"path": "/etc/banner", "content_path": "/content/0000"}],
    "admin_pass": "s3cr3t",
    "random_seed": "bm9pc2U=",
    "devices": [],
    "dedicated_cpus": [],
}

CLOUD_CONFIG = f"""#cloud-config
hostname: from-user-data
users:
  - default
  - name: bob
    gecos: Bob
    groups: [adm, "www-data"]
    sudo: ALL=(ALL) NOPASSWD:ALL
    shell: /bin/bash
    ssh_authorized_keys:
      - {key("bob")}
    passwd: {HASH}
    lock_passwd: false
  - name: alice
    gecos: Alice
write_files:
  - path: /etc/motd
    content: |
      hello
    owner: root:adm
    permissions: 0640
  - {{path: /etc/packed, encoding: b64, content: aGVsbG8=}}
bootcmd:
  - echo early
runcmd:
  - [touch, /root/a b]
  - echo done > /root/done
timezone: Europe/Paris
packages: [nginx]
package_update: true
"""

NETPLAN = """network:
  version: 2
  ethernets:
    lan:
      match: {macaddress: 52:54:00:12:34:56}
      set-name: lan0
      dhcp4: true
      optional: true
    enp2s0: {}
    enp3s0: {mtu: 9000}
  bonds:
    bond0:
      interfaces: [enp2s0, enp3s0]
      parameters: {mode: 802.3ad, mii-monitor-interval: 100, lacp-rate: fast, transmit-hash-policy: layer3+4}
      addresses: [10.0.0.5/24, "2001:db8::5/64"]
      nameservers: {search: [lab], addresses: [192.0.2.53]}
      routes:
      - {to: default, via: 10.0.0.1, metric: 100}
      - {to: default, via: "fe80::1"}
      - {to: 10.9.0.0/16, via: 192.168.9.1, on-link: yes}
  vlans: {v7: {id: 7, link: bond0}}
  bridges: {br0: {interfaces: [v7], dhcp6: yes}}
"""

VERSION_1 = """version: 1
config:
- type: physical
  name: eth0
  mac_address: "52:54:00:12:34:56"
  subnets:
  - {type: static, address: 192.168.23.14/27, gateway: 192.168.23.1, dns_nameservers: [192.168.23.2],
     dns_search: [example.org]}
  - {type: static6, address: "2001:db8::14", netmask: 64, gateway: "2001:db8::1"}
- {type: physical, name: eth1}
- {type: physical, name: eth2}
- type: bond
  name: bond0
  bond_interfaces: [eth1, eth2]
  params: {bond-mode: 4, bond-miimon: 100}
  subnets:
  - type: static
    address: 10.0.0.2
    netmask: 255.255.255.0
    routes: [{network: 10.8.0.0, netmask: 255.255.0.0, gateway: 10.0.0.254}]
- {type: vlan, name: eth0.5, vlan_link: eth0, vlan_id: 5,
   subnets: [{type: dhcp, control: manual}]}
- {type: nameserver, address: 192.0.2.53, search: [lab]}
- {type: route, destination: 10.2.0.0/16, gateway: 10.0.0.1, metric: 7}
"""

NATIVE: dict[str, Any] = {
    "version": 1,
    "id": "vm-1",
    "hostname": "vm1.example.org",
    "timezone": "Etc/UTC",
    "nameservers": ["192.0.2.53"],
    "search": ["example.org"],
    "nics": [
        {
            "mac": MAC,
            "number": 0,
            "addresses": ["203.0.113.10/32"],
            "routes": [{"to": "default", "via": "203.0.113.1"}],
        },
        {"name": "eth1"},
        {"name": "eth2"},
        {"kind": "bond", "name": "bond0", "ports": ["eth1", "eth2"], "bond": {"primary": "eth2"}},
        {"kind": "vlan", "name": "v5", "parent": "bond0", "vlan": 5, "optional": True},
        {"kind": "bridge", "name": "br0", "ports": ["v5"], "dhcp4": True, "dhcp6": True},
    ],
    "users": [
        {"name": "", "keys": [key("me")]},
        {"name": "bob", "password": HASH, "groups": ["adm"], "shell": "/bin/sh", "sudo": ["ALL=(ALL) ALL"]},
        {"name": "carol", "plain_password": "s3cr3t"},
    ],
    "scripts": [{"name": "hello", "content": "#!/bin/sh\necho hello\n", "arguments": ["a b"]}],
    "boot": [{"content": "ZWNobyBib290Cg==", "encoding": "base64"}],
    "files": [{"path": "/etc/motd", "content": "hello\n", "mode": "0640", "group": "adm"}],
    "metadata": {"zone": "par1", "size": 3},
    "consoles": ["ttyS0", "hvc0"],
    "swap": {"size": "1G", "path": "/var/swap", "maxsize": 1 << 29},
}


def openstack(version: str = "latest", **changes: Any) -> dict[str, bytes]:
    """Return an OpenStack drive with changes of meta_data.json."""
    folder = f"openstack/{version}"
    return {
        f"{folder}/meta_data.json": json.dumps(META_DATA | changes).encode(),
        f"{folder}/network_data.json": json.dumps(NETWORK_DATA).encode(),
        f"{folder}/vendor_data.json": b"{}",
        f"{folder}/user_data": CLOUD_CONFIG.encode(),
        "openstack/content/0000": b"banner\n",
    }


def cloudstack(**changes: bytes) -> dict[str, bytes]:
    """Return a CloudStack drive with changes of its metadata (``local_ipv4``)."""
    metadata = {
        "service_offering": b"Small",
        "availability_zone": b"zone-1",
        "local_hostname": b"VM-1",
        "local_ipv4": b"203.0.113.10",
        "instance_id": b"i-2-3-VM",
        "vm_id": b"8e5a2d10-0000-4000-8000-000000000001",
        "public_keys": key("cs").encode(),
    }
    files = {
        f"cloudstack/metadata/{name.replace('_', '-')}.txt": content
        for name, content in (metadata | changes).items()
    }
    return files | {
        "cloudstack/userdata/user_data.txt": b"#!/bin/sh\necho hello\n",
        "cloudstack/password/vm_password.txt": b"n3wPass",
        "openstack/latest/meta_data.json": b"{}",
        "openstack/latest/network_data.json": b"{}",
        "openstack/latest/vendor_data.json": b"{}",
    }


def nocloud(network: str = NETPLAN) -> dict[str, bytes]:
    """Return a NoCloud drive."""
    meta = f"instance-id: 2026-01-01\nlocal-hostname: vm1\npublic-keys:\n- {key('nc')}\n"
    return {
        "meta-data": meta.encode(),
        "user-data": CLOUD_CONFIG.encode(),
        "network-config": network.encode(),
        "vendor-data": b"#cloud-config\nhostname: vendor\nruncmd: [echo vendor]\n",
    }


def native(**changes: Any) -> dict[str, bytes]:
    """Return a native drive with changes of its document."""
    return {"gandi.json": json.dumps(NATIVE | changes).encode()}
