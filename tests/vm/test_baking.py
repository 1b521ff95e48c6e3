"""The image that docs/baking.md makes of nothing is a machine."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.baking import recipe
from tests.system.baking import can_boot, has_the_agent_and_no_identity, place_in, run
from tests.system.instances import probed, root_of
from tests.vm import sample
from tests.vm.conftest import Rig
from tests.vm.rig import Image, ImageSpec
from tests.vm.rig.image import add_channel
from tests.vm.rig.tree import merged

SPEC = replace(sample.SPEC, debian_initrd=True, memory=1024)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_mmdebstrap_makes_an_image_that_boots(machine: Rig, tmp_path: Path) -> None:
    """With the kernel and the initrd of its tree. Only the rig's channel is added."""
    with merged(ImageSpec(extra=("mmdebstrap",))) as tools:
        place = place_in(tools)
        run(tools, recipe("With mmdebstrap"))
        with root_of(place / "root.img") as (target, partitions):
            assert partitions == []
            has_the_agent_and_no_identity(target)
            can_boot(target)
            add_channel(target)
            for name in ("vmlinuz", "initrd.img"):
                (file,) = (target / "boot").glob(f"{name}-*")
                shutil.copy(file, tmp_path / name)
        disk = place / "root.img"
        uuid = probed(disk, 0, disk.stat().st_size)["UUID"]
        subprocess.run(["cp", "--sparse=always", disk, tmp_path], check=True)

    vm = machine.start(Image(tmp_path, uuid), SPEC, disks=[sample.swap_disk(tmp_path, script=None)])
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend; gandi-agent status")
    assert vm.output("cat /proc/sys/kernel/hostname") == "vm1"
    assert "rw" in vm.output("findmnt -no OPTIONS /").split(",")
    assert sample.KEY in vm.output("cat /home/admin1/.ssh/authorized_keys")
    assert len(vm.output("cat /etc/machine-id")) == 32
    assert int(vm.output("stat -f -c %b /")) * int(vm.output("stat -f -c %S /")) > sample.ROOT_SIZE * 0.9
    vm.run("test -s /etc/ssh/ssh_host_ed25519_key && systemctl is-active ssh")
