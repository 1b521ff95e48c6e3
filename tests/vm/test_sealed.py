"""Sealed values: they are opened on the machine that sealed them, and on no other one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests import drives
from tests.vm import sample
from tests.vm.conftest import Rig
from tests.vm.delivered import delivered, drive, password_is
from tests.vm.rig import Machine, State

#: systemd's host key.
KEY = "/var/lib/systemd/credential.secret"
#: Both machines are resumed from one saved state, with one state of the kernel's random numbers: so they
#: made equal host keys. The ioctl is RNDRESEEDCRNG of random(4).
RESEED = (
    "import fcntl, os; fd = os.open('/dev/urandom', os.O_RDWR); os.write(fd, os.read(0, 64)); "
    "fcntl.ioctl(fd, 0x5207)"
)
PASSWORD, TOKEN = "Caterpillar:Hookah 2718", "token=who-stole-the-tarts-3141"


def _sealed(vm: Machine, text: str) -> dict[str, str]:
    """Seal a text on this machine, with its host key."""
    argv = ["systemd-creds", "encrypt", "--with-key=host", "--name=gandi-agent", "-", "-"]
    return {"sealed": vm.run(argv, stdin=text.encode()).stdout}


def _iso(path: Path, document: dict[str, Any]) -> Path:
    return drives.make_iso(path, {"gandi.json": json.dumps(document).encode()}, "gandi")


def _machine(rig: Rig, platform: State, tmp_path: Path) -> Machine:
    """Make a machine with a first document and a host key of its own. A new instance gets a new machine-id,
    for which systemd takes no earlier host key.
    """
    vm = rig.clone(platform)
    vm.run(["python3", "-c", RESEED], stdin=os.urandom(64))
    delivered(vm, drive(_iso(tmp_path / "first.iso", {"version": 1, "hostname": "se0"})))
    vm.run("systemd-creds setup")
    return vm


def _deliver(vm: Machine, iso: Path) -> str:
    """Deliver a changed document, and do what a boot does with it; return the status."""
    vm.change_medium("drive", iso)
    vm.wait_until("hostname | grep -qx se1", interval=0.5)
    vm.run("systemctl restart gandi-bootstrap || true", timeout=120)
    return vm.output("gandi-agent status || true")  # 1 after a failed stage


def test_a_sealed_value_opens_on_its_machine_and_on_no_other(
    machine: Rig, platform: State, tmp_path: Path
) -> None:
    vm = _machine(machine, platform, tmp_path)
    document = {
        "version": 1,
        "hostname": "se1",
        "users": [{"name": "alice", "plain_password": _sealed(vm, PASSWORD), "keys": [sample.KEY]}],
        "files": [
            {"path": "/etc/token", "content": _sealed(vm, TOKEN), "mode": "0600"},
            {"path": "/etc/open", "content": "open"},
        ],
    }
    iso = _iso(tmp_path / "sealed.iso", document)
    status = _deliver(vm, iso)
    assert "nothing failed" in status, status
    assert vm.read_file("/etc/token").decode() == TOKEN
    assert vm.output("stat -c '%a %u' /etc/token") == "600 0"
    assert password_is(vm, "alice", PASSWORD)

    # Nowhere else, and in no message; the documents that are stored are sealed.
    vm.write_file("/root/secrets", f"{PASSWORD}\n{TOKEN}\n", mode=0o600)
    for command in (
        "journalctl -b --no-pager -o export",
        "systemctl show 'gandi-*'",
        "gandi-agent status --json",
        "gandi-agent config show --json",
        "gandi-agent --debug plan",
        "gandi-agent drift",
        "gandi-agent why file:/etc/token",
    ):
        vm.run(f"! {{ {command}; }} 2>&1 | grep -aqFf /root/secrets", timeout=120)
    vm.run("gandi-agent collect-logs -o /root/logs.tar")
    found = vm.output(
        "find /etc /var /run /root /home /tmp /gandi -type f -exec grep -laFf /root/secrets {} +; true",
        timeout=300,
    )
    assert set(found.splitlines()) == {"/etc/token", "/root/secrets"}

    # The same document on another machine.
    key = vm.output(f"sha256sum {KEY}")
    vm.cut_power()
    other = _machine(machine, platform, tmp_path)
    assert other.output(f"sha256sum {KEY}") != key
    status = _deliver(other, iso)
    assert "the content of /etc/token is sealed, and this machine cannot open it" in status
    assert "the password of alice is sealed, and this machine cannot open it" in status
    assert "systemd-creds encrypt --name=gandi-agent" in status
    assert other.output("hostname; cat /etc/open").split() == ["se1", "open"]
    assert sample.KEY in other.read_file("/home/alice/.ssh/authorized_keys").decode()
    other.run("test ! -e /etc/token; getent shadow alice | cut -d: -f2 | grep -q '^[!*]'")
