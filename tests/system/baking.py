"""Run the recipes of docs/baking.md in a tree with their tools, and check what they make."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.vm.rig import MIB, newest_deb
from tests.vm.rig.tree import chroot

#: Where the recipes are run in the tree that has the tools.
PLACE = "tmp/baking"


def place_in(tree: Path) -> Path:
    """Make the directory of the build in a tree, with the package where `make deb` puts it."""
    place = tree / PLACE
    (place / "dist").mkdir(parents=True)
    shutil.copy(newest_deb(), place / "dist")
    return place


def run(tree: Path, commands: str, *settings: str) -> None:
    chroot(tree, ["env", "-C", f"/{PLACE}", *settings, "sh", "-ec", commands])


def has_the_agent_and_no_identity(root: Path) -> None:
    assert (root / "usr/bin/gandi-agent").exists()
    assert (root / "etc/machine-id").read_bytes() == b"", "it is there, and empty"
    assert list((root / "etc/ssh").glob("ssh_host_*")) == []
    assert not (root / "var/lib/gandi").exists()
    left = [path for folder in ("tmp", "var/tmp", "var/cache") for path in (root / folder).glob("*.deb")]
    assert left == []


def can_boot(root: Path) -> None:
    """Check what a boot from it needs: kernel, initrd, init, a root that is mounted writable, a network
    manager, ssh, the agent's stages.
    """
    for name in ("vmlinuz", "initrd.img"):
        (file,) = (root / "boot").glob(f"{name}-*")
        assert file.stat().st_size > MIB
    assert (root / "usr/sbin/init").is_symlink()
    assert (root / "etc/fstab").read_text() == "LABEL=root / ext4 errors=remount-ro 0 1\n"
    assert (root / "usr/sbin/sshd").exists()
    assert (root / "usr/bin/login").exists()
    wanted = {path.name for path in (root / "etc/systemd/system").glob("*.wants/*")}
    assert {"systemd-networkd.service", "ssh.service"} <= wanted
    assert {"gandi-bootstrap.service", "gandi-config.service", "gandi-check.service"} <= wanted
