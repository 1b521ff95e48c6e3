"""SELinux with Debian's policy, enforcing: a first boot, hot-plug and a login without a denial."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from tests.vm import login, sample
from tests.vm.conftest import Rig
from tests.vm.rig import MIB, Disk, ImageSpec, build, make_filesystem, newest_deb

#: As on a machine where SELinux is installed after the agent.
ENABLE = (
    "printf 'SELINUX=enforcing\\nSELINUXTYPE=default\\n' > /etc/selinux/config"
    " && /usr/lib/gandi-agent/gandi-selinux install"
)
#: Programs of the system and the rig that Debian's policy does not let do all that they try: also sshd,
#: which makes wtmp.db, and useradd: for it the kernel then asks for dac_override, which the policy has.
OTHERS = (
    "agetty",
    "dmesg",
    "journalctl",
    "systemd-journal",
    "systemd-network",
    "systemd-tmpfile",
)
#: What the agent writes in a first boot.
WRITTEN = "/etc/host* /etc/resolv.conf /etc/ssh /etc/sysctl.d /etc/systemd /root/.ssh /home /var/lib/gandi"


def test_a_machine_with_an_enforcing_policy(machine: Rig, tmp_path: Path) -> None:
    image = build(
        ImageSpec(
            debs=(newest_deb(),),
            extra=("selinux-policy-default", "policycoreutils"),
            commands=(ENABLE,),
            size=2048 * MIB,
        )
    )
    key = login.make_key(tmp_path)
    (tmp_path / "swap").mkdir()
    config = sample.changed(ssh_key=key.with_suffix(".pub").read_text())
    spec = replace(sample.SPEC, cmdline=("lsm=landlock,yama,selinux", "enforcing=1"))
    vm = machine.start(image, spec, disks=[sample.swap_disk(tmp_path / "swap", config)])
    assert vm.wait_booted() == "running", vm.output("systemctl --failed")
    assert vm.output("cat /sys/fs/selinux/enforce") == "1"
    assert [line.split(" ")[0] for line in sample.order(vm)] == ["script", "run"]
    data = make_filesystem(tmp_path / "data.img", 64 * MIB, "ext4", label="data")
    vm.add_disk(Disk(path=data, id="data"))
    vm.wait_until("mountpoint -q /srv/data", timeout=60)
    port = login.forward(vm, "203.0.113.10")
    for user in ("root", "admin1"):
        done = login.ssh(port, user, key)
        assert done.stdout.strip() == user, done.stderr
    assert "gandi-agent: all is well" in vm.output("cat /run/motd.dynamic")
    denied = vm.output("dmesg | grep 'avc:  denied' || true").splitlines()
    others = rf'comm="(?:{"|".join(OTHERS)})"|dac_read_search .*comm="useradd"|name="wtmp.db"'
    ours = [line for line in denied if not re.search(others, line)]
    assert ours == []
    assert vm.output(f"restorecon -Rvn {WRITTEN} | cat") == "", "labels that the policy has otherwise"
