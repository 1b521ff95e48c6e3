"""The same image on each platform, configured by the platform's drive."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from tests import drives
from tests.vm import checks, sample
from tests.vm.conftest import Rig
from tests.vm.delivered import (
    NATIVE,
    NETWORK,
    NEW_PASSWORD,
    PASSWORD,
    SCRIPT,
    UUID,
    boot,
    delivered,
    drive,
    is_nowhere,
    keys,
    leases,
    named,
    password_is,
    resolvers,
    scripted,
)
from tests.vm.rig import Bus, Image, State, booted

#: Two parts; the second has a key that the agent does not know.
PARTS = f"""\
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="=="

--==
Content-Type: text/x-shellscript

{SCRIPT.decode()}
--==
Content-Type: text/cloud-config

timezone: Europe/Paris
puppet: {{install: true}}
write_files: [{{path: /etc/part, content: x, owner: "nobody:root", permissions: "0640"}}]
--==--
"""


@pytest.mark.long
def test_cloudstack(machine: Rig, platform_image: Image, tmp_path: Path) -> None:
    """The older drive: ISO level 3 without Rock Ridge, at a boot; then stages started again without it, and
    password resets at run time.
    """
    content = dict(
        drives.cloudstack(
            password=PASSWORD + "\r\n",
            public_keys=sample.KEY,
            local_ipv4="02:00:4c:9f:00:0a",
            service_offering="Small",
            user_data=SCRIPT.decode(),
        )
    )
    # An older version's spelling of the file's name.
    content["cloudstack/metadata/local_hostname.txt"] = content.pop("cloudstack/metadata/local-hostname.txt")
    first = drives.make_iso(tmp_path / "1.iso", content, "config", drives.PLAIN)
    vm = boot(machine, platform_image, drive(first))
    named(vm, "cs1")
    assert keys(vm) == [sample.KEY]
    assert password_is(vm, "root", PASSWORD)
    is_nowhere(vm, PASSWORD)
    scripted(vm)
    leases(vm)

    def with_password(number: int, password: str, name: str, kind: tuple[str, ...] = drives.PLAIN) -> Path:
        more = content | {
            "cloudstack/password/vm_password.txt": password.encode(),
            "cloudstack/metadata/local_hostname.txt": name.encode(),
        }
        return drives.make_iso(tmp_path / f"{number}.iso", more, "config", kind)

    # What a boot without the drive does.
    vm.remove_disk("drive")
    delivered(vm)
    assert vm.output("systemctl is-system-running") == "running", vm.output("gandi-agent status")
    assert sample.steps(vm, "bootstrap")["users"] == "unchanged"
    named(vm, "cs1")
    assert password_is(vm, "root", PASSWORD)
    assert keys(vm) == [sample.KEY]
    assert sample.order(vm) == ["user data"]
    vm.add_disk(drive(with_password(2, "saved_password", "cs2")))
    vm.wait_until(f"hostname | grep -qx cs2 && grep -q '\"work\": *{{}}' {sample.STATUS}", interval=0.5)
    named(vm, "cs2")
    assert password_is(vm, "root", PASSWORD)
    # Names of eight letters and three: CLOUDSTA/PASSWORD/VM_PASSW.TXT.
    former = vm.output("grep ^root: /etc/shadow")
    vm.change_medium("drive", with_password(3, NEW_PASSWORD, "cs3", drives.SHORT))
    # Not the status: the tray's second event replaces what it says of the drive.
    vm.wait_until(f"! grep -qxF '{former}' /etc/shadow", interval=0.5)
    assert password_is(vm, "root", NEW_PASSWORD)
    named(vm, "cs3")
    is_nowhere(vm, NEW_PASSWORD)


def test_cloudstack_with_the_other_label_and_a_hostile_tree(
    machine: Rig, platform: State, tmp_path: Path
) -> None:
    """The newer drive, with Rock Ridge, on a disk; it holds links and devices. By stages started again."""
    tree = tmp_path / "tree"
    tree.mkdir()
    drives.write_tree(tree, drives.cloudstack(public_keys=sample.KEY, user_data=SCRIPT.decode()))
    (tree / "cloudstack/password").mkdir()
    (tree / "cloudstack/password/vm_password.txt").symlink_to("/etc/hostname")
    (tree / "openstack/latest/user_data").symlink_to("../../../../../../etc/shadow")
    os.mknod(tree / "cloudstack/metadata/zone.txt", 0o20666, os.makedev(1, 5))
    os.mkfifo(tree / "cloudstack/metadata/pipe.txt")
    iso = drives.make_iso(tmp_path / "d.iso", tree, "config-2", ("-R", "-J"))
    vm = delivered(machine.clone(platform), drive(iso, bus=Bus.VIRTIO))
    # The tree's failures are the stage's.
    assert vm.output("systemctl is-system-running || true") == "degraded"
    named(vm, "cs1")
    assert keys(vm) == [sample.KEY]
    assert vm.output("grep ^root: /etc/shadow").split(":")[1] in ("*", "!", "!*", "")
    scripted(vm)
    leases(vm)
    told = {item["name"] for item in sample.items(vm, "bootstrap") if item["outcome"] == "failed"}
    assert {"cloudstack/password/vm_password.txt", "openstack/latest/user_data"} <= told
    assert "cloudstack/metadata/zone.txt" in told
    assert vm.output("findmnt -rno TARGET -t iso9660 || true") == ""


@pytest.mark.long
@pytest.mark.parametrize("kind", ["iso", "vfat"])
def test_openstack(machine: Rig, platform: State, platform_image: Image, tmp_path: Path, kind: str) -> None:
    """User data as a script, by stages started again; then compressed and multipart, at a boot."""
    content = drives.openstack(
        UUID,
        network=NETWORK,
        user_data=SCRIPT if kind == "vfat" else gzip.compress(PARTS.encode()),
        public_keys={"me": sample.KEY},
        keys=[{"name": "me", "type": "ssh", "data": sample.KEY}],
        admin_pass=PASSWORD,
        meta={"role": "web"},
    )
    if kind == "vfat":
        vfat = drives.make_vfat(tmp_path / "d.img", content, "config-2")
        vm = delivered(machine.clone(platform), drive(vfat, bus=Bus.VIRTIO))
        assert vm.output("systemctl is-system-running") == "running", vm.output("gandi-agent status")
    else:
        iso = drives.make_iso(tmp_path / "d.iso", content, "config-2")
        vm = boot(machine, platform_image, drive(iso))
        assert vm.output("stat -c %a:%U /etc/part") == "640:nobody"
        assert vm.output("readlink /etc/localtime") == "/usr/share/zoneinfo/Europe/Paris"
        said = vm.journal("gandi-bootstrap")
        assert said.count("user_data, part 2: puppet") == 1, said
    named(vm, "os1")
    assert keys(vm) == [sample.KEY]
    assert password_is(vm, "root", PASSWORD)
    is_nowhere(vm, PASSWORD)
    scripted(vm)
    public = next(
        link["ifname"] for link in vm.json("ip -j link") if link["address"] == sample.PUBLIC_NIC.mac
    )
    vm.wait_until(
        f"ip -br addr show dev {public} | grep -F 203.0.113.10/24 | grep -F 2001:db8::10/64", interval=0.5
    )
    vm.wait_until("test $(ip route show default | wc -l) = 1", interval=0.5)
    (route,) = vm.json("ip -j route show default")
    assert (route["gateway"], route["dev"]) == ("203.0.113.254", public)
    vm.run("ping -c1 -W5 203.0.113.254")
    resolvers(vm)
    assert UUID in vm.output("gandi-agent status")


def test_nocloud_without_a_yaml_library(machine: Rig, image: Image, tmp_path: Path) -> None:
    """What is JSON is applied; the rest is reported with its remedy. By stages started again; a boot is in
    test_cloud_config.py.
    """
    meta = {"instance-id": "nc-1", "local-hostname": "nc1", "public-keys": [sample.KEY]}
    content = {
        "meta-data": json.dumps(meta).encode(),
        "user-data": b"#cloud-config\ntimezone: Europe/Paris\n",
    }
    vfat = drives.make_vfat(tmp_path / "d.img", content, "cidata")
    vm = delivered(machine.clone(booted(image)), drive(vfat, bus=Bus.VIRTIO))
    assert vm.output("systemctl is-system-running || true") == "degraded"
    named(vm, "nc1")
    assert keys(vm) == [sample.KEY]
    (failed,) = [item for item in sample.items(vm, "bootstrap") if item["outcome"] == "failed"]
    assert failed["name"] == "user-data"
    assert "YAML, and the library that reads it is not installed" in failed["detail"]
    assert "install python3-yaml" in failed["hint"]


@pytest.mark.long
def test_native(machine: Rig, platform: State, tmp_path: Path) -> None:
    """By stages started again; then a boot with nothing new: no parser is started, and no file is written. A
    first boot with the native form is in test_plan.py.
    """
    disk = drive(drives.make_iso(tmp_path / "d.iso", drives.native(NATIVE), "gandi"), bus=Bus.VIRTIO)
    vm = delivered(machine.clone(platform), disk)
    assert vm.output("systemctl is-system-running") == "running", vm.output("gandi-agent status")
    named(vm, "nd1")
    assert keys(vm, "/home/admin1") == [sample.KEY]
    assert vm.output("grep ^admin1: /etc/shadow").split(":")[1] == sample.HASH
    scripted(vm)
    checks.addresses(vm)
    resolvers(vm)
    vm.run("sync")
    vm.cut_power()
    vm.cold_boot(disks=[disk])
    assert vm.wait_booted() == "running"
    source = next(item for item in sample.items(vm, "bootstrap") if item["name"] == "source")
    assert (source["outcome"], source["detail"]) == ("unchanged", "/dev/vdb, delivered again")
    assert sample.order(vm) == ["user data"]
