"""A network that locks the machine out is taken back, and one that does not stays."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from tests import drives
from tests.vm import login, sample
from tests.vm.checks import cidrs
from tests.vm.conftest import Rig
from tests.vm.delivered import delivered, drive
from tests.vm.rig import Machine, State

_SSHD_RECORD = "ls /var/lib/gandi/instances/*/sshd.json"
_RECORD = "ls /var/lib/gandi/instances/*/network.json"


def _network(address: str, gateway: str) -> str:
    return f"""\
version: 2
ethernets:
  public:
    match: {{macaddress: "{sample.PUBLIC_NIC.mac}"}}
    addresses: [{address}]
    accept-ra: false
    routes:
      - {{to: default, via: {gateway}}}
  private:
    match: {{macaddress: "{sample.PRIVATE_NIC.mac}"}}
    addresses: [192.168.1.5/24]
"""


_GOOD = _network("203.0.113.10/24", "203.0.113.254")
_MOVED = _network("203.0.113.11/24", "203.0.113.254")
_WRONG = _network("203.0.113.10/24", "203.0.113.77")
_OPTIONS = "/etc/ssh/sshd_config.d/00-gandi-delivered.conf"
#: With passwords refused, sshd refuses this: no method is left.
_METHODS = "AuthenticationMethods password publickey,password\n"
#: sshd that hangs with passwords refused, which it notices at its reload.
_HANGS = f"""[Service]
ExecReload=
ExecReload=/bin/sh -c 'if grep -q "PasswordAuthentication no" {_OPTIONS}; then kill -STOP $MAINPID; \
else kill -CONT $MAINPID; kill -HUP $MAINPID; fi'
"""


def _ssh_answers(port: int) -> bool:
    """Return whether sshd's banner comes through QEMU's network, which sends to 203.0.113.10."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.settimeout(2)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _uptime(vm: Machine) -> float:
    """Return the guest's seconds since its boot: how fast it reads a drive is the host's matter."""
    return float(vm.output("cut -d' ' -f1 /proc/uptime"))


def _gateways(vm: Machine) -> list[str]:
    return [route["gateway"] for route in vm.json("ip -j -4 route show default")]


@pytest.mark.long
def test_a_network_that_locks_out_is_taken_back(machine: Rig, platform: State, tmp_path: Path) -> None:
    """A wrong gateway by a changed drive: ssh answers within 45 s, the status says why, also after the
    daemon was killed while it waited, and after a boot; a network that answers stays. The first drive is
    read by stages that are started again.
    """
    made = 0

    def iso(network: str, user_data: bytes = b"") -> Path:
        nonlocal made
        made += 1
        content = drives.nocloud("nc-1", network=network, keys=(sample.KEY,), user_data=user_data)
        return drives.make_iso(tmp_path / f"{made}.iso", content, "cidata")

    vm = delivered(machine.clone(platform), drive(iso(_GOOD)))
    assert vm.output("systemctl is-system-running") == "running", vm.output("systemctl --failed --no-legend")
    port = login.forward(vm, "203.0.113.10")
    vm.wait_until("ip -4 route show default | grep -qF 203.0.113.254")
    assert _gateways(vm) == ["203.0.113.254"]
    assert _ssh_answers(port)
    vm.run(f"! {_RECORD}")
    name = vm.json("ip -j -4 route show default")[0]["dev"]

    since = _uptime(vm)
    vm.change_medium("drive", iso(_WRONG))
    vm.wait_until("ip -4 route show default | grep -qF 203.0.113.77", timeout=120)
    applied = _uptime(vm)
    vm.wait_until("ip -4 route show default | grep -qF 203.0.113.254", timeout=120, interval=2)
    assert _ssh_answers(port)
    now = _uptime(vm)
    print(f"ssh: {now - since:.1f} s after the drive changed, {now - applied:.1f} s after it was applied")
    assert now - applied < 45
    vm.wait_until(f"grep -q 'taken back' {sample.STATUS}", interval=0.5)
    status = vm.output("gandi-agent status")
    assert "203.0.113.77" in status
    assert "the former network is in force" in status
    print(status)

    # A network that answers, and sshd's options: those that it refuses, those with which it hangs, and the
    # same when neither holds.
    yes, no = (f"#cloud-config\nssh_pwauth: {word}\n".encode() for word in ("true", "false"))
    vm.write_file("/etc/ssh/sshd_config.d/50-methods.conf", _METHODS)
    vm.run("systemctl reload ssh")
    vm.change_medium("drive", iso(_MOVED, no))
    vm.wait_until(f"grep -q 'sshd refuses them: .*AuthenticationMethods' {sample.STATUS}", timeout=120)
    vm.wait_until(f"! {_RECORD}", timeout=120)
    assert "203.0.113.11/24" in cidrs(vm, name)
    vm.run(f"! test -e {_OPTIONS} && rm /etc/ssh/sshd_config.d/50-methods.conf; systemctl reload ssh")
    vm.change_medium("drive", iso(_MOVED, yes))
    vm.wait_until(f"grep -q 'PasswordAuthentication yes' {_OPTIONS}", timeout=120)
    assert "taken back" not in vm.output("gandi-agent status | sed -n '/^notes/,$p'")
    vm.write_file("/etc/systemd/system/ssh.service.d/hangs.conf", _HANGS)
    vm.run("systemctl daemon-reload")
    vm.change_medium("drive", iso(_MOVED, no))
    vm.wait_until(f"grep -q 'did not answer at .* port 22' {sample.STATUS}", timeout=180, interval=2)
    vm.run(f"grep -q 'PasswordAuthentication yes' {_OPTIONS} && systemctl is-active ssh")
    assert "\n127.0.0.1 ssh-ed25519 " in vm.output("ssh-keyscan -t ed25519 127.0.0.1 2>&1")
    status = vm.output("gandi-agent status")
    print(status)
    assert "the document's options were taken back: sshd did not answer" in status
    vm.run("rm /etc/systemd/system/ssh.service.d/hangs.conf; systemctl daemon-reload")
    vm.change_medium("drive", iso(_MOVED))
    vm.wait_until(f"! test -e {_OPTIONS}", timeout=120)
    vm.change_medium("drive", iso(_MOVED, no))
    vm.wait_until(f"grep -q 'PasswordAuthentication no' {_OPTIONS}", timeout=120)
    assert vm.output("sshd -T | grep ^passwordauthentication") == "passwordauthentication no"
    vm.wait_until(f"! {_SSHD_RECORD}", timeout=60)

    vm.change_medium("drive", iso(_WRONG))
    vm.wait_until("ip -4 route show default | grep -qF 203.0.113.77", timeout=120)
    vm.run("systemctl kill -s KILL gandi-agent")
    vm.wait_until("ip -4 route show default | grep -qF 203.0.113.254", timeout=180, interval=2)
    assert "203.0.113.11/24" in cidrs(vm, name)
    vm.wait_until(f"grep -q 'taken back' {sample.STATUS}", interval=0.5)

    begun = time.monotonic()
    vm.run("sync")
    vm.reset()
    vm.wait_booted()
    print(f"booted again after {time.monotonic() - begun:.0f} s")
    assert _gateways(vm) == ["203.0.113.254"]
    assert "taken back" in vm.output("gandi-agent status")
