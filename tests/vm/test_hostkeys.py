"""A first boot without SSH host keys, interrupted after the two that ssh waits for and before the third."""

from __future__ import annotations

from tests.vm.conftest import Rig
from tests.vm.rig import GuestFile, ImageSpec, Machine, newest_deb

#: A pipe that the RSA key waits for, and one for a session: each goes on when something is written to it.
HOLD = "/etc/systemd/system/gandi-sshdkeygen-rsa.service.d/hold.conf"
FILES = (
    GuestFile(HOLD, b"[Service]\nExecStartPre=/usr/bin/cat /root/hold\n"),
    # A first boot for systemd: Debian's sshd-keygen.service, which would make all keys, is started then.
    GuestFile("/etc/machine-id", b"uninitialized\n"),
)
COMMANDS = ("rm -f /etc/ssh/ssh_host_*", "mkfifo /root/hold /root/session")
SSH = "ssh -i /root/key -o StrictHostKeyChecking=no root@127.0.0.1"


def _offered(vm: Machine) -> dict[str, str]:
    """Return each type that sshd offers, with its key."""
    lines = vm.output("ssh-keyscan -q -t rsa,ecdsa,ed25519 127.0.0.1").splitlines()
    return {line.split()[1]: line.split()[2] for line in lines}


def _made(vm: Machine) -> list[str]:
    """Return the types that each ssh-keygen of this boot has made."""
    said = vm.output("journalctl -b -o cat -t gandi-sshdkeygen").splitlines()
    return [line.partition("new host keys:")[2].strip() for line in said if "new host keys:" in line]


def _held(vm: Machine) -> dict[str, str]:
    """Check what sshd offers before the RSA key is made."""
    vm.wait_until("systemctl is-active ssh.service", timeout=300)
    vm.wait_until("systemctl show -P SubState gandi-sshdkeygen-rsa.service | grep -q start-pre", timeout=60)
    assert vm.output("systemctl is-active gandi-sshdkeygen.service") == "active"
    return _offered(vm)


def test_rsa_comes_after_ssh_once_through_a_power_cut(machine: Rig) -> None:
    vm = machine.start(ImageSpec(debs=(newest_deb(),), files=FILES, commands=COMMANDS))
    first = _held(vm)
    assert set(first) == {"ecdsa-sha2-nistp256", "ssh-ed25519"}
    assert _made(vm) == ["ECDSA ED25519"]
    vm.run("test -e /run/systemd/first-boot")
    assert vm.output("systemctl show -P ConditionResult sshd-keygen.service") == "no"
    vm.cut_power()
    vm.cold_boot()
    assert _held(vm) == first
    vm.run(
        "ssh-keygen -q -t ed25519 -N '' -f /root/key && mkdir -p -m 700 /root/.ssh && "
        "cp /root/key.pub /root/.ssh/authorized_keys"
    )
    session = vm.spawn(f"{SSH} 'touch /root/in && cat /root/session && echo still'")
    vm.wait_until("test -e /root/in", timeout=60)
    daemon = vm.output("systemctl show -P MainPID ssh.service")
    vm.run("echo > /root/hold")
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend")
    offered = _offered(vm)
    assert set(offered) == {*first, "ssh-rsa"}
    assert first.items() <= offered.items()
    assert vm.output("systemctl show -P MainPID ssh.service") == daemon
    vm.run("echo > /root/session")
    assert "still" in session.result().stdout
    vm.run("test ! -e /etc/ssh/.gandi-host-keys && test ! -e /etc/ssh/.gandi-host-keys.new")
    assert _made(vm) == ["RSA"]
    # With all keys there, no process is started for them.
    units = "gandi-sshdkeygen.service gandi-sshdkeygen-rsa.service"
    vm.run("systemctl restart gandi-sshdkeygen.service")
    assert vm.output(f"systemctl show -P ConditionResult {units}").split() == ["no", "no"]
