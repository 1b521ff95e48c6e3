"""Images that are planned, and configured without root, before they boot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.host.host import Host
from agent.image import seed
from tests.system.ordinary import UID, Ordinary, appliance, reachable
from tests.vm import checks, sample
from tests.vm.conftest import Rig
from tests.vm.delivered import drive
from tests.vm.rig import Image, Machine, MachineSpec, copy_disk

SPEC = MachineSpec(nics=(sample.PUBLIC_NIC,), root_size=sample.ROOT_SIZE)
DOCUMENT = {
    "version": 1,
    "id": "image-1",
    "hostname": "vm1.example.org",
    "timezone": "Europe/Paris",
    "nameservers": ["203.0.113.3"],
    "nics": [
        {
            "mac": sample.PUBLIC_NIC.mac,
            "addresses": ["203.0.113.10/24"],
            "routes": [{"to": "default", "via": "203.0.113.254"}],
        }
    ],
    "users": [
        {"name": "root", "password": sample.HASH},
        {"name": "admin1", "keys": [sample.KEY], "admin": True, "groups": ["users"]},
    ],
    "files": [{"path": "/etc/injected", "content": "text\n", "mode": "0600", "owner": "admin1"}],
    "scripts": [{"content": "#!/bin/sh\necho once >> /root/order\n"}],
    "metadata": {"zone": "paris"},
    "boot": [{"name": "early", "content": "true\n"}],
}
STAGES = ("bootstrap", "mount", "config", "postboot")
AT_BOOT = "known at the boot"
Outcome = tuple[str, str, str]


def planned(text: str) -> tuple[set[Outcome], set[tuple[str, str]]]:
    """Return the items of a printed plan (step, item, outcome), and the steps and items of the boot."""
    items, left, step = set[Outcome](), set[tuple[str, str]](), ""
    for line in text.splitlines():
        depth, words = len(line) - len(line.lstrip()), line.strip()
        if depth == 2:
            step, _, outcome = words.partition(": ")
            if outcome.startswith(AT_BOOT):
                left.add((step, step))
        elif depth == 4:
            known = (AT_BOOT, *OUTCOMES)
            found = min((f": {o}" for o in known if f": {o}" in words), key=words.index)
            item = words.partition(found)[0]
            if found == f": {AT_BOOT}":
                left.add((step, item))
            else:
                items.add((step, item, OUTCOMES[found[2:]]))
    return items, left


#: The words of a plan -> those of a boot.
OUTCOMES = {
    "would change": "changed",
    "would fail": "failed",
    "unchanged": "unchanged",
    "kept": "kept",
    "skipped": "skipped",
}


def booted(vm: Machine, left: set[tuple[str, str]]) -> set[Outcome]:
    """Return the items of the boot without those that a plan leaves to it. A step that is left as such has
    items that no plan names.
    """
    status = json.loads(vm.read_file("/run/gandi/status.json"))
    items = {
        (step["step"], item["name"], item["outcome"])
        for stage in STAGES
        for step in status["stages"][stage]["steps"]
        for item in step["items"]
    }
    planned_too = {"network", "timezone"}
    whole = {step for step, item in left if step == item and step not in planned_too}
    return {
        (step, item, outcome)
        for step, item, outcome in items
        if step not in whole and (step, item) not in left and not item.startswith("dhcp:")
    }


def side_by_side(plan: set[Outcome], boot: set[Outcome]) -> str:
    """Return both lists as a table: what only one has is marked."""
    lines = [f"  {'plan':<60}boot"]
    for one in sorted(plan | boot):
        text = " ".join(one)
        mark = " " if one in plan and one in boot else "*"
        lines.append(f"{mark} {text if one in plan else '':<60}{text if one in boot else ''}")
    return "\n".join(lines)


def test_a_first_boot_does_what_its_plan_says(machine: Rig, image: Image, tmp_path: Path) -> None:
    document, iso = tmp_path / "document.json", tmp_path / "drive.iso"
    document.write_text(json.dumps(DOCUMENT))
    # Not the image itself: it is in use while another test's machine has its disk on it.
    disk = copy_disk(image.disk, tmp_path / "root.img")
    command = (sys.executable, "-m", "agent", "plan", "--image", disk, "--source", document)
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    plan, left = planned(said := done.stdout)
    seed.iso(Host(), str(iso), seed.drive(document.read_bytes()))
    vm = machine.start(image, SPEC, disks=[drive(iso)])
    assert vm.wait_booted() == "running", vm.output("gandi-agent status")
    boot = booted(vm, left)
    assert plan == boot, f"\n{side_by_side(plan, boot)}\n\n{said}"
    assert {"source", "users", "network", "ssh", "sysctl", "motd", "files"} <= {step for step, _, _ in plan}


@pytest.fixture
def place() -> Iterator[Path]:
    with reachable() as folder:
        yield folder


def test_a_user_without_root_makes_the_image_of_a_machine(machine: Rig, image: Image, place: Path) -> None:
    """By a throw-away machine, which has a kernel that the user may read. A plan by one, which changes no
    byte, is in tests/system/test_unprivileged.py.
    """
    user = Ordinary(place / "user")
    mine, document = user.home / "root.img", json.dumps(DOCUMENT)
    subprocess.run(("cp", "--sparse=always", image.disk, mine), check=True)
    os.chown(mine, UID, UID)
    how = appliance(place)
    said = user.run(
        "apply", "--image", str(mine), "--source", "-", stdin=document, timeout=900, environment=how
    )
    assert "left to the first boot, which grows the root to its disk" in said
    assert "failed" not in said, said
    folder = place / "image"
    folder.mkdir()
    for path in image.folder.iterdir():
        (folder / path.name).symlink_to(mine if path.name == "root.img" else path)
    vm = machine.start(Image(folder, image.root_uuid), SPEC)
    assert vm.wait_booted() == "running", vm.output("gandi-agent status")
    assert vm.output("cat /proc/sys/kernel/hostname") == "vm1.example.org"
    links = {link["address"]: link["ifname"] for link in vm.json("ip -j link")}
    assert "203.0.113.10/24" in checks.cidrs(vm, links[sample.PUBLIC_NIC.mac])
    assert f"root:{sample.HASH}:" in vm.output("grep ^root: /etc/shadow")
    assert vm.read_file("/home/admin1/.ssh/authorized_keys").decode() == f"{sample.KEY}\n"
    places = "/home/admin1 /home/admin1/.ssh/authorized_keys /etc/injected /etc/shadow /var/lib/gandi"
    assert vm.output(f"stat -c '%U:%G %a' {places}").splitlines() == [
        "admin1:admin1 700",
        "admin1:admin1 600",
        "admin1:root 600",
        "root:shadow 640",
        "root:root 700",
    ]
    vm.wait_until("test -e /root/order")
    vm.wait_until("test $(df --output=size -B1M / | tail -1) -gt 2700")
    found = sample.steps(vm, "bootstrap")
    for step in ("source", "hostname", "network", "resolver", "users", "files"):
        assert found[step] == "unchanged", vm.output("gandi-agent status")
    assert vm.output("gandi-agent status --format=short").endswith("nothing failed")
