"""Installation over gandi-hosting-vm2: the customer's files stay and work, the old package's programs are
gone.

One boot: a customer changes the old package's files, the agent's package is installed, and the machine is
booted with the platform's archive.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm import oldpackage, sample
from tests.vm.admin import ADMINS, put_together
from tests.vm.rig import Machine, newest_deb

#: The customer's changes to the old package's files, and files of their own.
CUSTOMER = r"""
echo 'echo changed' >> /etc/gandi/plugins.d/06-changed
echo '# mine' >> /etc/gandi/hooks/post-iface-attach
echo 'exit 3' >> /etc/kernel/postinst.d/gandi-decompress-kernel
echo 'vm.swappiness = 60' > /etc/gandi/sysctl.conf
printf '#!/bin/sh\n. /etc/gandi/plugins-lib\necho mine\n' > /etc/gandi/plugins.d/50-mine
printf '#!/bin/sh\necho foreign\n' > /usr/share/gandi/bootstrap.d/70-foreign
chmod 755 /etc/gandi/plugins.d/50-mine /usr/share/gandi/bootstrap.d/70-foreign
"""
CUSTOMERS = (
    "/etc/gandi/sysctl.conf /etc/gandi/plugins.d/50-mine /etc/gandi/hooks/post-iface-attach "
    "/usr/share/gandi/bootstrap.d/70-foreign"
)
INSTALL = "DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {} </dev/null 2>&1"
#: The package's own part of its scripts at an upgrade. debhelper's part and dpkg, which take an emulated
#: machine 25 s, decide nothing of this, and are in test_package_life.py.
UPGRADE = (
    "set -e; cd /var/lib/dpkg/info; v=$(dpkg-query -W -f '${Version}' gandi-agent); "
    "sh gandi-agent.preinst upgrade $v $v; "
    "sed '/^# Automatically added by dh_/,$d' gandi-agent.postinst > /run/own-part; "
    "grep -q 'gandi-agent succeed' /run/own-part; sh /run/own-part configure $v"
)
#: As the installation of a kernel: run all hooks in /etc/kernel/postinst.d, as the postinst of Debian's
#: kernels does; it fails when one fails. The initrd's, which takes an emulated machine two minutes, is left
#: out.
KERNEL = (
    "v=$(uname -r); INITRD=No DEB_MAINT_PARAMS=configure run-parts --verbose --exit-on-error"
    " --arg=$v --arg=/boot/vmlinuz-$v /etc/kernel/postinst.d 2>&1"
)


@pytest.mark.long
def test_the_old_package_is_followed(booted_plain: Machine, tmp_path: Path) -> None:
    """The mode and the customer's files are kept; nothing old runs, or takes precedence over the
    new files.
    """
    vm = booted_plain
    put_together(vm)
    vm.write_file("/root/old.deb", oldpackage.build(tmp_path).read_bytes())
    vm.write_file("/root/new.deb", newest_deb().read_bytes())
    vm.run("dpkg -i /root/old.deb && " + CUSTOMER)
    owned = vm.output(f"sha256sum {CUSTOMERS}")
    before = vm.output(ADMINS)
    settings = vm.read_file("/etc/default/gandi")

    said = vm.output(INSTALL.format("/root/new.deb"), timeout=240)
    assert "06-changed was changed on this machine" in said
    assert vm.read_file("/etc/default/gandi") == settings + b"\nCONFIG_MOUNT_MODE=direct\n"
    assert vm.output(f"sha256sum {CUSTOMERS}") == owned
    assert vm.output(ADMINS) == before
    old = set(vm.output("ls /etc/gandi/old").split())
    assert old == {"06-changed", "gandi-decompress-kernel"}
    gone = {*oldpackage.CONFFILES, *oldpackage.FILES} - {"/etc/default/gandi", *CUSTOMERS.split()}
    # Made again by the agent, if at all.
    gone -= {"/etc/gandi/plugins-lib", "/etc/update-motd.d/11-help-text"}
    vm.run(" && ".join(f"! test -e {name}" for name in sorted(gone)))
    assert vm.output("ls /etc/rc?.d | grep gandi || true") == ""
    assert (
        vm.output("find /etc/systemd/system -name 'gandi-*' ! -lname '/usr/lib/*' ! -lname '/lib/*'") == ""
    )
    assert "enabled" in vm.output("systemctl is-enabled gandi-bootstrap gandi-config")
    # Once: what the customer changes afterwards stays.
    vm.run("sed -i s/MODE=direct/MODE=off/ /etc/default/gandi; " + UPGRADE)
    assert vm.output("grep -c MOUNT_MODE /etc/default/gandi; grep MODE /etc/default/gandi").split() == [
        "1",
        "CONFIG_MOUNT_MODE=off",
    ]
    kernel = vm.run(KERNEL, timeout=240, check=False)
    assert kernel.rc == 0, kernel.stdout
    assert "/etc/kernel/postinst.d/gandi-agent" in kernel.stdout

    vm.run("sync; rm -f /run/old-ran")
    vm.cut_power()
    vm.cold_boot(disks=[sample.swap_disk(tmp_path, script=sample.SHORT_SCRIPT)])
    vm.wait_booted()
    assert vm.output("systemctl show -P FragmentPath gandi-bootstrap gandi-config").split() == [
        "/usr/lib/systemd/system/gandi-bootstrap.service",
        "/usr/lib/systemd/system/gandi-config.service",
    ]
    vm.run("! test -e /run/old-ran")
    assert vm.output(f"sha256sum {CUSTOMERS}") == owned
    assert vm.output(ADMINS) == before
    vm.run("! test -e /root/order")
