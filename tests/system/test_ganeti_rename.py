"""The scripts rename, export and import of the OS definition for Ganeti, as a node runs them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests import creation
from tests.system.instances import (
    NEW,
    RENAMED,
    SIZE,
    copied,
    instance,
    is_attached,
    is_left_alone,
    larger,
    opened,
    probed,
    root_of,
    wait_until,
    with_name,
)
from tests.vm.rig import Table


@pytest.mark.slow
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
        ("DISK_0_ACCESS", "ro", "DISK_0_ACCESS: the disk is read-only"),
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


# -- export and import ---------------------------------------------------------------


def backup(node: Path, disk: Path, out: Path, **parameters: str) -> str:
    """Write a backup of a disk; return what the script estimates."""
    read, write = os.pipe()
    environment = creation.ENVIRONMENT | {"EXPORT_DISK_PATH": str(disk), "EXPORT_DEVICE": str(disk)}
    environment |= {"EXPORT_INDEX": "0", "EXP_SIZE_FD": str(write)} | parameters
    with out.open("wb") as file:
        done = creation.start("export", node, environment, stdout=file, pass_fds=(write,))
    os.close(write)
    with os.fdopen(read) as size:
        estimated = size.read()
    assert done.returncode == 0, done.stderr
    return estimated


def restored(node: Path, disk: Path, given: Path, **parameters: str) -> subprocess.CompletedProcess[bytes]:
    """Make a disk from a backup."""
    environment = creation.ENVIRONMENT | {"IMPORT_DISK_PATH": str(disk), "IMPORT_INDEX": "0"} | parameters
    with given.open("rb") as file:
        return creation.start("import", node, environment, stdin=file, stdout=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tar", "raw"])
def test_a_backup_becomes_another_machine_on_a_larger_disk(
    shared: Path, tmp_path: Path, node: Path, kind: str
) -> None:
    source = copied(shared, tmp_path)
    with opened(source, Table.NONE) as target:
        (target / "srv/data").write_bytes(b"the customer's")
        os.setxattr(target / "srv/data", "user.note", b"kept")
        os.chown(target / "srv/data", 12345, 54321)
    uuid = probed(source, 0, source.stat().st_size)["UUID"]
    out, disk = tmp_path / "backup", larger(tmp_path)
    assert int(backup(node, source, out, OSP_EXPORT=kind)) > 100 << 20
    is_left_alone(source, node)
    more = {"OSP_PARTITION": "gpt", "OSP_SWAP": "128"} if kind == "tar" else {}
    done = restored(node, disk, out, **more)
    assert done.returncode == 0, done.stderr
    assert done.stdout == b""
    is_left_alone(disk, node)
    another = {"INSTANCE_UUID": "0a0b0c0d-0000-4000-8000-000000000000", "NIC_0_MAC": "52:54:00:00:00:77"}
    renamed = creation.script("rename", node, **RENAMED | another | {"DISK_0_PATH": str(disk)})
    assert renamed.returncode == 0, renamed.stdout + renamed.stderr
    with root_of(disk) as (target, parts):
        data = target / "srv/data"
        assert (data.read_bytes(), os.getxattr(data, "user.note")) == (b"the customer's", b"kept")
        assert (data.stat().st_uid, data.stat().st_gid) == (12345, 54321)
        fstab = (target / "etc/fstab").read_text()
        if kind == "tar":
            assert [part.get("TYPE") for part in parts] == [None, "swap", "ext4"]
            assert uuid not in fstab
            assert f"UUID={parts[2]['UUID']} / ext4 errors=remount-ro 0 1\n" in fstab
            assert f"UUID={parts[1]['UUID']} none swap sw 0 0\n" in fstab
        else:
            assert f"UUID={uuid} / " in fstab
        assert (target / "etc/hostname").read_text() == f"{NEW}\n"
        for text in (creation.NAME, "203.0.113.10/", creation.MAC):
            assert with_name(target, text) == []
        assert (target / "etc/machine-id").read_bytes() == b"", "the former machine may still run"
        assert list((target / "etc/ssh").glob("ssh_host_*")) == []


@pytest.mark.slow
def test_a_disk_of_several_filesystems_or_not_the_first_one_is_exported_by_its_bytes(
    tmp_path: Path, node: Path
) -> None:
    disk, out = larger(tmp_path), tmp_path / "backup"
    table = "label: dos\nsize=100M\nsize=200M\n"
    subprocess.run(["sfdisk", "-q", disk], input=table.encode(), check=True)
    for offset, size in ((1, "100M"), (101, "200M")):
        argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-E", f"offset={offset << 20}", str(disk), size]
        subprocess.run(argv, check=True)
    assert int(backup(node, disk, out)) == SIZE
    assert out.stat().st_size == SIZE + 512
    assert b"format=raw\npartition=msdos\n" in out.read_bytes()[:512]
    out.unlink()
    with disk.open("r+b") as file:
        file.truncate(0)
        file.truncate(16 << 20)
    assert int(backup(node, disk, out, EXPORT_INDEX="1")) == 16 << 20


def test_a_backup_that_is_damaged_or_another_ones_is_refused(tmp_path: Path, node: Path) -> None:
    source, out, disk = tmp_path / "source", tmp_path / "backup", larger(tmp_path)
    with source.open("wb") as file:
        file.truncate(32 << 20)
    backup(node, source, out)
    subprocess.run(["mkfs.ext4", "-q", "-F", disk], check=True)
    whole = out.read_bytes()
    for given, said in (
        (b"", "not a backup"),
        (b"dump of another OS" * 100, "not a backup"),
        (whole[:512].replace(b"size=3", b"size=3x"), "damaged: its header has no size"),
        (whole[:512].replace(b"format=raw", b"format=r$w"), "damaged: its header is not whole"),
        (whole[:512].replace(b"size=3", b"size=3333"), "make it larger"),
    ):
        out.write_bytes(given)
        done = restored(node, disk, out)
        assert done.returncode == 1
        assert said in done.stderr.decode()
        assert probed(disk, 0, SIZE)["TYPE"] == "ext4", "untouched"
    for given in (whole[: 1 << 20], whole.replace(b"format=raw", b"format=tar")):
        out.write_bytes(given)
        done = restored(node, disk, out)
        assert done.returncode == 1, done.stderr
        assert probed(disk, 0, SIZE) == {}, "nothing that looks like an instance"
        is_left_alone(disk, node)


def test_a_script_that_is_killed_leaves_nothing_mounted(tmp_path: Path, node: Path) -> None:
    """Where it unpacks a backup, which the test holds back."""
    disk = larger(tmp_path)
    lines = "gandi-agent export 1\nformat=tar\npartition=msdos\nswap=0\nfilesystem=ext4\nsize=2147483648\n"
    environment = creation.SCRIPT_ENVIRONMENT | creation.ENVIRONMENT | {"IMPORT_DISK_PATH": str(disk)}
    environment |= {"GANDI_AGENT_FOLDER": str(node), "TMPDIR": str(node)}
    script = subprocess.Popen(
        [creation.DEFINITION / "import"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert script.stdin is not None
    script.stdin.write(lines.encode().ljust(512, b"\0"))
    script.stdin.flush()
    wait_until(lambda: is_attached(disk))
    script.kill()
    script.wait()
    script.stdin.close()
    wait_until(lambda: not is_attached(disk))
    assert f"{node}/" not in Path("/proc/mounts").read_text()
