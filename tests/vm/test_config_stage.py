"""The config stage in a guest: each step enabled, at the next boot, after changes by the administrator, and
disabled; sshd from a client; keys and ids of copied machines.
"""

from __future__ import annotations

from pathlib import Path

from tests.vm import login, sample
from tests.vm.conftest import Rig
from tests.vm.delivered import delivered_again
from tests.vm.rig import Image, Machine, State, booted
from tests.vm.sshfiles import too_deep

#: Paths that the stage writes on this image.
WRITTEN = (
    "/etc/crontab",
    "/etc/ssh/sshd_config.d/00-gandi.conf",
    "/etc/sysctl.d/10-gandi.conf",
    "/etc/update-motd.d/15-gandi",
)
STAMPS = (
    "find /etc /var/lib/gandi -xdev ! -type d ! -path '*/random-seed' -printf '%p %T@ %l\\n' | sort; "
    "tune2fs -l /dev/vda | grep -E '^(Maximum mount|Check interval)'"
)
SHIPPED = ("17 *", "25 6", "47 6", "52 6")
FLAGS = ("SSHD", "SYSCTL", "CONSOLE", "MOTD", "TIMEZONE", "CRON", "FSCK", "SYSTEM_FILES")
STEPS = ("console", "system files", "cron", "timezone", "motd", "sysctl")
#: Paths that other stages write.
ELSEWHERE = {"ssh": "bootstrap", "fsck": "postboot"}


def test_every_step_at_the_first_boot(machine: Rig, set_up: State, image: Image, tmp_path: Path) -> None:
    """The image has host keys, a machine-id, and cron's table as shipped. The next boot is in
    test_later_boots.py.
    """
    other = machine.clone(booted(image))
    shared = _host_keys(other)
    other.close(keep_logs=False)
    vm = machine.clone(set_up)
    _everything_is_done(vm)
    _no_two_share(vm, shared)
    _ssh_as_promised(vm, tmp_path)


def test_the_administrator_and_the_flags(machine: Rig, set_up: State) -> None:
    """On a machine after its first boot; the stages are run again."""
    vm = machine.clone(set_up)
    _the_administrator_wins(vm)
    _sshd_refuses(vm)
    _flags_off_and_on(vm)


def _everything_is_done(vm: Machine) -> None:
    outcomes = _outcomes(vm)
    assert list(outcomes.values()) == [
        *("unchanged", "unchanged"),  # systemd's generator and the image have done it
        *("changed",) * 6,
    ], outcomes
    vm.run("systemctl is-active serial-getty@ttyS0.service getty@tty1.service")
    times = [" ".join(line.split()[:2]) for line in _jobs(vm)]
    assert len(times) == 4
    assert all(now != before for now, before in zip(times, SHIPPED, strict=True)), times
    assert vm.output("readlink /etc/localtime") == "/usr/share/zoneinfo/Europe/Paris"
    said = vm.output("run-parts /etc/update-motd.d")
    assert "vm1 (Debian GNU/Linux 13 (trixie))  203.0.113.10 2001:db8::10 192.168.1.5" in said
    assert "gandi-agent: all is well" in said
    assert "Maximum mount count:      42" in vm.output("tune2fs -l /dev/vda")
    assert vm.output("sysctl -n vm.swappiness net.ipv4.conf.all.arp_announce").split() == ["10", "2"]


def _outcomes(vm: Machine) -> dict[str, str]:
    """Return the outcome of each of these steps."""
    config = sample.steps(vm, "config")
    others = {step: sample.steps(vm, stage)[step] for step, stage in ELSEWHERE.items()}
    return {step: config[step] for step in STEPS} | others


def _host_keys(vm: Machine) -> set[str]:
    return set(vm.output("cut -d' ' -f2 /etc/ssh/ssh_host_*_key.pub").split())


def _no_two_share(vm: Machine, shared: set[str]) -> None:
    """A machine does not keep the host keys and the machine-id that all copies of its image have."""
    assert len(shared) == 3
    assert len(_host_keys(vm) - shared) == 3
    own = vm.output("cat /etc/machine-id")
    assert len(own) == 32
    assert own != sample.BAKED_ID
    assert (
        vm.output("busctl call org.freedesktop.DBus / org.freedesktop.DBus GetId >&2; dbus-uuidgen --get")
        == own
    )
    assert "Linux version" in vm.output("journalctl -b -k | head -3"), "the journal moved with it"
    vm.run("journalctl -b -t gandi-bootstrap | grep -q 'machine-id: changed'")
    vm.run("journalctl -b -u gandi-bootstrap | grep -q ssh:")


def _jobs(vm: Machine) -> list[str]:
    return vm.output("grep run-parts /etc/crontab").splitlines()


# -- ssh -----------------------------------------------------------------------------------


def _ssh_as_promised(vm: Machine, folder: Path) -> None:
    """Log in with a key and with a password, through a port of the host."""
    key = login.make_key(folder)
    config = sample.changed(password=login.HASH, ssh_key=key.with_suffix(".pub").read_text())
    delivered_again(vm, sample.swap_disk(folder, config))
    port = login.forward(vm, "203.0.113.10")
    assert vm.read_file(WRITTEN[1]).decode().splitlines()[1:] == [
        "PermitEmptyPasswords no",
        "PermitRootLogin prohibit-password",
    ]
    for user in ("root", "admin1"):
        done = login.ssh(port, user, key)
        assert done.stdout.strip() == user, done.stderr
    done = login.ssh(port, "admin1", key, password=login.PASSWORD)
    assert done.stdout.strip() == "admin1", "the password is right"
    refused = login.ssh(port, "root", key, password=login.PASSWORD)
    assert refused.returncode == 255
    assert "Permission denied" in refused.stderr


