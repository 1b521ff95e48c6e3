"""A machine that an administrator has set up by hand before the agent is installed, and the parts of it that
must not change by a byte.
"""

from __future__ import annotations

from tests.vm import sample
from tests.vm.rig import Machine

#: Nothing here is as the sample's document has it.
_BY_HAND = f"""
echo by-hand > /etc/hostname; hostname by-hand
printf '127.0.0.1 localhost\\n127.0.1.1 by-hand\\n' > /etc/hosts
echo root:secret | chpasswd; useradd -m -s /bin/sh someone
mkdir -p -m 700 /root/.ssh; echo '{sample.public_key(9, "mine")}' > /root/.ssh/authorized_keys
rm -f /etc/ssh/ssh_host_*; ssh-keygen -q -A
systemd-machine-id-setup > /dev/null 2>&1
printf '[Match]\\nName=e*\\n[Network]\\nAddress=198.51.100.7/24\\n' > /etc/systemd/network/20-mine.network
echo '/dev/vda / ext4 defaults 0 1' > /etc/fstab
rm -f /etc/resolv.conf; echo 'nameserver 198.51.100.1' > /etc/resolv.conf
sync
"""
#: The command that prints checksums of all that the administrator owns.
ADMINS = (
    "sha256sum /etc/hostname /etc/hosts /etc/fstab /etc/shadow /etc/passwd /etc/group "
    "/root/.ssh/authorized_keys "
    "/etc/ssh/ssh_host_*_key /etc/machine-id /etc/resolv.conf /etc/localtime; "
    "cat /etc/timezone; find /etc/systemd/network /etc/network /etc/netplan -type f 2>/dev/null | sort | "
    "xargs sha256sum"
)


def put_together(vm: Machine) -> None:
    """Set the machine up as the administrator did."""
    vm.run(_BY_HAND, timeout=120)
