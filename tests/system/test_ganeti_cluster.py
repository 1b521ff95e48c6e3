"""The commands of docs/ganeti.md, in their order, in a cluster of Ganeti: one node in a Debian tree."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import creation
from tests.system.instances import root_of
from tests.vm.rig import ImageSpec, Table, build, newest_deb
from tests.vm.rig.image import copy_kernel, settle
from tests.vm.rig.paths import PROJECT
from tests.vm.rig.tree import merged

GUIDE = PROJECT / "docs/ganeti.md"
GANETI = ("ganeti", "ganeti-instance-debootstrap", "qemu-system-x86", "qemu-utils")
#: What docs/ganeti.md says that a node needs.
NEEDED = ("bubblewrap", "mmdebstrap", "dosfstools", "mtools")
LOADER = ("grub-efi-amd64-bin", "grub-pc-bin", "grub2-common")
#: What is otherwise here. The build host has no device mapper, so the disks are files; there is one node; no
#: instance is waited for that has not booted.
OTHERWISE = (
    (r"-t plain", "-t file"),
    (r"node2\.", "node1."),
    (r"(gnt-instance add) ", r"\1 -n node1.example.org "),
    (r"(gnt-instance stop) ", r"\1 --timeout=0 "),
    (r"(gnt-backup export) ", r"\1 --shutdown-timeout=0 "),
)
_END = "## ended: "


class Node:
    """A shell as root on the node."""

    def __init__(self, tree: Path) -> None:
        """Start it, and make the cluster."""
        self.tree = tree
        shutil.copy(Path(__file__).with_name("cluster.sh"), tree / "root")
        inside = 'mount --rbind /dev "$0/dev" && exec chroot "$0" sh /root/cluster.sh'
        apart = ("unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child")
        self.shell = subprocess.Popen(
            (*apart, "sh", "-c", inside, tree),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str) -> str:
        """Run a command, and return what it prints. Raise AssertionError if it fails."""
        assert self.shell.stdin
        assert self.shell.stdout
        self.shell.stdin.write(f"(set -e; {command}\n)\necho '{_END}'$?\n")
        self.shell.stdin.flush()
        said = ""
        for line in self.shell.stdout:
            if line.startswith(_END):
                assert line == f"{_END}0\n", f"{command}:\n{said}{self._logs()}"
                return said
            said += line
        raise AssertionError(f"{command}: the shell has ended:\n{said}")

    def _logs(self) -> str:
        """Return what the scripts of the OS definition have printed."""
        return "\n".join(path.read_text() for path in (self.tree / "var/log/ganeti/os").glob("*"))

    def commands(self, part: str) -> str:
        """Run the commands of the guide's one block with this part."""
        (text,) = [block for block in blocks() if part in block]
        return self.run(text)

    def remove(self, name: str) -> None:
        self.run(f"gnt-instance remove -f --shutdown-timeout=0 {name}")

    @contextmanager
    def system_of(self, name: str) -> Iterator[Path]:
        """The root filesystem of an instance, which is stopped."""
        self.run(f"gnt-instance stop --timeout=0 {name}")
        (disk,) = (self.tree / "srv/ganeti/file-storage" / name).glob("*.disk0")
        try:
            with root_of(disk) as (target, _):
                yield target
        finally:
            (disk.parent / "target").rmdir()  # Ganeti removes a folder that is empty

    def is_named(self, name: str) -> None:
        """Check that an instance is who it should be."""
        with self.system_of(name) as target:
            assert (target / "etc/hostname").read_text() == f"{name}\n"
            assert (target / "root/.ssh/authorized_keys").read_text() == (
                self.tree / "root/.ssh/id_ed25519.pub"
            ).read_text()


