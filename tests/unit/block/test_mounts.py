"""The uses of block devices, read from mountinfo, swaps, fstab, crypttab and units."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.block import mounts
from agent.block.storage import Device
from agent.host.host import Host
from agent.systemd.journal import Journal, Message
from tests.unit.lib.test_text import NO_END
from tests.unit.sysfs import Sysfs, virtio

DEVICE = Device(
    "vdb1",
    "254:17",
    1,
    udev={
        "ID_FS_UUID": "F00D-1",
        "ID_FS_LABEL_ENC": "my\\x20data",
        "ID_PART_ENTRY_UUID": "11-22",
        "ID_PART_ENTRY_NAME": "big\\x20one",
        "DEVLINKS": "/dev/disk/by-id/virtio-S1-part1 /dev/disk/by-path/pci-0",
    },
)


@pytest.mark.parametrize(
    "what",
    [
        "/dev/vdb1",
        "UUID=f00d-1",
        'UUID="F00D-1"',
        "LABEL=my data",
        "PARTUUID=11-22",
        "PARTLABEL=big one",
        "ID=virtio-S1-part1",
        "/dev/disk/by-path/pci-0",
        "/dev/disk/by-uuid/F00D-1",
        "/dev/disk/by-label/my\\x20data",
        "/dev/disk/by-partuuid/11-22",
    ],
)
def test_ways_to_name_a_device(what: str) -> None:
    assert mounts.is_claimed_as(DEVICE, what)


@pytest.mark.parametrize(
    "what", ["", "none", "/dev/vdb", "UUID=", "LABEL=", "UUID=x", "LABEL=data", "tmpfs", "host:/x=y"]
)
def test_names_of_something_else(what: str) -> None:
    assert not mounts.is_claimed_as(DEVICE, what)
    assert not mounts.is_claimed_as(Device("vdc", "254:32", 1), what)


def test_claims(tmp_path: Path) -> None:
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    (tmp_path / "etc/fstab").write_text(
        "# a comment\nUUID=1 / ext4 rw 0 1\n\n"
        "LABEL=my\\040data /srv/my\\040data ext4 noauto 0 0\nUUID=3 none swap sw 0 0\n"
    )
    (tmp_path / "etc/crypttab").write_text("vault /dev/vdd none luks\n")
    (units / "srv-x.mount").write_text("[Mount]\nWhat = /dev/vdc\nWhere=/srv/x\n")
    (units / "srv-y.automount").write_text("[Automount]\nWhere=/srv/y\n")
    (units / "dev-vde.swap").write_text("[Swap]\nWhat=/dev/vde\n")
    (units / "other.service").write_text("[Service]\nWhat=/dev/vdf\n")
    found = {(claim.what, claim.where) for claim in mounts.claims(Host(tmp_path))}
    assert found == {
        ("UUID=1", "/"),
        ("LABEL=my data", "/srv/my data"),
        ("UUID=3", ""),
        ("/dev/vdd", ""),
        ("/dev/vdc", "/srv/x"),
        ("", "/srv/y"),
        ("/dev/vde", ""),
    }


def test_mountinfo(tmp_path: Path) -> None:
    sysfs = Sysfs(tmp_path)
    disk = virtio(sysfs)
    sysfs.partition(disk, 1, "254:17", start=8)
    members = tmp_path / "sys/fs/btrfs/aa-bb/devices"
    members.mkdir(parents=True)
    (members / "vdb1").symlink_to(disk / "vdb1")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(
        "27 1 254:0 / / rw shared:1 - ext4 /dev/root rw\n"
        "30 27 0:40 /sub /srv/my\\040data rw,noatime shared:2 master:1 - btrfs /dev/vdb1 rw,subvol=/sub\n"
        "31 27 0:41 / /tmp rw - tmpfs tmpfs rw\n"
    )
    (tmp_path / "proc/swaps").write_text("Filename Type Size Used Priority\n/dev/vdb1 partition 1 0 -2\n")
    found = mounts.mounts(Host(tmp_path))
    assert [(m.mountpoint, m.devnos, m.root) for m in found] == [
        ("/", frozenset({"254:0"}), "/"),
        ("/srv/my data", frozenset({"254:17"}), "/sub"),
        ("/tmp", frozenset({"0:41"}), "/"),
    ]
    assert mounts.swaps(Host(tmp_path)) == {"254:17"}


#: A line with a FUSE subtype that an unprivileged user chose, and lines that no kernel writes.
FUSE = "40 31 0:52 / /home/u/mnt rw,nosuid,nodev - fuse.a{odd}b a{odd}b rw,user_id=1000"
UNREADABLE = (
    "",
    "31",
    "a b c d e f g",
    "31 27 0:41 / /tmp rw shared:1",
    "31 27 0:41 / /tmp rw - tmpfs",
    "- - -",
)


@pytest.mark.parametrize("odd", [*NO_END, "²", "\xa0", "-", "\\040-\\040"], ids=ascii)
def test_a_users_subtype_is_a_part_of_its_line(tmp_path: Path, odd: str) -> None:
    _mountinfo(tmp_path, FUSE.format(odd=odd), "31 27 0:41 / /tmp rw - tmpfs tmpfs rw")
    plain = odd.replace("\\040", " ")
    found = [(mount.mountpoint, mount.source) for mount in mounts.mounts(Host(tmp_path))]
    assert found == [("/home/u/mnt", f"a{plain}b"), ("/tmp", "tmpfs")]


def test_a_line_that_cannot_be_read_costs_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A future kernel may write one; it is reported once, however often the file is read."""
    said: list[str] = []
    monkeypatch.setattr(Journal, "send", lambda _self, message, *_rest, **_fields: said.append(message))
    monkeypatch.setattr("agent.block.mounts._is_reported", False)
    _mountinfo(tmp_path, *UNREADABLE, "31 27 0:41 / /tmp rw - tmpfs tmpfs rw")
    for _ in range(2):
        assert [mount.mountpoint for mount in mounts.mounts(Host(tmp_path))] == ["/tmp"]
    assert said == [Message.UNREAD]


@pytest.mark.parametrize("odd", NO_END, ids=ascii)
def test_names_of_others_in_tables(tmp_path: Path, odd: str) -> None:
    """Swap files, comments and options of fstab, and crypttab: exactly one entry for each line."""
    for name, text in {
        "proc/swaps": f"Filename Type\n/a{odd}b file 1 0 -2\n\n/dev/vdz partition 1 0 -3\n",
        "etc/fstab": f"# x{odd}/dev/vdb /evil ext4\n/dev/vdc /srv/c ext4 a{odd}/dev/vdd /evil\nUUID=1 /d\n",
        "etc/crypttab": f"one /dev/vde none luks{odd}two /dev/vdf\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
    assert mounts.swap_names(Host(tmp_path)) == [f"/a{odd}b", "/dev/vdz"]
    assert [claim.what for claim in mounts.claims(Host(tmp_path))] == ["/dev/vdc", "UUID=1", "/dev/vde"]


def _mountinfo(root: Path, *lines: str) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_bytes("".join(f"{line}\n" for line in lines).encode())
