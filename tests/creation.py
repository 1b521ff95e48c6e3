"""What a Ganeti node does: instance-debootstrap as far as a hook can tell (a Debian tree on a disk, with
what its ``create`` script leaves in it, and the environment that it gives to hooks), and OS scripts.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.vm.rig.command import run
from tests.vm.rig.image import copy_kernel, settle
from tests.vm.rig.paths import PROJECT
from tests.vm.rig.rootdisk import Extent, loop_device, write_disk
from tests.vm.rig.spec import MIB, ImageSpec, Table
from tests.vm.rig.tree import merged

HOOK = PROJECT / "ganeti/hooks/gandi-agent"
DEFINITION = PROJECT / "ganeti/os/gandi"
NAME = "vm1.example.org"
UUID = "a1b2c3d4-0000-4000-8000-0123456789ab"
MAC = "52:54:00:00:00:10"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHdf2mNDYbbiLMAH/3rdNZmPnmVcRdhNWxbWdsCbXvYF me@home"
#: ganeti-os-interface(7); OSP_* are what the operator declares in parameters.list.
ENVIRONMENT = {
    "OS_API_VERSION": "20",
    "INSTANCE_NAME": NAME,
    "INSTANCE_UUID": UUID,
    "INSTANCE_OS": "debootstrap+default",
    "INSTANCE_HV_serial_console": "True",
    "HYPERVISOR": "kvm",
    "OS_VARIANT": "default",
    "DEBUG_LEVEL": "0",
    "NIC_COUNT": "1",
    "NIC_0_MAC": MAC,
    "NIC_0_IP": "203.0.113.10",
    "NIC_0_MODE": "bridged",
    "NIC_0_LINK": "br0",
    "NIC_0_NETWORK_NAME": "public",
    "NIC_0_NETWORK_SUBNET": "203.0.113.0/24",
    "NIC_0_NETWORK_GATEWAY": "203.0.113.254",
    "DISK_COUNT": "1",
    "DISK_0_SIZE": "1536",
    "SUITE": "trixie",
    "ARCH": "",
    "EXTRA_PKGS": "",
    "OSP_DNS": "203.0.113.3",
    "OSP_SSHKEY": KEY,
    "OSP_TIMEZONE": "Europe/Paris",
}
#: HOOKS_PATH of Ganeti's constants: all that a script has beside Ganeti's variables.
SCRIPT_ENVIRONMENT = {"PATH": "/sbin:/bin:/usr/sbin:/usr/bin"}
#: By PARTITION_STYLE: the disk, and where on it the filesystem is.
STYLES = {Table.NONE: 0, Table.MSDOS: MIB}


@contextmanager
def instance(spec: ImageSpec, folder: Path) -> Iterator[tuple[Path, str]]:
    """A disk with a new system on it, mounted as the hooks find it: where, and its filesystem's UUID.
    ``folder`` gets root.img and the tree's kernel and initrd.
    """
    with merged(spec) as tree:
        settle(tree, spec)
        _create(tree)
        copy_kernel(tree, folder, spec.root_fs)
        uuid = write_disk(tree, spec, folder / "root.img")
    offset = STYLES[spec.table]
    target = folder / "target"
    target.mkdir()
    with loop_device(folder / "root.img", Extent(offset, spec.size - offset)) as device:
        run(["mount", device, target])
        try:
            yield target, uuid
        finally:
            # No -l: a process that the hook left there fails the creation, as it does on a node.
            run(["umount", target])
    _wait_until_detached(folder / "root.img")


def _wait_until_detached(disk: Path) -> None:
    """Wait for the end of the disk's loop device, at most 10 seconds: the mount namespace of a program of
    the instance goes a moment after the program. Opened again before that, the disk would lack what was
    written last.
    """
    deadline = time.monotonic() + 10
    while run(["losetup", "--noheadings", "--output", "NAME", "--associated", disk]):
        assert time.monotonic() < deadline, f"{disk}: still attached"
        time.sleep(0.05)


def _create(tree: Path) -> None:
    """As instance-debootstrap's ``create`` leaves it."""
    run(["chroot", tree, "passwd", "-d", "root"])
    (tree / "etc/hostname").write_text(f"{NAME}\n")
    (tree / "etc/mailname").write_text(f"{NAME}\n")
    (tree / "etc/hosts").write_text("127.0.0.1 localhost\n198.51.100.1 node1.example.net node1\n")
    (tree / "etc/resolv.conf").write_text("search example.net\nnameserver 198.51.100.53\n")


def hook(target: Path, folder: Path, style: str, **changed: str) -> subprocess.CompletedProcess[str]:
    """Run the hook with the environment of a creation; ``folder`` is what the operator has on the node. A
    variable that is changed to "" is not there.
    """
    environment = ENVIRONMENT | {"TARGET": str(target), "PARTITION_STYLE": style}
    environment |= {"BLOCKDEV": "/dev/loop0", "FSYSDEV": "/dev/loop0", "GANDI_AGENT_FOLDER": str(folder)}
    environment |= changed
    return subprocess.run(
        [HOOK],
        env={name: value for name, value in environment.items() if value} | {"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def script(name: str, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the OS definition as ganeti.backend does: by its path, in its folder, with an
    environment of Ganeti's own. ``folder`` is what the operator has on the node.
    """
    return subprocess.run(
        [DEFINITION / name, *arguments],
        cwd=DEFINITION,
        env=SCRIPT_ENVIRONMENT | {"GANDI_AGENT_FOLDER": str(folder), "TMPDIR": str(folder)} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def start(
    name: str,
    folder: Path,
    environment: dict[str, str],
    *,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stdout: IO[bytes] | int,
    pass_fds: tuple[int, ...] = (),
) -> subprocess.CompletedProcess[bytes]:
    """Run export or import as Ganeti's daemon does, which has a pipe to it."""
    line = ["sh", "-c", 'cd "$0" && "$1"', str(DEFINITION), str(DEFINITION / name)]
    return subprocess.run(
        line,
        env=SCRIPT_ENVIRONMENT | {"GANDI_AGENT_FOLDER": str(folder), "TMPDIR": str(folder)} | environment,
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        pass_fds=pass_fds,
        timeout=600,
        check=False,
    )