def blocks() -> list[str]:
    """Return the blocks of commands in docs/ganeti.md, as they are run here."""
    text = GUIDE.read_text()
    found = [
        re.sub(r"^ {4}", "", block, flags=re.MULTILINE)
        for block in re.findall(r"(?:^ {4}.*\n)+", text, re.M)
    ]
    found += re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    found += re.findall(r"`(gnt-os modify -O \S+ \S+)`", text)
    for pattern, other in OTHERWISE:
        found = [re.sub(pattern, other, block) for block in found]
    return [block for block in found if not block.startswith("OSP_")]


@pytest.fixture
def node() -> Iterator[Node]:
    with merged(ImageSpec(extra=(*GANETI, *NEEDED))) as tree:
        shutil.copytree(PROJECT / "ganeti", tree / "usr/share/doc/gandi-agent/examples/ganeti")
        shutil.copy(newest_deb(), tree / "root/gandi-agent_0.2.0_all.deb")
        with merged(ImageSpec(extra=LOADER)) as other:
            settle(other, ImageSpec())
            copy_kernel(other, tree / "boot", ImageSpec().root_fs)
            subprocess.run(["tar", "-C", other, "-cf", tree / "root/loader.tar", "."], check=True)
        # Ganeti's defaults.
        (tree / "boot/vmlinuz").rename(tree / "boot/vmlinuz-3-kvmU")
        (tree / "boot/initrd.img").rename(tree / "boot/initrd-3-kvmU")
        started = Node(tree)
        try:
            yield started
        finally:
            started.shell.communicate()  # The end of the shell ends all that it has started.


@pytest.mark.soak
def test_each_command_of_the_guide_does_what_it_says(node: Node) -> None:
    node.run("mkdir -p -m 0700 .ssh && ssh-keygen -q -t ed25519 -N '' -f .ssh/id_ed25519")
    said = node.commands("mkdir -p -m 0700 /etc/ganeti")
    assert "OS: gandi [global status: valid]" in said
    node.commands("gnt-os modify -O apt_mirror=")

    images = node.tree / "etc/ganeti/gandi-agent/images"
    image = build(ImageSpec(table=Table.MSDOS)).disk
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", image, images / "debian-13.qcow2"], check=True)
    node.commands("image=debian-13.qcow2")
    node.is_named("vm1.example.org")
    node.run("gnt-instance reinstall -f vm1.example.org")
    node.is_named("vm1.example.org")
    node.remove("vm1.example.org")

    # From an image, since no mirror is in reach.
    (node.tree / "root/loader.tar").rename(images / "loader.tar")
    node.run("gnt-os modify -O image=loader.tar gandi+default")
    node.commands("bootloader=grub")
    with node.system_of("vm1.example.org") as target:
        assert (target / "boot/grub/grub.cfg").exists()

    node.commands("gnt-backup export")
    node.is_named("vm9.example.org")
    for name in ("vm1.example.org", "vm9.example.org"):
        node.remove(name)

    _have_the_hook(node)
    node.commands("examples=")
    assert "sshkey" in node.run("gnt-os diagnose | grep 'parameters: ipv4.*dns'")
    node.commands("debootstrap+default")
    node.is_named("vm1.example.org")
    node.run("gnt-instance modify -O hostkeys=renew vm1.example.org")
    node.commands("gnt-instance stop")
    node.is_named("vm9.example.org")


def _have_the_hook(node: Node) -> None:
    """Do what the guide says in words; the system is debootstrap's cache, and its disk has no table."""
    hook = node.tree / "etc/ganeti/instance-debootstrap/hooks/gandi-agent"
    shutil.copy(creation.HOOK, hook)
    hook.chmod(0o755)
    settings = node.tree / "etc/default/ganeti-instance-debootstrap"
    with settings.open("a") as file:
        file.write("PARTITION_STYLE=none\nSUITE=trixie\nCLEAN_CACHE=\n")
    cache = node.tree / "var/cache/ganeti-instance-debootstrap"
    cache.mkdir(parents=True, exist_ok=True)
    with merged(ImageSpec()) as tree:
        settle(tree, ImageSpec())
        subprocess.run(["tar", "-C", tree, "-cf", cache / "cache-trixie-amd64.tar", "."], check=True)
