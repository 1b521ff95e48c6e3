"""The scripts of the OS definition for Ganeti, run as a node runs them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import creation
from tests.vm.rig import ImageSpec, Network, Table, newest_deb
from tests.vm.rig.rootdisk import Extent, loop_device

SCRIPTS = ("rename", "verify")
NEW = "vm9.example.net"
#: What Ganeti has for the instance after its new name and another address.
RENAMED = creation.ENVIRONMENT | {
    "INSTANCE_NAME": NEW,
    "OLD_INSTANCE_NAME": creation.NAME,
    "NIC_0_IP": "203.0.113.77",
}


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """Return the operator's files on the node."""
    folder = tmp_path / "node"
    folder.mkdir(mode=0o700)
    (folder / "gandi-agent.deb").write_bytes(newest_deb().read_bytes())
    return folder


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_usage_message_when_asked_and_for_wrong_arguments(node: Path, name: str) -> None:
    for argument in ("-h", "--help"):
        done = creation.script(name, node, argument)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"usage: {name}")
    done = creation.script(name, node, "one", "two")
    assert done.returncode == 1
    assert f"usage: {name}" in done.stderr


def test_a_node_without_the_package_or_with_another_one(tmp_path: Path) -> None:
    done = creation.script("verify", tmp_path, "parameters")
    assert done.returncode == 1
    assert done.stderr.endswith("gandi-agent.deb: missing: put the package there on each node\n")
    (tmp_path / "gandi-agent.deb").write_bytes(b"no package")
    done = creation.script("verify", tmp_path, "parameters")
    assert done.returncode == 1
    assert "gandi-agent.deb: contains no agent: put a newer package there\n" in done.stderr


def test_verify_prints_a_line_for_each_wrong_parameter(node: Path) -> None:
    environment = {"OS_API_VERSION": "20", "OS_NAME": "gandi", "OS_VARIANT": "default", "DEBUG_LEVEL": "0"}
    assert creation.script("verify", node, "parameters", **environment).returncode == 0
    right = environment | {"OSP_SSHKEY": creation.KEY, "OSP_IPV4": "203.0.113.10/24"}
    done = creation.script("verify", node, "parameters", **right)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    more = {"OSP_USER": "$(touch /tmp/x); `id`\x1b[2J", "OSP_PASSWORD_HASH": "s3cret", "OSP_DNS": "::1 x"}
    done = creation.script("verify", node, "parameters", **right | more)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["OSP_DNS", "OSP_PASSWORD_HASH", "OSP_USER"]
    assert not set(done.stderr) & {"\x1b", "$"}
    assert "s3cret" not in done.stderr


# -- rename --------------------------------------------------------------------------


@contextmanager
def opened(disk: Path, style: Table) -> Iterator[Path]:
    """The root filesystem of an instance's disk, mounted."""
    offset, target = creation.STYLES[style], disk.parent / "target"
    target.mkdir(exist_ok=True)
    with loop_device(disk, Extent(offset, disk.stat().st_size - offset)) as device:
        subprocess.run(["mount", device, target], check=True)
        try:
            yield target
        finally:
            subprocess.run(["umount", target], check=True)


