"""The package upgraded, downgraded, removed and purged on one machine, with a data disk in use all
the time.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm import nextversion
from tests.vm.rig import MIB, Disk, Machine, make_filesystem, newest_deb

#: Files that the administrator changed, and files of the administrator's own.
ADMIN = r"""
echo 'CONFIG_IDLE_EXIT=3600' >> /etc/default/gandi
printf '#!/bin/sh\n' > /etc/gandi/hooks/post-disk-grow; chmod 755 /etc/gandi/hooks/post-disk-grow
rm /etc/kernel/postinst.d/gandi-agent; printf '#!/bin/sh\nexit 0\n' > /etc/kernel/postinst.d/gandi-agent
chmod 755 /etc/kernel/postinst.d/gandi-agent
echo '# mine' >> /etc/update-motd.d/15-gandi
"""
OWNED = (
    "sha256sum /etc/default/gandi /etc/gandi/hooks/post-disk-grow /etc/kernel/postinst.d/gandi-agent "
    "/etc/update-motd.d/15-gandi /srv/one/file"
)
#: What the machine is reached by, and boots with.
REACHED = (
    "cd /etc && find passwd shadow group hostname hosts machine-id fstab crontab ssh network systemd/network"
    " -type f ! -name '.gandi*' 2>/dev/null | sort | xargs sha256sum"
)
#: Written by a stage; a changed time would show another run.
STAGES = (
    "systemctl show -P ActiveEnterTimestampMonotonic gandi-bootstrap gandi-mount gandi-config gandi-postboot"
)
DAEMON = "systemctl show -P MainPID gandi-agent"


@pytest.mark.long
def test_upgrade_downgrade_remove_purge(booted: Machine, tmp_path: Path) -> None:
    """An upgrade starts another daemon and nothing else; mounts outlive the package; a purge takes the state
    and what the agent wrote on its own account. By dpkg: apt, which takes long in a slow machine, comes in
    test_succession.py.
    """
    vm = booted
    _attach(vm, tmp_path, "one")
    vm.run("echo content > /srv/one/file")
    holder = vm.spawn("cd /srv/one && exec sleep 3600", timeout=3600)
    vm.run(ADMIN)
    # On a slow host it was idle for long enough to exit; from here on it stays.
    vm.run("systemctl start gandi-agent")
    owned, stages, daemon = vm.output(OWNED), vm.output(STAGES), vm.output(DAEMON)
    assert vm.output("dpkg-query -W -f '${Conffiles}' gandi-agent") == ""
    vm.write_file("/root/this.deb", newest_deb().read_bytes())
    vm.write_file("/root/next.deb", nextversion.build(newest_deb(), tmp_path).read_bytes())

    vm.run("dpkg -i /root/next.deb", timeout=240)
    assert nextversion.VERSION in vm.output("gandi-agent --version")
    assert vm.output(DAEMON) not in ("0", daemon)
    _as_before(vm, owned, stages)
    # Written by the newer version: the older one must not misread it.
    _attach(vm, tmp_path, "two")
    assert '"version":2' in vm.read_file("/var/lib/gandi/disks.json").decode().replace(" ", "")

    vm.run("dpkg -i /root/this.deb", timeout=240)
    assert nextversion.VERSION not in vm.output("gandi-agent --version")
    _as_before(vm, owned, stages)
    vm.run("mountpoint -q /srv/two")
    assert "written by a newer agent" in vm.output("gandi-agent disks 2>&1 || true")

    vm.run("dpkg -r gandi-agent", timeout=240)
    assert vm.output("systemctl list-units --no-legend --plain 'gandi-*'") == ""
    assert vm.output("pgrep -f '[g]andi-agent daemon' || true") == ""
    assert vm.output(OWNED) == owned
    vm.run("mountpoint -q /srv/one && mountpoint -q /srv/two && test -d /var/lib/gandi")
    vm.run("test -s /etc/sysctl.d/10-gandi.conf")
    # The rows of docs/removal.md that no unit test can show as they are on a machine.
    reached = vm.output(REACHED)

    vm.run("dpkg -P gandi-agent", timeout=240)
    vm.run("mountpoint -q /srv/one && mountpoint -q /srv/two && cat /srv/one/file")
    left = vm.output(
        "find /etc /usr /var/lib /run -xdev -name '*gandi*' ! -path '/run/udev/*' ! -path '/usr/share/doc/*'"
    )
    # What the agent wrote on its own account is gone, but for what was changed; see docs/removal.md.
    stays = ["/etc/gandi", "/etc/kernel/postinst.d/gandi-agent", "/etc/update-motd.d/15-gandi"]
    assert vm.output(REACHED) == reached
    assert sorted(left.split()) == stays
    assert vm.output("find /etc/gandi -type f") == "/etc/gandi/hooks/post-disk-grow"
    assert not holder.done()


def _attach(vm: Machine, folder: Path, name: str) -> None:
    path = make_filesystem(folder / f"{name}.img", 64 * MIB, "ext4", label=name)
    vm.add_disk(Disk(path=path, id=name))
    vm.wait_until(f"mountpoint -q /srv/{name}", timeout=60)


def _as_before(vm: Machine, owned: str, stages: str) -> None:
    assert vm.output(OWNED) == owned
    assert vm.output(STAGES) == stages
    vm.run("mountpoint -q /srv/one && systemctl is-active gandi-agent.socket")
    # The image is made without documentation.
    assert vm.output("dpkg --verify gandi-agent | grep -v /usr/share/doc || true") == ""
