"""A boot with nothing new starts no Python of the agent; each kind of news makes it a full boot."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from tests import media
from tests.vm import sample, test_config_stage, test_later_boots
from tests.vm.conftest import Rig
from tests.vm.plugging import Plugged
from tests.vm.rig import Machine, Nic, State
from tests.vm.trouble import TROUBLES

CHECK, MARK = "/usr/lib/gandi-agent/gandi-check", "/var/lib/gandi/settled"
SETTLED = f"test -e {MARK} && test $(systemctl is-active gandi-agent) = inactive"
NOTHING_NEW = "nothing new since the last boot: every stage unchanged"
#: Prints the mark as it would be written now.
MARK_NOW = (
    f"{{ sed '/^facts$/q' {MARK}; {CHECK} --facts $(sed -n 's/^watch //p' {MARK}); }} > {MARK}.new"
    f" && mv {MARK}.new {MARK}"
)
#: Written when a boot starts an interpreter of the agent.
STARTED = "/run/started"
WATCHED = f"""mv /usr/bin/gandi-agent /usr/bin/gandi-agent.real && cat > /usr/bin/gandi-agent <<'END'
#!/bin/sh
echo "$*" >> {STARTED}
exec /usr/bin/gandi-agent.real "$@"
END
chmod 755 /usr/bin/gandi-agent"""


def at_rest(vm: Machine) -> None:
    """Wait until the daemon has exited and left the mark."""
    vm.run("echo CONFIG_IDLE_EXIT=2 >> /etc/default/gandi; systemctl kill -s HUP gandi-agent; true")
    vm.wait_until(SETTLED, timeout=90)


def said(vm: Machine) -> str:
    """Return the output of this boot's check."""
    return vm.output("journalctl -b -o cat -t gandi-check --no-pager")


def over(file: str, text: str) -> tuple[str, str]:
    """Return commands that mount another text over a file of the kernel, and that undo it."""
    return f"printf %s {shlex.quote(text)} > /run/other; mount --bind /run/other {file}", f"umount {file}"


NEW_UUID = "6a1d8f5e-52a5-4c39-9d0c-000000000009"
NEW_NIC = Nic(id="net2", mac="52:54:00:00:00:12")
_UUID = "/sys/class/dmi/id/product_uuid"
_SWAP = "swapoff /dev/vdb"
#: A change: the command, its undo, and the check's message.
LIES = {
    "settings, the clock set back": (
        "now=$(date +%s); date -s @1500000000; echo '#' >> /etc/default/gandi; date -s @$now",
        "true",
        "/etc/default/gandi",
    ),
    "settings, with their old time": (
        "touch -r /etc/default/gandi /run/time; sed -i 's/CONFIG_MOTD=1/CONFIG_MOTD=0/' /etc/default/gandi;"
        " touch -r /run/time /etc/default/gandi",
        "true",
        "/etc/default/gandi",
    ),
    "a plugin": (
        "cp /bin/true /etc/gandi/plugins.d/new",
        "rm /etc/gandi/plugins.d/new",
        "/etc/gandi/plugins.d",
    ),
    "a hook": ("cp /bin/true /etc/gandi/hooks/post-vm-config", "rm /etc/gandi/hooks/*", "/etc/gandi/hooks"),
    "a program of another package's": (
        "mkdir -p /usr/share/gandi/bootstrap.d; cp /bin/true /usr/share/gandi/bootstrap.d/one",
        "rm -r /usr/share/gandi",
        "is: /usr/share/gandi/bootstrap.d",
    ),
    "a package": ("touch /var/lib/dpkg/status", "true", "/var/lib/dpkg/status"),
    "a step's mark removed": ("rm /var/lib/gandi/instances/*/done/ssh", "true", "/done"),
    "the administrator's disk": ("echo '# /srv' >> /etc/fstab", "true", "/etc/fstab"),
    "another UUID": (*over(_UUID, "6a1d8f5e-52a5-4c39-9d0c-00000000000f\n"), f"was: {_UUID}"),
    "another kernel": (*over("/proc/sys/kernel/osrelease", "6.0.0\n"), "was: /proc/sys/kernel/osrelease"),
    "a CPU more": (*over("/sys/devices/system/cpu/online", "0-1\n"), "was: /sys/devices/system/cpu/online"),
    "a block of memory less": (
        *over("/sys/devices/system/memory/memory1/state", "offline\n"),
        "was: memory: 4 of 4",
    ),
    "another NIC": (
        *over("/sys/class/net/$(ls /sys/class/net | grep -v lo | head -1)/address", "52:54:0:0:0:9\n"),
        "was: nic",
    ),
    "a disk resized": (*over("/sys/class/block/vda/size", "999\n"), "was: disk vda"),
    "a new filesystem": (
        "cp /run/udev/data/b$(cat /sys/class/block/vda/dev) /run/kept; sed -i 's/^E:ID_FS_UUID=./&0/' "
        "/run/udev/data/b$(cat /sys/class/block/vda/dev)",
        "cp /run/kept /run/udev/data/b$(cat /sys/class/block/vda/dev)",
        "was: disk vda",
    ),
    "cloud-init": (
        "mkdir /run/cloud-init; touch /run/cloud-init/enabled",
        "rm -r /run/cloud-init",
        "is: cloud-init",
    ),
    "a document passed without a medium": (
        "mkdir -p /run/credentials/@system; echo 1 > /run/credentials/@system/gandi.config",
        "rm /run/credentials/@system/gandi.config",
        "is: passed gandi.config",
    ),
    "another archive": (
        f"{_SWAP}; dd if=/run/other.tar of=/dev/vdb bs=512 seek=1024 conv=notrunc",
        "dd if=/dev/zero of=/dev/vdb bs=512 seek=1024 count=30 conv=notrunc",
        "/dev/vdb carries an archive",
    ),
    "a damaged archive": (
        f"{_SWAP}; dd if=/run/damaged.tar of=/dev/vdb bs=512 seek=1024 conv=notrunc",
        "dd if=/dev/zero of=/dev/vdb bs=512 seek=1024 count=30 conv=notrunc",
        "/dev/vdb carries an archive",
    ),
    "an archive at the beginning": (
        f"{_SWAP}; dd if=/run/same.tar of=/dev/vdb bs=512 count=1 conv=notrunc",
        "dd if=/dev/zero of=/dev/vdb bs=512 count=1 conv=notrunc",
        "/dev/vdb carries an archive",
    ),
    "no room to say so": (
        "mount --bind /var/lib/gandi /var/lib/gandi; mount -o remount,bind,ro /var/lib/gandi",
        "umount /var/lib/gandi",
        "cannot be written",
    ),
    "half a mark": (
        f"cp {MARK} /run/mark; head -c 50 /run/mark > {MARK}",
        f"cp /run/mark {MARK}",
        "cannot be read",
    ),
}