def instance(tmp_path: Path, node: Path, style: Table, network: Network = Network.NETWORKD) -> Path:
    """Return the disk of an instance that the hook has configured and that has booted: it has a machine-id
    and host keys.
    """
    folder = tmp_path / "instance"
    folder.mkdir()
    with creation.instance(ImageSpec(network=network, table=style), folder) as (target, _):
        done = creation.hook(target, node, style)
        assert done.returncode == 0, done.stdout + done.stderr
        (target / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        for kind in ("ed25519", "ecdsa"):
            key = target / f"etc/ssh/ssh_host_{kind}_key"
            comment = f"root@{creation.NAME}"
            argv = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", comment, "-f", key]
            subprocess.run(argv, check=True)
    return folder / "root.img"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the disk of an instance that no test changes."""
    folder = tmp_path_factory.mktemp("shared")
    node = folder / "node"
    node.mkdir(mode=0o700)
    os.link(newest_deb(), node / "gandi-agent.deb")
    return instance(folder, node, Table.NONE)


def copied(disk: Path, folder: Path) -> Path:
    """Return a copy of a disk, for a test that changes it."""
    copy = folder / "copy.img"
    subprocess.run(["cp", "--sparse=always", disk, copy], check=True)
    return copy


def with_name(tree: Path, text: str) -> list[str]:
    """Return the files of the agent and of /etc that have a text."""
    found = subprocess.run(
        ["grep", "-rlIF", text, "etc", "var/lib/gandi", "root"],
        cwd=tree,
        check=False,
        capture_output=True,
        text=True,
    )
    return sorted(found.stdout.splitlines())


def is_left_alone(disk: Path, node: Path) -> None:
    """Check that the node has nothing of the disk: no mount, no loop device, no folder."""
    assert [path.name for path in node.iterdir() if path.suffix not in (".deb", ".json")] == []
    assert (
        str(disk) not in subprocess.run(["losetup", "-l"], check=True, capture_output=True, text=True).stdout
    )
    assert f"{node}/" not in Path("/proc/mounts").read_text()


@pytest.mark.parametrize("style", list(creation.STYLES))
def test_a_renamed_instance_has_nothing_of_its_former_name_and_address(
    tmp_path: Path, node: Path, style: Table
) -> None:
    disk = instance(tmp_path, node, style)
    with opened(disk, style) as target:
        # As its administrator has left it.
        (target / "etc/motd").write_text("mine\n")
        (target / "root/.ssh/authorized_keys").write_text("")
        keys = {path.name: path.read_bytes() for path in (target / "etc/ssh").glob("ssh_host_*_key")}
        assert with_name(target, creation.NAME)
        assert with_name(target, "203.0.113.10/24")
    done = creation.script("rename", node, **RENAMED | {"DISK_0_PATH": str(disk)})
    assert done.returncode == 0, done.stdout + done.stderr
    is_left_alone(disk, node)
    with opened(disk, style) as target:
        assert (target / "etc/hostname").read_text() == f"{NEW}\n"
        assert (target / "etc/mailname").read_text() == f"{NEW}\n"
        assert "203.0.113.77\tvm9.example.net vm9\n" in (target / "etc/hosts").read_text()
        assert with_name(target, "203.0.113.77/24")
        assert with_name(target, creation.NAME) == []
        assert with_name(target, "203.0.113.10/") == []
        assert (target / "etc/machine-id").read_text() == "0123456789abcdef0123456789abcdef\n"
        assert keys == {path.name: path.read_bytes() for path in (target / "etc/ssh").glob("ssh_host_*_key")}
        assert len(keys) == 2
        public = (target / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
        assert public.endswith(f" root@{NEW}\n")
        assert (target / "etc/motd").read_text() == "mine\n"
        assert (target / "root/.ssh/authorized_keys").read_text() == "", "removed by the administrator"


def test_host_keys_are_renewed_and_a_file_with_the_old_name_is_named(
    shared: Path, tmp_path: Path, node: Path
) -> None:
    disk = copied(shared, tmp_path)
    with opened(disk, Table.NONE) as target:
        (target / "etc/postfix.cf").write_text(f"myhostname = {creation.NAME}\nx-{creation.NAME}.net\n")
    more = {"DISK_0_PATH": str(disk), "OSP_HOSTKEYS": "renew", "DEBUG_LEVEL": "1"}
    done = creation.script("rename", node, **RENAMED | more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "/etc/postfix.cf" in done.stdout
    assert "the root filesystem: ext4 at byte 0" in done.stderr, "DEBUG_LEVEL=1"
    with opened(disk, Table.NONE) as target:
        assert list((target / "etc/ssh").glob("ssh_host_*")) == [], "the next boot makes them"
        assert (target / "etc/machine-id").read_text().strip()


def test_an_operators_document_is_asked_for_under_the_new_name(
    shared: Path, tmp_path: Path, node: Path
) -> None:
    disk = copied(shared, tmp_path)
    (node / f"{creation.NAME}.json").write_text("{}")
    done = creation.script("rename", node, **RENAMED | {"DISK_0_PATH": str(disk)})
    assert done.returncode == 1
    assert f"{creation.NAME}.json: the document of this instance: write one for its new name" in done.stderr
    document = {
        "version": 1,
        "id": creation.UUID,
        "hostname": NEW,
        "users": [{"name": "root", "locked": True}],
    }
    (node / f"{NEW}.json").write_text(json.dumps(document))
    done = creation.script("rename", node, **RENAMED | {"DISK_0_PATH": str(disk)})
    assert done.returncode == 0, done.stdout + done.stderr
    with opened(disk, Table.NONE) as target:
        assert (target / "etc/hostname").read_text() == f"{NEW}\n"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("INSTANCE_NAME", "", "INSTANCE_NAME: missing"),
        ("INSTANCE_NAME", "../../etc/x", "INSTANCE_NAME: not a host name"),
        ("INSTANCE_NAME", "a b;reboot", "INSTANCE_NAME: "),
        ("OLD_INSTANCE_NAME", "", "OLD_INSTANCE_NAME: missing"),
        ("DISK_0_PATH", "", "DISK_0_PATH: missing"),
        ("DISK_0_PATH", "-x", "DISK_0_PATH: not an absolute path"),
        ("DISK_0_PATH", "/dev/null", "DISK_0_PATH: neither"),
        ("DISK_0_ACCESS", "ro", "DISK_0_ACCESS: the first disk is read-only"),
        ("NIC_0_MAC", "", "NIC_0_MAC: missing"),
        ("OSP_DNS", "resolver", "OSP_DNS: not an IP address"),
    ],
)
def test_a_wrong_variable_changes_nothing_and_is_named(
    shared: Path, node: Path, name: str, value: str, said: str
) -> None:
    environment = RENAMED | {"DISK_0_PATH": str(shared), name: value}
    done = creation.script("rename", node, **{one: text for one, text in environment.items() if text})
    assert done.returncode == 1
    assert said in done.stderr + done.stdout
    assert "reboot" not in done.stderr + done.stdout
    is_left_alone(shared, node)
    with opened(shared, Table.NONE) as target:
        assert (target / "etc/hostname").read_text() == f"{creation.NAME}\n"


def test_a_disk_without_a_system_or_without_the_agent(tmp_path: Path, node: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(64 << 20)
    environment = RENAMED | {"DISK_0_PATH": str(disk)}
    done = creation.script("rename", node, **environment)
    assert "DISK_0_PATH: no root filesystem" in done.stderr
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    done = creation.script("rename", node, **environment)
    assert "no program of the instance can be run" in done.stderr
    assert done.returncode == 1
    is_left_alone(disk, node)
