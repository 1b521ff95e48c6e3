"""The daemon dies, hangs or cannot start: stages run once, in bounded time, and nothing is undone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm import sample
from tests.vm.conftest import Rig
from tests.vm.delivered import delivered
from tests.vm.rig import MIB, Disk, GuestFile, ImageSpec, Machine, State, make_filesystem, newest_deb

BROKEN = {
    "cannot start": "[Service]\nExecStart=\nExecStart=/bin/false\n",
    # Ready for systemd, then stopped: its socket accepts connections until the watchdog ends it.
    "hangs": "[Service]\nType=exec\nWatchdogSec=4s\nExecStart=\nExecStart=/bin/sh -c 'kill -STOP $$$$'\n",
}


def test_killed_it_comes_back_and_the_mounts_stay(booted: Machine, tmp_path: Path) -> None:
    one = make_filesystem(tmp_path / "one.img", 64 * MIB, "ext4", label="one")
    two = make_filesystem(tmp_path / "two.img", 64 * MIB, "ext4", label="two")
    booted.add_disk(Disk(path=one, id="one"))
    booted.wait_until("mountpoint -q /srv/one")
    pid = booted.output("systemctl show -P MainPID gandi-agent")
    booted.run(f"kill -9 {pid}")
    booted.wait_until(
        f"p=$(systemctl show -P MainPID gandi-agent); test $p != 0 -a $p != {pid} "
        "&& test $(systemctl is-active gandi-agent) = active"
    )
    booted.run("mountpoint -q /srv/one")
    booted.add_disk(Disk(path=two, id="two"))
    booted.wait_until("mountpoint -q /srv/two")
    assert booted.output("systemctl is-system-running") == "running"


@pytest.mark.long
@pytest.mark.parametrize("how", BROKEN)
def test_stages_run_once_without_it(machine: Rig, platform: State, tmp_path: Path, how: str) -> None:
    """A daemon that hangs, at a boot; one that cannot start, when the stages are started again."""
    disk = sample.swap_disk(tmp_path, script=sample.SHORT_SCRIPT)
    files = [GuestFile("/etc/systemd/system/gandi-agent.service.d/broken.conf", BROKEN[how].encode())]
    if how == "hangs":
        image = ImageSpec(debs=(newest_deb(),), files=tuple(files), commands=(sample.KEEPS_KEYS,))
        vm = machine.start(image, sample.SPEC, disks=[disk])
        vm.wait_booted(timeout=400)
    else:
        vm = machine.clone(platform)
        for file in files:
            vm.write_file(file.path, file.content)
        vm.run("systemctl daemon-reload")
        delivered(vm, disk)
    vm.wait_until("grep -q ^run /root/order", timeout=60)
    for stage in ("bootstrap", "mount", "config", "postboot"):
        assert vm.output(f"systemctl show -P Result gandi-{stage}") == "success", stage
        assert "running the stage here" in vm.journal(f"gandi-{stage}")
    assert len(sample.order(vm)) == 2
    assert vm.output("cat /etc/hostname") == "vm1"


def test_a_stopped_daemon_is_ended_and_the_stage_run(booted: Machine) -> None:
    """The idle daemon gets SIGSTOP: the watchdog ends it, and the next stage is run by its client. It waits
    for 4 s here, for 30 s in the unit.
    """
    booted.write_file("/run/systemd/system/gandi-agent.service.d/soon.conf", "[Service]\nWatchdogSec=4s\n")
    booted.run("systemctl daemon-reload; systemctl restart gandi-agent")
    booted.run("systemctl kill --kill-whom=main -s STOP gandi-agent")
    done = booted.run("systemctl restart gandi-config", timeout=180, check=False)
    assert done.rc == 0, booted.journal("gandi-config")
    assert "running the stage here" in booted.journal("gandi-config")


def test_a_setting_is_in_force_after_a_bare_trigger(booted: Machine, tmp_path: Path) -> None:
    booted.run(
        "sed -i '/CONFIG_ALLOW_MOUNT/d' /etc/default/gandi; echo CONFIG_ALLOW_MOUNT=0 >> /etc/default/gandi"
    )
    path = make_filesystem(tmp_path / "data.img", 64 * MIB, "ext4", label="data")
    booted.add_disk(Disk(path=path, id="data"))
    booted.wait_until("gandi-agent disks | grep -q CONFIG_ALLOW_MOUNT=0", interval=1)
    booted.run("! mountpoint -q /srv/data")
    booted.run("echo CONFIG_ALLOW_MOUNT=1 >> /etc/default/gandi; udevadm trigger")
    booted.wait_until("mountpoint -q /srv/data")


def test_a_wrong_setting_is_named_with_its_line(booted: Machine) -> None:
    booted.run("printf 'CONFIG_HOSTNAMES=0\\nCONFIG_CRON=perhaps\\n' > /etc/default/gandi")
    booted.run("systemctl reload gandi-agent", check=False)
    booted.run("systemctl restart gandi-config")
    status = booted.output("gandi-agent status")
    assert "/etc/default/gandi:1: " in status
    assert "did you mean CONFIG_HOSTNAME?" in status
    assert "/etc/default/gandi:2: CONFIG_CRON" in status