def test_nothing_is_taken_for_unchanged_that_is_not(machine: Rig, set_up: State) -> None:
    """Each difference alone, on an idle machine: the program that a boot runs reports it."""
    vm = machine.clone(set_up)
    at_rest(vm)
    # The writes to the swap disk below would start the daemon, which withdraws the mark.
    vm.run("systemctl stop gandi-agent-uevent.socket gandi-agent.socket")
    same = media.make_archive(sample.CONFIG, script=sample.SCRIPT)
    for name, content in (
        ("same", same),
        ("other", media.make_archive(sample.changed(password=sample.NEW_HASH), script=sample.SCRIPT)),
        ("damaged", same[:700] + b"X" + same[701:]),
    ):
        vm.write_file(f"/run/{name}.tar", content)
    assert vm.output(CHECK) == NOTHING_NEW
    wrong = {}
    for name, (change, undo, expected) in LIES.items():
        vm.run(f"rm -f /run/gandi/settled /run/gandi/unchanged; swapoff -a; udevadm settle; {MARK_NOW}")
        assert vm.output(CHECK) == NOTHING_NEW, name
        vm.run(f"rm -f /run/gandi/settled /run/gandi/unchanged; {change}")
        answer = vm.output(CHECK)
        if not answer.startswith("not as the last boot left it") or expected not in answer:
            wrong[name] = answer
        vm.run(f"test ! -e /run/gandi/settled; {undo}")
    assert not wrong


