"""Images configured without a boot, on real Debian trees with the package inside."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.host.host import Host
from agent.image import seed
from tests import creation
from tests.vm.rig import ImageSpec, Network, Table, newest_deb
from tests.vm.rig.rootdisk import loop_device
from tests.vm.rig.tree import chroot, merged

HASH = "$6$saltsalt$" + "x" * 86
KEY = creation.KEY
MAC = "52:54:00:00:00:10"
SCRIPT = b"#!/bin/sh\necho once >> /root/order\n"
NATIVE: dict[str, object] = {
    "version": 1,
    "id": "image-1",
    "hostname": "vm1.example.org",
    "timezone": "Europe/Paris",
    "nameservers": ["203.0.113.3"],
    "nics": [
        {"mac": MAC, "addresses": ["203.0.113.10/24"], "routes": [{"to": "default", "via": "203.0.113.254"}]}
    ],
    "users": [
        {"name": "root", "password": HASH},
        {"name": "admin1", "keys": [KEY], "admin": True, "sudo": ["ALL=(ALL) NOPASSWD:ALL"]},
    ],
    "files": [{"path": "/etc/injected", "content": "text\n", "mode": "0600", "owner": "admin1"}],
}


@pytest.fixture(scope="module")
def installed() -> Iterator[Path]:
    """A tree with the package installed and networkd enabled, as in a finished image."""
    with merged(ImageSpec(debs=(newest_deb(),))) as tree:
        chroot(tree, ["systemctl", "-q", "enable", "systemd-networkd.service"])
        (tree / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        yield tree


@pytest.fixture
def tree(installed: Path, tmp_path: Path) -> Iterator[Path]:
    """A new writable overlay of it."""
    space, root = tmp_path / "space", tmp_path / "root"
    for folder in (space, root):
        folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", space], check=True)
    for name in ("upper", "work"):
        (space / name).mkdir()
    options = f"lowerdir={installed},upperdir={space}/upper,workdir={space}/work"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", root], check=True)
    try:
        yield root
    finally:
        subprocess.run(["umount", root], check=True)
        subprocess.run(["umount", space], check=True)


def inside(tree: Path, *words: str, given: bytes = b"", status: int = 0) -> str:
    """Run the command in a chroot without the host's /proc, /sys and /dev, as a Ganeti node does."""
    argv = ["chroot", str(tree), "/usr/bin/gandi-agent", *words]
    done = subprocess.run(argv, input=given, capture_output=True, check=False, timeout=120)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == status, said
    return said


def apply(tree: Path, document: object = NATIVE) -> str:
    """Apply a document from standard input."""
    words = ("apply", "--root", "/", "--source", "-")
    return inside(tree, *words, given=json.dumps(document).encode())


def is_the_machine(tree: Path) -> None:
    """Check everything that NATIVE contains."""
    assert (tree / "etc/hostname").read_text() == "vm1.example.org\n"
    assert "203.0.113.10\tvm1.example.org vm1" in (tree / "etc/hosts").read_text()
    assert os.readlink(tree / "etc/localtime") == "/usr/share/zoneinfo/Europe/Paris"
    assert "nameserver 203.0.113.3" in (tree / "etc/resolv.conf").read_text()
    network = "".join(path.read_text() for path in (tree / "etc/systemd/network").glob("10-gandi-*.network"))
    assert f"MACAddress={MAC}" in network
    assert "Address=203.0.113.10/24" in network
    assert "Gateway=203.0.113.254" in network
    assert f"root:{HASH}:" in (tree / "etc/shadow").read_text()
    assert (tree / "home/admin1/.ssh/authorized_keys").read_text() == f"{KEY}\n"
    assert (tree / "etc/sudoers.d/90-gandi-agent-admin1").exists()
    injected = (tree / "etc/injected").stat()
    assert (stat.S_IMODE(injected.st_mode), injected.st_uid) == (0o600, (tree / "home/admin1").stat().st_uid)


def is_nobody_yet(tree: Path) -> None:
    """Check that everything that machines must not share is removed."""
    assert not list((tree / "etc/ssh").glob("ssh_host_*"))
    assert (tree / "etc/machine-id").read_bytes() == b""