def _sshd_refuses(vm: Machine) -> None:
    """A broken drop-in of the administrator is reported and kept; the agent's is removed if sshd
    refuses it.
    """
    forget = f"rm -f /var/lib/gandi/instances/*/done/ssh {WRITTEN[1]}"
    foreign = "/etc/ssh/sshd_config.d/50-foreign.conf"
    vm.run(f"{forget}; echo 'PermitRootLogon yes' > {foreign}")
    before = vm.output(f"md5sum {foreign} /etc/ssh/sshd_config")
    (failed,) = _bootstrap_fails(vm)
    assert f"{foreign}: line 1: Bad configuration option: PermitRootLogon" in failed["detail"]
    assert vm.output(f"md5sum {foreign} /etc/ssh/sshd_config") == before
    vm.run(f"test ! -e {WRITTEN[1]} && rm {foreign}")

    # A configuration with the depth that sshd allows; with the agent's drop-in it is one deeper.
    vm.run("cp /etc/ssh/sshd_config /root/sshd_config")
    for name, text in too_deep().items():
        vm.write_file(name, text)
    (failed,) = _bootstrap_fails(vm)
    assert "00-gandi.conf, which was removed: Too many recursive" in failed["detail"]
    vm.run(f"test ! -e {WRITTEN[1]} && systemctl restart ssh.service && systemctl is-active ssh.service")
    vm.run("cp /root/sshd_config /etc/ssh/sshd_config")
    vm.run("systemctl restart gandi-bootstrap.service ssh.service")
    assert sample.steps(vm, "bootstrap")["ssh"] == "changed"


def _bootstrap_fails(vm: Machine) -> list[dict[str, str]]:
    vm.run("! systemctl restart gandi-bootstrap.service")
    return [item for item in sample.items(vm, "bootstrap") if item["outcome"] == "failed"]


# -- who changed it ------------------------------------------------------------------------


def nothing_moved(vm: Machine, before: str) -> None:
    """Check that no file has changed since ``STAMPS``, in a boot with nothing new."""
    assert all(name in before for name in WRITTEN)
    assert vm.output(STAMPS) == before
    outcomes = _outcomes(vm)
    assert set(outcomes.values()) == {"unchanged"}, outcomes


def _the_administrator_wins(vm: Machine) -> None:
    """Edited and removed files stay so, and each is reported."""
    vm.run(
        "sed -i 's/swappiness = 10/swappiness = 30/' /etc/sysctl.d/10-gandi.conf; "
        "ln -sf /usr/share/zoneinfo/Etc/UTC /etc/localtime; rm /etc/update-motd.d/15-gandi; "
        "sed -i 's/^[0-9]* [0-9]*\\t\\(.*daily\\)/25 6\\t\\1/' /etc/crontab; tune2fs -c 7 /dev/vda; "
        f"echo 'PermitRootLogin yes' > {WRITTEN[1]}; sed -i '/^::1/d' /etc/hosts"
    )
    before = vm.output(f"{STAMPS}; cat /etc/hosts /etc/crontab {WRITTEN[1]}")
    assert "25 6" in "".join(_jobs(vm))
    vm.run("systemctl restart gandi-bootstrap gandi-config gandi-postboot")
    assert vm.output(f"{STAMPS}; cat /etc/hosts /etc/crontab {WRITTEN[1]}") == before
    items = (item for stage in ("config", *ELSEWHERE.values()) for item in sample.items(vm, stage))
    kept = {item["name"] for item in items if item["outcome"] == "kept"}
    assert {"sysctl", "timezone", "motd", "cron:daily", "fsck", "localhost:::1"} <= kept, kept


def _flags_off_and_on(vm: Machine) -> None:
    """Disabled: a system without records stays as it is. Enabled: all of it is done again."""
    vm.run(
        "rm -rf /var/lib/gandi/system /var/lib/gandi/instances/*/done/ssh; "
        "rm -f /etc/sysctl.d/10-gandi.conf /etc/update-motd.d/15-gandi /etc/localtime "
        f"{WRITTEN[1]}; tune2fs -c -1 /dev/vda; sed -i 's/^UUID=[^ ]*/\\/dev\\/vda/' /etc/fstab; "
        "cp /etc/default/gandi /root/settings"
    )
    vm.write_file("/etc/crontab", sample.CRONTAB)
    vm.run("".join(f"echo CONFIG_{flag}=0 >> /etc/default/gandi; " for flag in FLAGS))
    before = vm.output(f"{STAMPS} | grep -v /var/lib/gandi")
    vm.run("systemctl restart gandi-bootstrap gandi-config gandi-postboot")
    assert vm.output(f"{STAMPS} | grep -v /var/lib/gandi") == before
    outcomes = _outcomes(vm)
    assert set(outcomes.values()) == {"skipped"}, outcomes

    vm.run("cp /root/settings /etc/default/gandi")
    vm.run("systemctl restart gandi-bootstrap gandi-config gandi-postboot")
    assert all(name in vm.output(STAMPS) for name in WRITTEN)
    assert vm.output("cut -d' ' -f1 /etc/fstab") == f"UUID={vm.output('blkid -s UUID -o value /dev/vda')}"
    assert vm.output("cut -d' ' -f1 /etc/fstab.gandi-old") == "/dev/vda"
    assert "Maximum mount count:      42" in vm.output("tune2fs -l /dev/vda")