@pytest.mark.long
def test_no_interpreter_runs_where_nothing_is_new(machine: Rig, set_up: State, tmp_path: Path) -> None:
    """The same archive again; hot-plug in such a boot; then a boot with news, cut short, after which nothing
    is written again. A boot without an archive: test_report.py.
    """
    vm = machine.clone(set_up)
    at_rest(vm)
    # A link to /dev/null, which has the times of the boot.
    vm.run("systemctl mask nothing.service")
    vm.run(f"{WATCHED}; {MARK_NOW}; sync")
    # A new QEMU boots faster than one that resets: it has no translated code to give up.
    vm.power_off()
    vm.cold_boot(disks=[sample.swap_disk(tmp_path)])
    assert vm.wait_booted() == "running"
    nothing_ran(vm)
    vm.wait_until("swapon --noheadings --show=NAME | grep -qx /dev/vdb")
    vm.run("cmp -n 67100672 -i 8192:0 /dev/vdb /dev/zero")
    shown = vm.output("gandi-agent status; gandi-agent status --wait 1 > /dev/null && echo ended")
    for stage in ("bootstrap", "mount", "config", "postboot"):
        assert f"{stage}: unchanged: nothing new since the last boot" in shown
    assert shown.startswith("ready: nothing was new at this boot, ")
    assert "daemon: at rest" in shown
    assert shown.endswith("ended")
    assert vm.output("systemctl --failed --no-legend") == ""

    disk = Plugged(vm, tmp_path, "data")
    disk.attach()
    disk.is_right()
    vm.run("! test -e /run/gandi/asleep")
    vm.run("umount /srv/data")
    vm.remove_disk("data")
    vm.run("systemctl restart gandi-config")
    assert "unchanged" in vm.output("journalctl -b -o cat -u gandi-config --no-pager")
    vm.wait_until(SETTLED, timeout=90)

    # The mark itself is written anew, and compared with nothing.
    vm.run(f"echo '# edited' >> /etc/default/gandi; mv {MARK} /root/mark")
    before, stamps = test_later_boots.written(vm), vm.output(test_config_stage.STAMPS)
    vm.run(f"mv /root/mark {MARK}; sync")
    vm.power_off()
    vm.cold_boot()
    vm.wait_until(f"! test -e {MARK}")
    vm.cut_power()
    vm.cold_boot()
    assert vm.wait_booted() == "running"
    vm.run(f"test ! -e /run/gandi/settled && test -e {sample.STATUS}")
    vm.wait_until(SETTLED, timeout=90)
    vm.run(f"rm {MARK}")
    test_later_boots.nothing_moved(vm, before)
    test_config_stage.nothing_moved(vm, stamps)


@pytest.mark.long
def test_hardware_that_came_or_went_while_off_is_news(machine: Rig, set_up: State) -> None:
    """A CPU, memory and a NIC more with another UUID, then less with the first one; a machine with a full
    disk has no mark.
    """
    vm = machine.clone(set_up)
    at_rest(vm)
    less = vm.spec
    more = replace(
        less, cpus=2, max_cpus=2, memory=less.memory + 128, nics=(*less.nics, NEW_NIC), uuid=NEW_UUID
    )
    for spec in (more, less):
        vm.run(f"cp {MARK} /root/mark; sync")
        vm.power_off()
        vm.spec = spec
        vm.cold_boot()
        assert vm.wait_booted() == "running"
        assert said(vm).startswith(f"not as the last boot left it: was: {_UUID}")
        if spec is more:
            assert "UUID has changed" in vm.output("gandi-agent status")
        vm.run(f"test -e {sample.STATUS}")
        facts = f"{CHECK} --facts $(sed -n 's/^watch //p' /root/mark)"
        changed = vm.output(f"{facts} > /run/facts; sed '1,/^facts$/d' /root/mark | diff - /run/facts; true")
        for kind in (f"{_UUID}: ", "/sys/devices/system/cpu/online: ", "memory: ", "nic "):
            assert f"\n{'> ' if spec is more else '< '}{kind}" in changed, (kind, changed)
        vm.wait_until(SETTLED, timeout=90)
        assert vm.output(CHECK) == NOTHING_NEW
        vm.run("rm /run/gandi/settled /run/gandi/unchanged")

    full = next(trouble for trouble in TROUBLES if trouble.name == "full disk")
    full.begin(vm)
    # As a daemon withdraws it; the space that it took is filled, too.
    vm.run(f"rm {MARK}; dd if=/dev/zero of=/opt/filler-of-its-room bs=512 status=none; true")
    vm.run("systemctl start gandi-agent")
    vm.wait_until("test $(systemctl is-active gandi-agent) = inactive", timeout=90)
    assert vm.output(CHECK) == f"not as the last boot left it: {MARK} cannot be written"
    full.end(vm)
    vm.run("systemctl start gandi-agent")
    vm.wait_until(SETTLED, timeout=90)
    assert vm.output(CHECK) == NOTHING_NEW


def nothing_ran(vm: Machine) -> None:
    """Check that no stage and no interpreter of the agent has run in this boot."""
    vm.wait_until("test -e /run/gandi/asleep", timeout=120)
    assert said(vm) == NOTHING_NEW
    vm.run(f"test ! -e {STARTED} && test ! -e {sample.STATUS}")
    assert vm.output("systemctl is-active gandi-agent || true") == "inactive"
