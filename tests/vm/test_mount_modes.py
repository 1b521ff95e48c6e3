"""Each mount mode in a real guest with an automounter, and the changes from one to another.

A look at a folder makes the automounter mount, so the tests read the kernel's table of mounts instead.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm import sample
from tests.vm.conftest import Rig
from tests.vm.rig import MIB, Disk, Machine, State, make_filesystem

LINK = "/etc/auto.master.d/gandi.autofs"


def attach(vm: Machine, tmp_path: Path, name: str, fs: str = "ext4") -> None:
    path = make_filesystem(tmp_path / f"{name}.img", 320 * MIB, fs, label=name)
    vm.add_disk(Disk(path=path, id=name))


def switch(vm: Machine, *lines: str) -> None:
    """Change the settings and reload the daemon."""
    text = "\n".join(lines)
    vm.run(f"printf '%s\\n' '{text}' > /etc/default/gandi; systemctl reload-or-restart gandi-agent")


def told(words: str) -> str:
    """Return a condition: the status contains these words."""
    return f"grep -q '{words}' {sample.STATUS}"


def direct(name: str, folder: str = "/srv") -> str:
    return f"findmnt -rnt ext4,xfs,btrfs -o TARGET {folder}/{name}"


def state(name: str, word: str) -> str:
    """Return a condition: the table of disks has this row."""
    return f"gandi-agent disks | grep -q \"'{name}' .*{word}\""


AUTOFS = "findmnt -rnt autofs -o TARGET /srv"


def test_modes_and_the_ways_between_them(machine: Rig, platform: State, tmp_path: Path) -> None:
    vm = machine.clone(platform)
    attach(vm, tmp_path, "data")
    vm.wait_until(direct("data"))
    vm.run("echo kept > /srv/data/file")

    # To autofs: not while a mount is in use.
    holder = vm.spawn("cd /srv/data && exec sleep 501", timeout=600)
    vm.wait_until("pgrep -fx 'sleep 501'")
    switch(vm, "CONFIG_MOUNT_MODE=autofs")
    vm.wait_until(told("/srv/data is in use: sleep"), interval=0.5)
    assert "/srv/data is in use: sleep" in vm.output("gandi-agent status || true")
    vm.run(f"{direct('data')} && ! {AUTOFS} && ! test -e {LINK} && pkill -fx 'sleep 501'")
    holder.result()
    vm.run("systemctl reload-or-restart gandi-agent")
    vm.wait_until(f"{AUTOFS} && {state('data', 'offered')}")
    vm.run(f"test -L {LINK} && ! {direct('data')}")

    # Only a look mounts.
    assert vm.output("cat /srv/data/file") == "kept"
    vm.run(f"{direct('data')} && {state('data', 'mounted')}")
    assert "nosuid,nodev,noatime" in vm.output("findmnt -rnt ext4 -o OPTIONS /srv/data")
    vm.run("! ls /srv/nothing")

    # An attached disk is offered, an enlarged one grows, a detached one is withdrawn.
    attach(vm, tmp_path, "more", "xfs")
    vm.wait_until(state("more", "offered"))
    vm.run(f"udevadm settle; ! {direct('more')}")
    vm.resize_disk("more", 640 * MIB)
    vm.wait_until("test $(df --output=size -B1M /srv/more | tail -1) -gt 500")
    vm.run("gandi-agent detach more")
    vm.run(f"! ls /srv/more && ! {direct('more')}")
    vm.run("gandi-agent mount more")
    vm.wait_until("ls /srv/more")  # the automounter remembers for a second that there was nothing
    vm.remove_disk("more")
    vm.wait_until(f"! {direct('more')} && ! ls /srv/more")

    # Back: not while a mount is in use.
    holder = vm.spawn("cd /srv/data && exec sleep 502", timeout=600)
    vm.wait_until("pgrep -fx 'sleep 502'")
    switch(vm, "CONFIG_MOUNT_MODE=direct")
    vm.wait_until(told("automounter still uses /srv: sleep"), interval=0.5)
    vm.run("pkill -fx 'sleep 502'")
    holder.result()
    vm.run("systemctl reload autofs; systemctl reload-or-restart gandi-agent")
    vm.wait_until(f"! {AUTOFS}")
    vm.wait_until(f"systemctl reload-or-restart gandi-agent; udevadm settle; {direct('data')}", interval=2)
    vm.run(f"! test -e {LINK} && ! test -e /run/gandi/autofs && ! test -e /run/gandi/autofs.map")
    vm.run('test "$(findmnt -rn /srv/data | wc -l)" = 1 && systemctl is-active srv-data.mount')

    # Modes without a mount: notify announces the disk, off does not.
    switch(vm, "CONFIG_MOUNT_MODE=notify")
    attach(vm, tmp_path, "told")
    vm.wait_until(state("told", "announced"))
    assert "to mount it, gandi-agent mount vd" in vm.journal("gandi-agent")
    vm.run("! test -e /srv/told && gandi-agent mount told && mountpoint -q /srv/told")
    switch(vm, "CONFIG_MOUNT_MODE=off")
    attach(vm, tmp_path, "left")
    vm.wait_until(state("left", "mount mode off"))
    vm.run("! test -e /srv/left && mountpoint -q /srv/told && mountpoint -q /srv/data")


@pytest.mark.soak
def test_the_automounter_at_a_boot_and_with_the_administrators_file(
    machine: Rig, platform: State, tmp_path: Path
) -> None:
    vm = machine.clone(platform)
    for name in ("data", "left"):
        attach(vm, tmp_path, name)
    vm.wait_until(f"{direct('data')} && {direct('left')}")
    vm.run("echo kept > /srv/data/file; sync")
    switch(vm, "CONFIG_MOUNT_MODE=autofs")
    vm.wait_until(f"{AUTOFS} && test -L {LINK}")

    # A later boot finds it so.
    vm.reboot()
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend")
    vm.wait_until(AUTOFS)
    vm.wait_until("ls /srv/data/file")

    # The administrator's own file names the folder, and is kept.
    vm.run(f"rm {LINK}")
    vm.write_file(LINK, "/volumes /usr/lib/gandi-agent/auto.gandi --timeout=600\n")
    vm.run("systemctl restart autofs; systemctl reload-or-restart gandi-agent")
    vm.wait_until(state("left", "offered.*/volumes/left"))
    vm.run(f"ls /volumes/left && {direct('left', '/volumes')}")
    switch(vm, "CONFIG_MOUNT_MODE=autofs", "CONFIG_ALLOW_MOUNT=0")
    vm.wait_until("! test -e /run/gandi/autofs.map")
    vm.run(f"grep -q volumes {LINK}; ! ls /volumes/data")
    vm.run(f"rm {LINK}; systemctl reload autofs")

    # When the mode is switched off, the agent's own file is removed, too.
    switch(vm, "CONFIG_MOUNT_MODE=autofs")
    vm.wait_until(f"{AUTOFS} && test -L {LINK}")
    switch(vm, "CONFIG_MOUNT_MODE=autofs", "CONFIG_ALLOW_MOUNT=0")
    vm.wait_until(f"! {AUTOFS} && ! test -L {LINK}")
