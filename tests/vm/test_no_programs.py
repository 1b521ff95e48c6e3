"""A disk of which no program was run (``apply --image --no-programs``) boots, and its users log in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.vm import checks, sample
from tests.vm.conftest import Rig
from tests.vm.rig import Image, ImageSpec, MachineSpec, newest_deb
from tests.vm.rig.image import copy_kernel, settle
from tests.vm.rig.rootdisk import write_disk
from tests.vm.rig.tree import merged

PASSWORD = "correct horse: battery"
#: A rule that only visudo can judge: the first boot writes it.
RULE = "ALL = (root) NOPASSWD: /usr/bin/id, !/usr/bin/su"
SSH = "ssh -o StrictHostKeyChecking=no -o PreferredAuthentications"


def _document(key: str) -> dict[str, object]:
    return {
        "version": 1,
        "id": "image-1",
        "hostname": "vm1.example.org",
        "nics": [{"mac": sample.PUBLIC_NIC.mac, "addresses": ["203.0.113.10/24"]}],
        "users": [
            {
                "name": "admin1",
                "keys": [key],
                "plain_password": PASSWORD,
                "admin": True,
                "groups": ["staff1"],
                "sudo": [RULE],
            },
            {"name": "second", "sudo": ["ALL=(ALL) NOPASSWD:ALL"]},
        ],
        "files": [{"path": "/etc/injected", "content": "text\n", "owner": "admin1"}],
    }


def test_a_disk_of_which_nothing_was_run_boots_and_its_users_log_in(machine: Rig, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me@home", "-f", key], check=True)
    spec = ImageSpec(debs=(newest_deb(),))
    with merged(spec) as tree:
        settle(tree, spec)
        copy_kernel(tree, tmp_path, spec.root_fs)
        image = Image(tmp_path, write_disk(tree, spec, tmp_path / "root.img"))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "agent", "apply", "--no-programs"),
            *("--image", str(tmp_path / "root.img"), "--source", "-"),
        ],
        input=json.dumps(_document(key.with_suffix(".pub").read_text().strip("\n"))),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped: sudo:admin1: left to the first boot: it needs visudo of the image" in done.stdout
    assert "user:admin1, " in done.stdout

    vm = machine.start(image, MachineSpec(nics=(sample.PUBLIC_NIC,), root_size=sample.ROOT_SIZE))
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend; gandi-agent status")
    assert vm.output("cat /proc/sys/kernel/hostname") == "vm1.example.org"
    links = {link["address"]: link["ifname"] for link in vm.json("ip -j link")}
    assert "203.0.113.10/24" in checks.cidrs(vm, links[sample.PUBLIC_NIC.mac])
    # The system's own checks of the files that the agent has written.
    vm.run("pwck -qr; grpck -r")
    vm.write_file("/root/key", key.read_bytes())
    vm.write_file("/root/word", f"#!/bin/sh\necho '{PASSWORD}'\n".encode())
    vm.run("chmod 600 /root/key; chmod 700 /root/word")
    by_key = vm.output(f"{SSH}=publickey -i /root/key admin1@127.0.0.1 'id -un; pwd; id -Gn'")
    assert by_key.splitlines()[:2] == ["admin1", "/home/admin1"]
    assert {"admin1", "sudo", "staff1"} <= set(by_key.splitlines()[2].split(" "))
    asked = f"SSH_ASKPASS=/root/word SSH_ASKPASS_REQUIRE=force {SSH}=password"
    assert vm.output(f"{asked} admin1@127.0.0.1 sudo -n id -un") == "root"
    assert vm.output("runuser -u second -- sudo -n id -un") == "root"
    assert vm.read_file("/etc/sudoers.d/90-gandi-agent-admin1").decode() == f"admin1 {RULE}\n"
    assert vm.output("stat -c '%U %a' /etc/injected /home/admin1") == "admin1 644\nadmin1 700"
    # What was done in the files is recognised, and what was left is done.
    items = vm.json("gandi-agent status --json")["stages"]["bootstrap"]["steps"]
    users = {item["name"]: item["outcome"] for s in items if s["step"] == "users" for item in s["items"]}
    assert {name for name, outcome in users.items() if outcome == "changed"} == {"sudo:admin1"}
    assert vm.output("gandi-agent status --format=short").endswith("nothing failed")