def test_a_document_becomes_the_machine_in_its_own_tree(tree: Path) -> None:
    before = socket.gethostname()
    said = apply(tree)
    assert "failed" not in said, said
    is_the_machine(tree)
    is_nobody_yet(tree)
    assert socket.gethostname() == before
    assert HASH not in said
    for path in (tree / "var/lib/gandi").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    assert not (tree / "run/gandi").exists()


def test_from_outside_it_is_the_same(tree: Path, tmp_path: Path) -> None:
    document = tmp_path / "vm1.json"
    document.write_text(json.dumps(NATIVE))
    assert main(["apply", "--root", str(tree), "--source", str(document)]) == 0
    is_the_machine(tree)
    is_nobody_yet(tree)


def test_a_second_time_changes_nothing(tree: Path) -> None:
    apply(tree)
    watched = [path for name in ("etc", "home", "var/lib/gandi") for path in (tree / name).rglob("*")]
    # The digest of the last delivery is salted, so it differs each time.
    files = [path for path in watched if not path.is_dir() and path.name != "delivered"]
    before = {path: path.lstat().st_mtime_ns for path in files}
    said = apply(tree)
    assert "changed (" not in said, said
    assert {path: path.lstat().st_mtime_ns for path in before} == before


def test_the_stages_that_are_named(tree: Path) -> None:
    words = ("apply", "--root", "/", "--stage", "config", "--source", "-")
    inside(tree, *words, given=json.dumps(NATIVE).encode())
    assert os.readlink(tree / "etc/localtime") == "/usr/share/zoneinfo/Europe/Paris"
    assert not (tree / "home/admin1").exists()


def test_a_plain_password_is_set_and_kept_nowhere(tree: Path) -> None:
    apply(tree, {"version": 1, "id": "1", "users": [{"name": "", "plain_password": "pass word"}]})
    line = next(one for one in (tree / "etc/shadow").read_text().splitlines() if one.startswith("root:"))
    assert line.split(":")[1].startswith("$y$")
    for path in (tree / "var/lib/gandi").rglob("*"):
        assert path.is_dir() or b"pass word" not in path.read_bytes()


def test_where_nobody_makes_host_keys_they_are_made_now(tree: Path) -> None:
    before = (tree / "etc/ssh/ssh_host_ed25519_key").read_bytes()
    chroot(tree, ["systemctl", "-q", "disable", "gandi-sshdkeygen.service"])
    assert "made now" in apply(tree)
    assert (tree / "etc/ssh/ssh_host_ed25519_key").read_bytes() != before


def test_what_is_wrong_is_named_and_the_rest_applied(tree: Path) -> None:
    words = ("apply", "--root", "/", "--source", "-")
    document = NATIVE | {"hostname": "-bad-", "users": [{"name": "admin1", "keys": ["no key", KEY]}]}
    said = inside(tree, *words, given=json.dumps(document).encode(), status=1)
    assert "hostname" in said
    assert "users[0].keys[0]" in said
    assert (tree / "home/admin1/.ssh/authorized_keys").read_text() == f"{KEY}\n"


def test_something_that_is_no_system(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["apply", "--root", str(tmp_path), "--source", "/dev/null"]) == 1
    assert "no system is mounted there" in capsys.readouterr().err


# -- media ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["swap", "device", "folder"])
def test_every_medium_is_read(tree: Path, tmp_path: Path, kind: str) -> None:
    """Those with a filesystem are read in tests/vm: the guest's kernel always has ISO 9660 and FAT."""
    document, out = json.dumps(NATIVE).encode(), tmp_path / "medium"
    if kind == "folder":
        seed.folder(Host(), str(out), seed.drive(document, SCRIPT))
    else:
        archive = seed.archive({"config": document, "script": SCRIPT})
        seed.swap(Host(), str(out), archive, size=64 << 20)
    with loop_device(out) if kind == "device" else contextlib.nullcontext(str(out)) as named:
        assert main(["config", "validate", named]) == 0
        assert main(["apply", "--root", str(tree), "--source", named]) == 0
    is_the_machine(tree)
    stored = list((tree / "var/lib/gandi/instances").glob("*/scripts/script"))
    assert [path.read_bytes() for path in stored] == [SCRIPT]


