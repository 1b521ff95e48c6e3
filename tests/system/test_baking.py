"""The recipes of docs/baking.md, as they are written, with the tools of Debian 13."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.baking import recipe
from tests.system.baking import can_boot, has_the_agent_and_no_identity, place_in, run
from tests.system.instances import root_of
from tests.vm.rig import MIB, ImageSpec, Table
from tests.vm.rig.image import settle
from tests.vm.rig.rootdisk import write_disk
from tests.vm.rig.tree import merged

pytestmark = pytest.mark.soak

#: The sources that mkosi would write, without Debian's debugging symbols, which few mirrors have.
MKOSI_SOURCES = """\
Types: deb
URIs: http://deb.debian.org/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


def test_mkosi_makes_a_tree_of_nothing() -> None:
    with merged(ImageSpec(extra=("mkosi", "reprepro"))) as tree:
        place = place_in(tree)
        sources = place / "mkosi.sandbox/etc/apt/sources.list.d/mkosi.sources"
        sources.parent.mkdir(parents=True)
        sources.write_text(MKOSI_SOURCES)
        run(tree, recipe("With mkosi"))
        has_the_agent_and_no_identity(place / "tree")
        can_boot(place / "tree")


def test_virt_customize_puts_the_agent_into_an_image(tmp_path: Path) -> None:
    """In a tree with guestfs-tools; libguestfs starts a machine of its own there."""
    commands = recipe("With virt-customize")
    (image,) = re.findall(r"-a (\S+\.qcow2)", commands)
    spec, disk = ImageSpec(table=Table.GPT, size=1536 * MIB), tmp_path / "disk"
    with merged(spec) as tree:
        settle(tree, spec)
        write_disk(tree, spec, disk)
    with merged(ImageSpec(extra=("guestfs-tools",))) as tree:
        place = place_in(tree)
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", disk, place / image], check=True)
        # As the tests' own guests: a /dev/kvm that is there may not work.
        run(tree, commands, "LIBGUESTFS_BACKEND=direct", "LIBGUESTFS_BACKEND_SETTINGS=force_tcg")
        subprocess.run(["qemu-img", "convert", "-O", "raw", place / image, disk], check=True)
    with root_of(disk) as (target, _):
        has_the_agent_and_no_identity(target)
