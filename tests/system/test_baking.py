"""The recipe of docs/baking.md for an image that is there already, as it is written."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.system.instances import root_of
from tests.vm.rig import MIB, ImageSpec, Table, newest_deb
from tests.vm.rig.image import settle
from tests.vm.rig.rootdisk import write_disk
from tests.vm.rig.tree import chroot, merged

PAGE = Path(__file__).parents[2] / "docs/baking.md"


def recipe(heading: str) -> str:
    """Return the commands below a heading of the page."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return "\n".join(line[4:] for line in section.split("\n") if line.startswith("    "))


@pytest.mark.soak
def test_virt_customize_puts_the_agent_into_an_image(tmp_path: Path) -> None:
    """In a tree with guestfs-tools; libguestfs starts a machine of its own there."""
    commands = recipe("With virt-customize")
    (image,) = re.findall(r"-a (\S+\.qcow2)", commands)
    spec, disk = ImageSpec(table=Table.GPT, size=1536 * MIB), tmp_path / "disk"
    with merged(spec) as tree:
        settle(tree, spec)
        write_disk(tree, spec, disk)
    with merged(ImageSpec(extra=("guestfs-tools",))) as tree:
        place = tree / "tmp/baking"
        (place / "dist").mkdir(parents=True)
        shutil.copy(newest_deb(), place / "dist")
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", disk, place / image], check=True)
        # As the tests' own guests: a /dev/kvm that is there may not work.
        settings = ["LIBGUESTFS_BACKEND=direct", "LIBGUESTFS_BACKEND_SETTINGS=force_tcg"]
        chroot(tree, ["env", "-C", "/tmp/baking", *settings, "sh", "-ec", commands])
        subprocess.run(["qemu-img", "convert", "-O", "raw", place / image, disk], check=True)
    with root_of(disk) as (target, _):
        assert (target / "usr/bin/gandi-agent").exists()
        assert (target / "etc/machine-id").read_bytes() == b"", "it is there, and empty"
        assert list((target / "etc/ssh").glob("ssh_host_*")) == []
        assert not (target / "var/lib/gandi").exists()
        assert list((target / "var/tmp").iterdir()) == []