# -- Ganeti --------------------------------------------------------------------------


@pytest.mark.parametrize("style", list(creation.STYLES))
def test_a_creation_with_ganetis_variables(tmp_path: Path, node: Path, style: Table) -> None:
    spec = ImageSpec(network=Network.IFUPDOWN, table=style)
    with creation.instance(spec, tmp_path) as (target, _):
        done = creation.hook(target, node, style)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (target / "etc/hostname").read_text() == f"{creation.NAME}\n"
        hosts = (target / "etc/hosts").read_text()
        assert "203.0.113.10\tvm1.example.org vm1" in hosts
        assert "node1" not in hosts
        assert "198.51.100.53" not in (target / "etc/resolv.conf").read_text()
        assert "nameserver 203.0.113.3" in (target / "etc/resolv.conf").read_text()
        assert (target / "root/.ssh/authorized_keys").read_text() == f"{KEY}\n"
        assert "\nroot:*:" in "\n" + (target / "etc/shadow").read_text()
        assert (target / "usr/bin/gandi-agent").exists()
        console = target / "etc/systemd/system/getty.target.wants/serial-getty@ttyS0.service"
        assert os.readlink(console) == "/usr/lib/systemd/system/serial-getty@.service"
        is_nobody_yet(target)
        for left in ("usr/sbin/policy-rc.d", "var/cache/gandi-agent.deb"):
            assert not (target / left).exists()
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        assert [place for place in mounts if place.startswith(f"{target}/")] == []
        # The umount shows that nothing runs in it.


def test_a_document_of_the_operators_counts_and_a_policy_is_put_back(tmp_path: Path, node: Path) -> None:
    (node / f"{creation.NAME}.json").write_text(json.dumps(NATIVE))
    with merged(ImageSpec(network=Network.IFUPDOWN)) as target:
        policy = target / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 0\n")
        done = creation.hook(target, node, "none", OSP_SSHKEY="")
        assert done.returncode == 0, done.stdout + done.stderr
        assert policy.read_text() == "#!/bin/sh\nexit 0\n"
        assert f"root:{HASH}:" in (target / "etc/shadow").read_text()
        assert (target / "home/admin1").is_dir()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TARGET", "/nonexistent"),
        ("INSTANCE_NAME", ""),
        ("INSTANCE_NAME", "../x"),
        ("PARTITION_STYLE", "gpt"),
        ("PARTITION_STYLE", ""),
        ("NIC_0_MAC", ""),
        ("OSP_IPV4", "203.0.113.300/24"),
        ("OSP_SSHKEY", "no key"),
        ("OSP_TIMEZONE", "Europe/Atlantis"),
    ],
)
def test_a_wrong_variable_fails_the_creation_and_is_named(
    tree: Path, node: Path, name: str, value: str
) -> None:
    done = creation.hook(tree, node, "none", **{name: value})
    assert done.returncode != 0
    assert name.removeprefix("OSP_").lower() in done.stderr.lower() + done.stdout.lower()
    assert not (tree / "usr/sbin/policy-rc.d").exists()
    assert not (tree / "var/cache/gandi-agent.deb").exists()


def test_a_node_without_the_package(tree: Path, tmp_path: Path) -> None:
    done = creation.hook(tree, tmp_path, "none")
    assert done.returncode == 1
    assert "gandi-agent.deb: missing" in done.stderr


# -- seed ----------------------------------------------------------------------------


def test_an_iso_image_has_label_and_files(tmp_path: Path) -> None:
    out = tmp_path / "drive.iso"
    seed.iso(Host(), str(out), {"gandi.json": b'{"version": 1}'}, label="gandi")
    assert out.read_bytes()[0x8028:0x802D] == b"gandi"
    assert b'{"version": 1}' in out.read_bytes()
    assert out.stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drive.iso"]
    said = subprocess.run(["blkid", "-p", "-o", "export", out], check=True, capture_output=True, text=True)
    assert "TYPE=iso9660" in said.stdout
