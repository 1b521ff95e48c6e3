"""A machine that applies only signed documents: trusted keys, drives in each wrong form, and a right one."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests import drives
from tests.vm import sample, test_settled
from tests.vm.conftest import Rig
from tests.vm.delivered import SCRIPT, UUID, drive
from tests.vm.rig import Machine, State

#: The UUID of another machine.
OTHER = UUID


def _key(folder: Path, name: str) -> str:
    """Make a key of the operator's; return its line for the trusted keys."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    kind, public, *_ = (folder / f"{name}.pub").read_text().split()
    return f'platform namespaces="gandi-agent" {kind} {public}\n'


def _signature(key: Path, document: bytes) -> bytes:
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", "gandi-agent", "-f", str(key)]
    return subprocess.run(argv, input=document, check=True, capture_output=True).stdout


def _refusal(vm: Machine, why: str, *, exit_status: int = 0) -> None:
    """Wait until the drive is refused by name, and check that it has changed nothing.

    The exit status is that of ``gandi-agent status``: 1 after a failed stage, 0 after a failed device.
    """
    vm.wait_until(f"grep -q '{why}' {sample.STATUS}", interval=0.5)
    assert "not applied: " in vm.output(f"gandi-agent status; test $? -eq {exit_status}")
    vm.run("! hostname | grep -q evil; test ! -e /root/order || ! grep -q evil /root/order")


def test_only_what_is_signed_for_this_machine_and_not_older_is_applied(
    machine: Rig, platform: State, tmp_path: Path
) -> None:
    vm = machine.clone(platform)
    trusted, _ = _key(tmp_path, "key"), _key(tmp_path, "foreign")
    vm.write_file("/etc/gandi/trusted-keys", trusted.encode())
    uuid = vm.output("cat /sys/class/dmi/id/product_uuid")
    made = iter(range(100))

    def iso(key: str | None, forged: bool = False, **changes: Any) -> Path:
        evil: list[dict[str, str]] = [{"content": "echo evil >> /root/order"}]
        document = {"version": 1, "id": uuid, "counter": 5, "hostname": "evil", "scripts": evil} | changes
        content = {"gandi.json": json.dumps(document).encode()}
        if key:
            content["gandi.json.sig"] = _signature(tmp_path / key, content["gandi.json"])
        if forged:
            content["gandi.json"] += b" "
        # Beside each document: never run, since no signature covers it.
        content["script"] = b"#!/bin/sh\necho evil >> /root/order\n"
        return drives.make_iso(tmp_path / f"{next(made)}.iso", content, "gandi")

    vm.add_disk(drive(iso(None)))
    _refusal(vm, "gandi.json has no signature")
    vm.change_medium("drive", iso("key", forged=True))
    _refusal(vm, "is not valid, or not by a key")
    vm.change_medium("drive", iso("key", id=OTHER))
    _refusal(vm, "it is for another machine")
    seed = drives.nocloud("nc-1", hostname="evil", user_data=SCRIPT.replace(b"user data", b"evil"))
    vm.change_medium("drive", drives.make_iso(tmp_path / "nocloud.iso", seed, "cidata"))
    _refusal(vm, "a document of nocloud cannot be signed")
    assert vm.output("gandi-agent status | sed -n 2p") == "instance: none yet"

    scripts = [{"content": "echo signed >> /root/order"}]
    vm.change_medium("drive", iso("key", hostname="sg1", scripts=scripts))
    vm.wait_until("hostname | grep -qx sg1", interval=0.5)
    vm.wait_until("grep -qx signed /root/order", interval=0.5)
    assert "the signature does not cover it" in vm.output("gandi-agent status")

    vm.change_medium("drive", iso("key", counter=4))
    _refusal(vm, "it is older than the last: its counter is 4, the last one was 5")
    vm.change_medium("drive", iso("foreign", counter=9))
    _refusal(vm, "is not valid, or not by a key")
    vm.run("chmod go+w /etc/gandi/trusted-keys")
    vm.change_medium("drive", iso("key", counter=9))
    _refusal(vm, "can be written by others than root")
    vm.run("chmod go-w /etc/gandi/trusted-keys; hostname | grep -qx sg1")
    assert sample.order(vm) == ["signed"]

    # At the next boot as well; the stored document stays in force.
    vm.change_medium("drive", iso("key", counter=3))
    vm.run("! systemctl restart gandi-bootstrap", timeout=120)
    _refusal(vm, "it is older than the last: its counter is 3, the last one was 5", exit_status=1)
    assert vm.output("hostname") == "sg1"

    # Other keys are a difference for the check of the next boot.
    assert "/etc/gandi/trusted-keys" in vm.output(f"{test_settled.CHECK} --facts")


def test_a_signed_credential_makes_the_machine_and_other_keys_are_news(
    machine: Rig, platform: State, tmp_path: Path
) -> None:
    """The same bytes at the next boot are nothing new; changed keys are."""
    vm = machine.clone(platform)
    vm.write_file("/etc/gandi/trusted-keys", _key(tmp_path, "key").encode())
    document = json.dumps({"version": 1, "id": sample.SPEC.uuid, "counter": 1, "hostname": "sg1"}).encode()
    passed = {"gandi.config": document, "gandi.config.sig": _signature(tmp_path / "key", document)}
    vm.run("sync")
    vm.cut_power()
    strings = (
        f"io.systemd.credential.binary:{name}={base64.b64encode(content).decode()}"
        for name, content in passed.items()
    )
    vm.spec = replace(sample.SPEC, smbios=tuple(strings))
    vm.cold_boot()
    assert vm.wait_booted() == "running", vm.output("gandi-agent status || true")
    assert vm.output("hostname") == "sg1"
    test_settled.at_rest(vm)
    assert vm.output(test_settled.CHECK) == test_settled.NOTHING_NEW
    vm.run("echo '# none' > /etc/gandi/trusted-keys")
    assert "/etc/gandi/trusted-keys" in vm.output(test_settled.CHECK)
