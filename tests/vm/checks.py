"""Checks in a guest that several tests share: the sample's machine, part by part, and what has changed since
the boot.
"""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from tests.vm import sample
from tests.vm.rig import Machine

#: Paths that Debian itself writes during a boot; any other changed path was written by something else.
SYSTEMS_OWN = (
    "/etc/machine-id",
    # Of dpkg-db-backup.timer, in a machine that is resumed after midnight.
    "/var/backups/*",
    "/var/lib/dbus/machine-id",
    "/var/lib/systemd/*",
    "/var/log/*",
    # Of xfs_scrub_all.timer, on Sundays.
    "/var/lib/xfsprogs/*",
)


def addresses(vm: Machine) -> None:
    """Check the sample's addresses and NICs, one default route per family, and that the gateways answer."""
    links = {link["address"]: link["ifname"] for link in vm.json("ip -j link")}
    public, private = links[sample.PUBLIC_NIC.mac], links[sample.PRIVATE_NIC.mac]
    assert {"203.0.113.10/24", "2001:db8::10/64"} <= cidrs(vm, public)
    assert "192.168.1.5/24" in cidrs(vm, private)
    assert not [c for c in cidrs(vm, public) if c.startswith("2001:db8::") and c != "2001:db8::10/64"]
    routes = vm.json("ip -j route show default")
    assert [(r["gateway"], r["dev"]) for r in routes] == [("203.0.113.254", public)]
    six = vm.json("ip -j -6 route show default")
    assert [(r["gateway"], r["dev"]) for r in six] == [("2001:db8::1", public)]
    vm.run("ping -c1 -W5 203.0.113.254")
    vm.run("ping -c1 -W5 2001:db8::1")


def cidrs(vm: Machine, link: str) -> set[str]:
    """Return the global addresses of a NIC."""
    found = vm.json(f"ip -j addr show dev {link} scope global")
    # With a filter, ip(8) prints an empty object for each address that does not match.
    return {f"{a['local']}/{a['prefixlen']}" for link in found for a in link.get("addr_info", ()) if a}


def resolvers(vm: Machine) -> None:
    """Check for two of the sample's IPv4 resolvers and its IPv6 one, with the options."""
    lines = vm.read_file("/etc/resolv.conf").decode().splitlines()
    servers = [line.split()[1] for line in lines if line.startswith("nameserver")]
    assert len(servers) == 3
    assert "2001:db8::3" in servers
    assert len([s for s in servers if s.startswith("203.0.113.")]) == 2
    assert "options timeout:1 attempts:3 rotate" in lines


def names(vm: Machine) -> None:
    """Check the sample's hostname, now and for the next boot, and that it resolves."""
    assert vm.output("cat /proc/sys/kernel/hostname") == "vm1"
    assert vm.read_file("/etc/hostname") == b"vm1\n"
    assert "vm1" in vm.output("grep -w vm1 /etc/hosts")
    assert vm.output("getent hosts vm1").split()[0] in ("203.0.113.10", "198.51.100.10")


def accounts(vm: Machine) -> None:
    """Check the sample's accounts, their passwords, groups and keys."""
    shadow = dict(line.split(":")[:2] for line in vm.read_file("/etc/shadow").decode().splitlines())
    assert shadow["root"] == sample.HASH
    assert shadow["admin1"] == sample.HASH
    assert "sudo" in vm.output("id -Gn admin1").split()
    for user, home in (("root", "/root"), ("admin1", "/home/admin1")):
        keys = vm.read_file(f"{home}/.ssh/authorized_keys").decode().splitlines()
        assert sorted(keys) == sorted([sample.KEY, sample.OTHER_KEY])
        asked = f"stat -c '%a %U' {home}/.ssh {home}/.ssh/authorized_keys"
        assert vm.output(asked).splitlines() == [f"700 {user}", f"600 {user}"]


def swap(vm: Machine) -> None:
    """Check that a partition or disk is used as swap, with the platform's label."""
    swaps = vm.output("swapon --noheadings --show=NAME,TYPE").split()
    assert swaps[1] == "partition"
    assert vm.output(f"blkid -p -o value -s LABEL {swaps[0]}") == "swap"


def grown(vm: Machine) -> None:
    """Check the size of a root disk that is made with 1.5 GB and started with 3."""
    vm.run("test $(df --output=size -B1M / | tail -1) -gt 2700")


def nothing_left_on(medium: Path) -> None:
    """Check that a disk has nothing of the sample's archive."""
    raw = medium.read_bytes()
    for secret in (sample.HASH, sample.SCRIPT_SECRET, "gandi/config"):
        assert secret.encode() not in raw, f"{secret[:20]} is still on the medium"


def changed_since(vm: Machine, moment: str) -> list[str]:
    """Return the files and links of the root filesystem with content or attributes changed after ``moment``
    (find(1), -newerct), except what Debian's own boot writes.
    """
    found = vm.output(["find", "/", "-xdev", "!", "-type", "d", "-newerct", moment]).splitlines()
    return sorted(name for name in found if not _any(name, SYSTEMS_OWN))


def changed_since_boot(vm: Machine) -> list[str]:
    """Return the same since this boot's first line in the journal, when / was still read-only. (The kernel's
    boot time moves with the clock of a resumed machine.)
    """
    first = vm.output("journalctl -b -o short-unix --no-pager | head -n1 | cut -d' ' -f1")
    return changed_since(vm, f"@{first}")


def stray(found: list[str], allowed: tuple[str, ...]) -> list[str]:
    """Return the paths that no pattern allows."""
    return [name for name in found if not _any(name, allowed)]


def _any(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def private_memory(vm: Machine) -> int:
    """Return the daemon's private memory in bytes."""
    rollup = vm.output("cat /proc/$(systemctl show -P MainPID gandi-agent)/smaps_rollup")
    lines = (line.split() for line in rollup.splitlines())
    return sum(int(line[1]) * 1024 for line in lines if line[0] in ("Private_Clean:", "Private_Dirty:"))
