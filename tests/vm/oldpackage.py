"""A package with the file layout of gandi-hosting-vm2. Its programs do nothing but write to /run/old-ran, to
show when the old package's programs are still run.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

_CONTROL = """Package: gandi-hosting-vm2
Version: 2.9
Architecture: all
Maintainer: nobody <nobody@example.org>
Description: the old layout
"""
_TRACE = "#!/bin/sh\necho $0 >> /run/old-ran\n"
_INIT = f"""#!/bin/sh
### BEGIN INIT INFO
# Provides:          NAME
# Required-Start:    $local_fs
# Required-Stop:
# Default-Start:     2 3 4 5
# Default-Stop:
### END INIT INFO
{_TRACE}"""
_UNIT = "[Unit]\nDescription=old\n[Service]\nType=oneshot\nExecStart=/usr/share/gandi/run\n"
RULES = """SUBSYSTEM=="cpu", ACTION=="add", RUN+="/lib/udev/cpu_online"
SUBSYSTEM=="block", ACTION=="add|change|remove", RUN+="/etc/gandi/manage_data_disk.py"
"""
#: Conffiles, with their text; those that hold a program are executable.
CONFFILES = {
    "/etc/default/gandi": 'CONFIG_NODHCP="eth0"\n# the mode is not known here\nCONFIG_FSCK=0',
    "/etc/gandi/manage_data_disk.py": _TRACE,
    "/etc/gandi/manage_data_disk.sh": _TRACE,
    "/etc/gandi/manage_iface.sh": _TRACE,
    "/etc/gandi/plugins-lib": "load_config() { :; }\n",
    "/etc/gandi/sysctl.conf": "vm.swappiness = 10\n",
    "/etc/gandi/plugins.d/05-shipped": _TRACE,
    "/etc/gandi/plugins.d/06-changed": _TRACE,
    "/etc/gandi/hooks/post-disk-attach": _TRACE,
    "/etc/gandi/hooks/post-iface-attach": _TRACE,
    "/etc/udev/rules.d/86-gandi.rules": RULES,
    "/etc/init.d/gandi-bootstrap": _INIT.replace("NAME", "gandi-bootstrap"),
    "/etc/init.d/gandi-kernel": _INIT.replace("NAME", "gandi-kernel"),
    "/etc/kernel/postinst.d/gandi-decompress-kernel": _TRACE + "exec /usr/share/gandi/decompress $2\n",
    "/etc/update-motd.d/11-help-text": _TRACE,
}
FILES = {
    "/usr/lib/udev/cpu_online": _TRACE,
    "/usr/lib/udev/manage_memory": _TRACE,
    "/usr/lib/udev/fake_blkid": _TRACE,
    "/usr/share/gandi/run": _TRACE,
    "/usr/share/gandi/decompress": _TRACE,
    "/usr/share/gandi/bootstrap.d/01-network": _TRACE,
    "/usr/share/gandi/systemd/gandi-bootstrap.service": _UNIT,
    "/usr/share/gandi/systemd/gandi-config.service": _UNIT,
    "/usr/share/gandi/systemd/gandi-old.service": _UNIT,
    "/usr/lib/sysctl.d/90-gandi.conf": "net.ipv4.ip_forward = 0\n",
}
AUTOFS = {
    "/etc/auto.master.d/gandi.autofs": "/srv /etc/auto.gandi --timeout=60\n",
    "/etc/auto.gandi": _TRACE,
}
#: Its postinst: links of init scripts, and units that are links.
_POSTINST = """#!/bin/sh
for n in 2 3 4 5; do ln -sf ../init.d/gandi-bootstrap /etc/rc$n.d/S01gandi-bootstrap; done
ln -sf ../init.d/gandi-kernel /etc/rc2.d/S01gandi-kernel
for unit in bootstrap config old; do
    ln -sf /usr/share/gandi/systemd/gandi-$unit.service /etc/systemd/system/gandi-$unit.service
    mkdir -p /etc/systemd/system/sysinit.target.wants
    ln -sf ../gandi-$unit.service /etc/systemd/system/sysinit.target.wants/gandi-$unit.service
done
"""


def build(folder: Path, *, autofs: bool = False) -> Path:
    """Make the package as a .deb below ``folder``."""
    tree = folder / "old"
    conffiles = CONFFILES | (AUTOFS if autofs else {})
    for name, text in (conffiles | FILES).items():
        path = tree / name[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if text.startswith("#!") else 0o644)
    for runlevel in "2345":
        (tree / f"etc/rc{runlevel}.d").mkdir(parents=True)
    control = tree / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(_CONTROL)
    (control / "conffiles").write_text("".join(f"{name}\n" for name in conffiles))
    sums = {name[1:]: hashlib.md5(text.encode()).hexdigest() for name, text in FILES.items()}
    (control / "md5sums").write_text("".join(f"{md5}  {name}\n" for name, md5 in sums.items()))
    (control / "postinst").write_text(_POSTINST)
    (control / "postinst").chmod(0o755)
    deb = folder / "gandi-hosting-vm2_2.9_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, deb], check=True, capture_output=True)
    return deb
