"""The files read from a hostile configuration drive: on ext4, which has everything that Rock Ridge
can hold.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.block import detached_mount, storage
from agent.block.mounts import mounts
from agent.host.host import Host
from agent.lib.errors import HostError
from agent.sources import drive_files
from tests.system.disks import MIB, LoopDisk, sh
from tests.system.drivedisks import Attach, OnExt4, blank, make_folder, read_tree

MakeDisk = Callable[[int], LoopDisk]
ALL = ("cloudstack", "openstack", "nocloud", "native")


def test_the_mount_is_seen_by_nobody(attach: Attach, tmp_path: Path, on_ext4: OnExt4) -> None:
    disk = attach(on_ext4(make_folder(tmp_path / "t", {"meta-data": b"i-1"}), "cidata"))
    number = storage.devno_of(Host(), disk.name)
    with detached_mount.mounted(disk.node, "ext4", number) as root:
        assert not [mount for mount in mounts(Host()) if number in mount.devnos]
        flags = os.fstatvfs(root).f_flag
        assert flags & os.ST_RDONLY
        assert flags & os.ST_NOSUID
        assert flags & os.ST_NODEV
        assert flags & os.ST_NOEXEC
        for name in ("..", "../..", "/etc/passwd", "meta-data/../.."):
            with pytest.raises(OSError, match=r".*"):
                os.close(detached_mount.opened(root, name))
    sh("losetup", "--detach", disk.node)  # nothing uses it


def test_another_device_than_a_moment_ago(attach: Attach, tmp_path: Path, on_ext4: OnExt4) -> None:
    disk = attach(on_ext4(make_folder(tmp_path / "t", {"meta-data": b"i-1"}), "cidata"))
    with (
        pytest.raises(HostError, match="no longer device 7:999"),
        detached_mount.mounted(disk.node, "ext4", "7:999"),
    ):
        pass


def test_a_filesystem_that_the_kernel_does_not_know(attach: Attach, tmp_path: Path) -> None:
    disk = attach(blank(tmp_path / "c.img"))
    with pytest.raises(HostError) as caught, detached_mount.mounted(disk.node, "nosuchfs", "7:0"):
        pass
    assert "module for nosuchfs" in caught.value.hint


def test_only_regular_files_are_read(attach: Attach, tmp_path: Path, on_ext4: OnExt4) -> None:
    tree = make_folder(
        tmp_path / "t", {"openstack/latest/meta_data.json": b"{}", "openstack/content/0000": b"x"}
    )
    latest = tree / "openstack/latest"
    (latest / "user_data").symlink_to("/etc/shadow")
    (latest / "vendor_data.json").symlink_to("meta_data.json")
    (tree / "openstack/2018-08-27").symlink_to("latest")
    (tree / "cloudstack").symlink_to("/etc")
    os.mkfifo(latest / "network_data.json")
    os.mknod(latest / "vendor_data2.json", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    os.mknod(latest / "a_null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(latest / "socket"))
    (latest / "set-id").write_bytes(b"#!/bin/sh\n")
    (latest / "set-id").chmod(0o4755)
    (tree / "etc").mkdir()
    (tree / "etc/shadow").write_bytes(b"never asked for")
    found = read_tree(attach(on_ext4(tree, "config-2")))
    assert sorted(found.files) == [
        "openstack/content/0000",
        "openstack/latest/meta_data.json",
        "openstack/latest/set-id",
    ]
    assert sorted(found.skipped) == [
        "cloudstack",
        "openstack/2018-08-27",
        "openstack/latest/a_null",
        "openstack/latest/network_data.json",
        "openstack/latest/socket",
        "openstack/latest/user_data",
        "openstack/latest/vendor_data.json",
        "openstack/latest/vendor_data2.json",
    ]


def test_names_that_plain_iso_9660_has_cut(attach: Attach, tmp_path: Path, on_ext4: OnExt4) -> None:
    names = ["META_DAT", "USER_DAT", "VENDOR_D", "NETWORK_"]
    tree = make_folder(tmp_path / "t", dict.fromkeys(names, b"x"))
    assert sorted(read_tree(attach(on_ext4(tree, "cidata"))).files) == sorted(names)


def test_sizes_are_bounded(attach: Attach, tmp_path: Path, on_ext4: OnExt4) -> None:
    tree = make_folder(tmp_path / "t", {f"openstack/latest/{n}": b"x" * (15 << 20) for n in "abcdef"})
    with (tree / "openstack/latest/0-huge").open("wb") as huge:
        huge.truncate(1 << 40)
    found = read_tree(attach(on_ext4(tree, "config-2", 200 * MIB)))
    assert sum(map(len, found.files.values())) <= drive_files.ALL
    assert sorted(found.files) == [f"openstack/latest/{n}" for n in "abcd"]
    assert sorted(found.skipped) == [f"openstack/latest/{n}" for n in ("0-huge", "e", "f")]


def test_folders_without_end_and_names_of_any_kind(attach: Attach, tmp_path: Path, on_ext4: OnExt4) -> None:
    deep = "openstack/" + "/".join(["d"] * 30)
    tree = make_folder(tmp_path / "t", {f"{deep}/file": b"x", "openstack/a": b"x"})
    for name in (b"new\nline", b"\xff\xfe", b"\x1b[2J", "ünicode".encode(), b"x" * 250):
        (tree / "openstack" / os.fsdecode(name)).write_bytes(b"x")
    found = read_tree(attach(on_ext4(tree, "config-2")))
    assert sorted(found.files) == ["openstack/a"]
