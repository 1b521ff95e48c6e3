"""The recipes of docs/baking.md, as they are written, with the tools of Debian 13."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.baking import recipe
from tests.system.instances import root_of
from tests.vm.rig import MIB, ImageSpec, Table, newest_deb
from tests.vm.rig.image import settle
from tests.vm.rig.rootdisk import write_disk
from tests.vm.rig.tree import chroot, merged

pytestmark = pytest.mark.soak

#: The sources that mkosi would write, without Debian's debugging symbols, which few mirrors have.
MKOSI_SOURCES = """\
Types: deb
URIs: http://deb.debian.org/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
#: Where the recipes are run in the tree that has the tools.
PLACE = "tmp/baking"


def _place(tree: Path) -> Path:
    """Make the directory of the build in a tree, with the package where `make deb` puts it."""
    place = tree / PLACE
    (place / "dist").mkdir(parents=True)
    shutil.copy(newest_deb(), place / "dist")
    return place


def _run(tree: Path, commands: str, *settings: str) -> None:
    chroot(tree, ["env", "-C", f"/{PLACE}", *settings, "sh", "-ec", commands])


def _has_the_agent_and_no_identity(root: Path) -> None:
    assert (root / "usr/bin/gandi-agent").exists()
    assert (root / "etc/machine-id").read_bytes() == b"", "it is there, and empty"
    assert list((root / "etc/ssh").glob("ssh_host_*")) == []
    assert not (root / "var/lib/gandi").exists()
    left = [path for folder in ("tmp", "var/tmp", "var/cache") for path in (root / folder).glob("*.deb")]
    assert left == []


def _can_boot(root: Path) -> None:
    """Check what a boot from it needs: kernel, initrd, init, a network manager, ssh, the agent's stages."""
    for name in ("vmlinuz", "initrd.img"):
        (file,) = (root / "boot").glob(f"{name}-*")
        assert file.stat().st_size > MIB
    assert (root / "usr/sbin/init").is_symlink()
    assert (root / "usr/sbin/sshd").exists()
    wanted = {path.name for path in (root / "etc/systemd/system").glob("*.wants/*")}
    assert {"systemd-networkd.service", "ssh.service"} <= wanted
    assert {"gandi-bootstrap.service", "gandi-config.service", "gandi-check.service"} <= wanted


def test_mmdebstrap_makes_an_image_of_nothing() -> None:
    commands = recipe("With mmdebstrap")
    with merged(ImageSpec(extra=("mmdebstrap",))) as tree:
        place = _place(tree)
        _run(tree, commands)
        with root_of(place / "root.img") as (target, partitions):
            assert partitions == []
            _has_the_agent_and_no_identity(target)
            _can_boot(target)


def test_mkosi_makes_a_tree_of_nothing() -> None:
    with merged(ImageSpec(extra=("mkosi", "reprepro"))) as tree:
        place = _place(tree)
        sources = place / "mkosi.sandbox/etc/apt/sources.list.d/mkosi.sources"
        sources.parent.mkdir(parents=True)
        sources.write_text(MKOSI_SOURCES)
        _run(tree, recipe("With mkosi"))
        _has_the_agent_and_no_identity(place / "tree")
        _can_boot(place / "tree")


def test_virt_customize_puts_the_agent_into_an_image(tmp_path: Path) -> None:
    """In a tree with guestfs-tools; libguestfs starts a machine of its own there."""
    commands = recipe("With virt-customize")
    (image,) = re.findall(r"-a (\S+\.qcow2)", commands)
    spec, disk = ImageSpec(table=Table.GPT, size=1536 * MIB), tmp_path / "disk"
    with merged(spec) as tree:
        settle(tree, spec)
        write_disk(tree, spec, disk)
    with merged(ImageSpec(extra=("guestfs-tools",))) as tree:
        place = _place(tree)
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", disk, place / image], check=True)
        # As the tests' own guests: a /dev/kvm that is there may not work.
        _run(tree, commands, "LIBGUESTFS_BACKEND=direct", "LIBGUESTFS_BACKEND_SETTINGS=force_tcg")
        subprocess.run(["qemu-img", "convert", "-O", "raw", place / image, disk], check=True)
    with root_of(disk) as (target, _):
        _has_the_agent_and_no_identity(target)
