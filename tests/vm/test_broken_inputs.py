"""Broken input of every kind: the boot completes, valid parts are applied, the error names the place and the
remedy, and nothing else is touched.

Each kind alone, and the reader's result byte by byte: tests/unit/reader, tests/system/test_swap*.py.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests import media
from tests.vm import checks, sample
from tests.vm.conftest import Rig
from tests.vm.rig import MIB, Disk, Image, Machine

#: Paths that the agent writes with or without a document.
ALWAYS = ("/etc/sysctl.d/10-gandi.conf", "/etc/update-motd.d/15-gandi", "/var/lib/gandi/*")
#: Paths that the agent writes when it applies a document, and those that the document's programs write.
WRITES = (
    "/etc/group*",
    "/etc/gshadow*",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/localtime",
    "/etc/passwd*",
    "/etc/resolv.conf",
    "/etc/shadow*",
    "/etc/ssh/ssh_host_*",
    "/etc/ssh/sshd_config.d/00-gandi.conf",
    "/etc/subgid*",
    "/etc/subuid*",
    "/etc/systemd/network/*gandi*",
    "/gandi/config",
    "/home/admin1/*",
    "/root/.ssh/authorized_keys",
    "/etc/sysctl.d/10-gandi-nics.conf",
    "/root/order",
    *ALWAYS,
)


def _broken() -> dict[str, Any]:
    """Return the sample with a bad item of each kind beside good ones."""
    config = copy.deepcopy(sample.CONFIG)
    config["vm_hostnme"] = "unknown key"
    config["nameservers"].insert(1, 7)
    config["vif"][1]["pna"][0]["pvn"]["pvn_network"] = "192.168.1.0/99"
    config["vif"][0]["pna"].append({"pna_address": ["wrong type"]})
    config["vif"].append("wrong type")
    config["vm_conf"] |= {
        "user": "Root User",
        "password": "a-password-in-plain-text",
        "pasword": sample.HASH,
        "ssh_key": f"{sample.KEY}\nssh-ed25519 AAAAC3Nza cut@short\n{sample.OTHER_KEY}\n",
        "script_args": "'never closed",
    }
    return config


#: Path of each bad item and the beginning of its remedy.
TOLD = {
    "nameservers[1]": "write for example 203.0.113.10",
    "vif[0].pna[2].pna_address": "write for example 203.0.113.10",
    "vif[1].pna[0].pvn.pvn_network": "write for example 203.0.113.0/24",
    "vif[2]": "write it in braces",
    "vm_conf.user": "write letters, digits",
    "vm_conf.password": "make one with: mkpasswd",
    "vm_conf.ssh_key line 2": "copy the .pub file again",
    "vm_conf.script_args": "close each quote",
}
UNKNOWN = {"vm_hostnme": "did you mean vm_hostname?", "vm_conf.pasword": "did you mean password?"}


def test_every_kind_of_bad_item_at_once(machine: Rig, platform_image: Image, tmp_path: Path) -> None:
    vm = machine.start(platform_image, sample.SPEC, disks=[sample.swap_disk(tmp_path, _broken())])
    assert vm.wait_booted() == "degraded"
    assert vm.output("systemctl --failed --no-legend --plain").split()[0] == "gandi-bootstrap.service"
    assert len(vm.output("systemctl --failed --no-legend --plain").splitlines()) == 1
    assert vm.output("systemctl is-active ssh") == "active"
    vm.wait_until("grep -q ^run /root/order")
    _good_parts(vm)
    _told(vm)
    assert not checks.stray(checks.changed_since_boot(vm), WRITES)


def _good_parts(vm: Machine) -> None:
    found = sample.steps(vm, "bootstrap")
    assert [step for step, outcome in found.items() if outcome == "failed"] == ["source"]
    assert {found[step] for step in ("swap", "hostname", "network", "resolver", "users")} == {"changed"}
    assert vm.output("cat /proc/sys/kernel/hostname") == "vm1"
    checks.addresses(vm)
    checks.resolvers(vm)
    keys = vm.read_file("/root/.ssh/authorized_keys").decode().splitlines()
    assert keys == [sample.KEY, sample.OTHER_KEY]
    assert vm.output("swapon --noheadings --show=NAME")
    assert sample.order(vm) == ["run in /"], "a script whose arguments cannot be read is not run"
    assert vm.output("awk -F: '$3 >= 1000 && $3 < 60000 {print $1}' /etc/passwd") == ""
    assert vm.output("grep ^root: /etc/shadow").split(":")[1] in ("*", "!", "")


def _told(vm: Machine) -> None:
    done = vm.run("gandi-agent status", check=False)
    assert done.rc == 1
    views = {"status": done.stdout, "journal": vm.journal("gandi-bootstrap")}
    for place, text in views.items():
        for word, paths in (("failed", TOLD), ("skipped", UNKNOWN)):
            for path, hint in paths.items():
                lines = [line for line in text.splitlines() if f"{word}: {path}: " in line]
                assert lines, f"{path} is not in the {place}:\n{text}"
                assert hint in lines[0], f"{place}: {lines[0]}"
        assert "a-password-in-plain-text" not in text


def test_no_archive_at_all(booted: Machine) -> None:
    """Without a medium nothing fails: NICs get DHCP, and the status says that there is none."""
    vm = booted
    assert vm.output("systemctl is-system-running") == "running", vm.output("systemctl --failed")
    assert "10.0.2." in vm.output("ip -br -4 addr show scope global")
    assert vm.output("systemctl show -P Result gandi-bootstrap") == "success"
    status = vm.output("gandi-agent status")
    assert "instance: none yet" in status
    assert "no medium, nothing stored: no configuration" in status
    assert "failed" not in status.replace("nothing failed", "", 1)
    assert vm.output("cat /etc/hostname") == "debian"
    assert not checks.stray(checks.changed_since_boot(vm), ALWAYS)


def _cut_short(archive: bytes) -> bytes:
    """Return an archive without the second half of its script, on a disk that ends there."""
    return archive[: archive.index(b"#!/bin/sh") + 5]


GOOD_DOCUMENT = json.dumps(sample.CONFIG).encode()
FIFTY = json.dumps(sample.CONFIG | {"vm_hostname": "x" * (50 * MIB)}).encode()
BROKEN = {
    "tar cut short": (GOOD_DOCUMENT, "the archive: cut short", "vm1"),
    "hostile members": (GOOD_DOCUMENT, "gandi/script: a symbolic link, not a regular file", "vm1"),
    "JSON cut short": (GOOD_DOCUMENT[:-40], "gandi/config: not JSON", "debian"),
    "a string of 50 MB": (FIFTY, "vm_hostname: not a host name", "debian"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_archive(booted: Machine, tmp_path: Path, kind: str) -> None:
    """It is read by a bootstrap stage that is started again: what a boot does, without the boot."""
    document, said, name = BROKEN[kind]
    archive = media.make_archive(document, script=sample.SCRIPT)
    if kind == "hostile members":
        archive = b"".join(media.HOSTILE.values()) + archive
    if kind == "tar cut short":
        archive = _cut_short(archive)
    size = media.OFFSET + -(-len(archive) // media.SECTOR) * media.SECTOR
    disk = tmp_path / "swap.img"
    media.swap_image(disk, size if kind == "tar cut short" else size + 64 * MIB, archive=archive)
    before = disk.read_bytes()
    began = booted.output("date +@%s.%N")
    booted.add_disk(Disk(path=disk, id="swap"))
    booted.wait_until(f"lsblk -bdno SIZE | grep -q {disk.stat().st_size} && udevadm settle")
    assert booted.output("cat /etc/hostname") == "debian", "an archive that arrives is not read"
    assert disk.read_bytes() == before

    done = booted.run("systemctl restart gandi-bootstrap", check=False, timeout=120)
    assert done.rc == 1
    lines = [line for line in booted.output("gandi-agent status || true").splitlines() if said in line]
    assert lines, booted.output("gandi-agent status || true")
    assert "(" in lines[0], "names the remedy"
    assert booted.output("cat /etc/hostname") == name
    assert booted.output("systemctl is-active ssh gandi-agent").split() == ["active", "active"]
    assert not checks.stray(checks.changed_since(booted, began), WRITES)
    booted.run("! ls -d /etc/cron.d/evil /evil /dev/evil /gandi/evil")
    booted.run("sync")
    if kind in ("tar cut short", "JSON cut short"):
        assert disk.read_bytes() == before, "what could not be read is not wiped"
    else:
        assert sample.HASH.encode() not in disk.read_bytes()
