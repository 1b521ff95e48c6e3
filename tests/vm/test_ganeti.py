"""An instance of Ganeti's OS definition, through all of its scripts, boots as the machine that it became."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests import creation
from tests.system.instances import NEW, RENAMED, root_of
from tests.vm import checks, sample
from tests.vm.conftest import Rig
from tests.vm.rig import GIB, MIB, Image, ImageSpec, MachineSpec, newest_deb
from tests.vm.rig.image import copy_kernel, settle
from tests.vm.rig.tree import merged

#: One NIC on the wire where 203.0.113.254 answers; a root disk larger than the one that is made here.
SPEC = MachineSpec(nics=(sample.PUBLIC_NIC,), root_size=sample.ROOT_SIZE)
#: What the creation and the new name have alike.
APT = {
    "OSP_APT_MIRROR": "http://203.0.113.254/debian",
    "OSP_APT_PROXY": "http://node-7:s3cret@203.0.113.254:3128",
    "OSP_LOCALE": "C.UTF-8",
}


@pytest.mark.long
def test_an_instance_that_was_created_exported_imported_and_renamed_boots(
    machine: Rig, tmp_path: Path
) -> None:
    node, first, second = tmp_path / "node", tmp_path / "first.img", tmp_path / "root.img"
    (node / "images").mkdir(parents=True)
    shutil.copy(newest_deb(), node / "gandi-agent.deb")
    spec = ImageSpec()
    with merged(spec) as tree:
        settle(tree, spec)
        copy_kernel(tree, tmp_path, spec.root_fs)
        subprocess.run(["tar", "-C", tree, "-cf", node / "images/tree.tar", "."], check=True)
    for disk, size in ((first, 1536 * MIB), (second, 2 * GIB)):
        with disk.open("wb") as file:
            file.truncate(size)
    _done(
        creation.script(
            "create",
            node,
            **creation.ENVIRONMENT
            | APT
            | {"DISK_0_PATH": str(first), "OSP_IMAGE": "tree.tar", "OSP_PARTITION": "gpt", "OSP_SWAP": "64"},
        )
    )
    with (tmp_path / "backup").open("wb") as file:
        done = creation.start(
            "export", node, creation.ENVIRONMENT | {"EXPORT_DISK_PATH": str(first)}, stdout=file
        )
        assert done.returncode == 0, done.stderr
    first.unlink()
    with (tmp_path / "backup").open("rb") as file:
        done = creation.start(
            "import",
            node,
            creation.ENVIRONMENT | {"IMPORT_DISK_PATH": str(second)},
            stdin=file,
            stdout=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stderr
    (tmp_path / "backup").unlink()
    another = {"INSTANCE_UUID": "0a0b0c0d-0000-4000-8000-000000000000", "DISK_0_PATH": str(second)}
    _done(creation.script("rename", node, **RENAMED | APT | another))
    with root_of(second) as (_, parts):
        uuid = parts[-1]["UUID"]
    vm = machine.start(Image(tmp_path, uuid), SPEC)
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend; gandi-agent status")
    assert vm.output("cat /proc/sys/kernel/hostname") == NEW
    links = {link["address"]: link["ifname"] for link in vm.json("ip -j link")}
    assert "203.0.113.77/24" in checks.cidrs(vm, links[sample.PUBLIC_NIC.mac])
    vm.run("ping -c1 -W5 203.0.113.254")
    # 1 is that nothing was found; an error is 2.
    found = vm.run(f"grep -rlF -e {creation.NAME} -e 203.0.113.10 /etc", check=False)
    assert (found.rc, found.stdout) == (1, ""), found
    assert vm.read_file("/root/.ssh/authorized_keys").decode() == f"{creation.KEY}\n"
    vm.run("ls /etc/ssh/ssh_host_ed25519_key && systemctl is-active ssh")
    assert len(vm.read_file("/etc/machine-id").strip()) == 32
    assert vm.output("swapon --show=SIZE --noheadings --bytes") == str(64 * MIB - 4096)
    assert vm.output("systemctl is-enabled serial-getty@ttyS0.service") == "enabled"
    vm.run("systemctl is-active serial-getty@ttyS0.service")
    vm.wait_until("test $(df --output=size -B1M / | tail -1) -gt 2500")
    asked = vm.output("apt-get --print-uris update | cut -d\\' -f2 | grep InRelease").split("\n")
    assert sorted(asked) == [
        "http://203.0.113.254/debian/dists/trixie-updates/InRelease",
        "http://203.0.113.254/debian/dists/trixie/InRelease",
        "http://security.debian.org/debian-security/dists/trixie-security/InRelease",
    ]
    # Any user's apt reads its configuration without a warning, and without the password.
    said = vm.output("runuser -u nobody -- apt-config dump 2>&1 | grep -i -e proxy -e warn -e unable")
    assert said.split("\n") == [
        f'Acquire::{scheme}::Proxy "http://203.0.113.254:3128";' for scheme in ("http", "https")
    ]
    vm.run("! runuser -u nobody -- cat /etc/apt/auth.conf.d/90gandi.conf && ! journalctl -b | grep s3cret")
    assert vm.output("systemctl show-environment | grep ^LANG=") == "LANG=C.UTF-8"
    assert vm.output("gandi-agent status --format=short").endswith("nothing failed")


def _done(script: subprocess.CompletedProcess[str]) -> None:
    assert script.returncode == 0, script.stdout + script.stderr
