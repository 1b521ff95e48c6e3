"""Which disks are data disks, and where they are mounted: each hard case is a row."""

from __future__ import annotations

from typing import Any

import pytest

from agent.block.mounts import Claim, Mount
from agent.block.storage import Device, Disk
from agent.config.settings import MountMode, Settings
from agent.disks.base.facts import Facts, Filesystem, Format, Leave, MountAt, Mounted, Place
from agent.disks.policy import decide, why_not_grown
from agent.lib.records import replace
from tests.unit.disks.facts import facts, part, parted, whole

OPTIONS = "rw,nosuid,nodev,noatime"


def reason(given: Facts) -> str:
    decision = decide(given)
    assert isinstance(decision, Leave), decision
    return decision.reason


def place(given: Facts) -> str:
    decision = decide(given)
    assert isinstance(decision, MountAt), decision
    return decision.mountpoint


def test_an_ordinary_disk_is_mounted() -> None:
    assert decide(facts(whole())) == MountAt("/srv/data", OPTIONS)


@pytest.mark.parametrize("why", ["an iSCSI disk", "a USB disk", "a virtual device (loop)"])
def test_attachments_that_are_not_the_platforms(why: str) -> None:
    given = facts(replace(whole(), excluded=why, transport=None))
    assert reason(given) == why
    assert why_not_grown(given) == why


@pytest.mark.parametrize(
    ("udev", "why"),
    [
        ({"SYSTEMD_READY": "0"}, "udev says SYSTEMD_READY=0"),
        ({"UDISKS_IGNORE": "1"}, "udev says UDISKS_IGNORE=1"),
        ({"GANDI_IGNORE": "1"}, "udev says GANDI_IGNORE=1"),
        ({"DM_MULTIPATH_DEVICE_PATH": "1"}, "udev says DM_MULTIPATH_DEVICE_PATH=1"),
        ({"ID_FS_TYPE": "mpath_member", "ID_FS_USAGE": ""}, "holds mpath_member"),
        ({"ID_FS_TYPE": "ntfs"}, "ntfs is not mounted by itself"),
        ({"ID_FS_TYPE": "BitLocker", "ID_FS_USAGE": "crypto"}, "holds BitLocker"),
        ({"ID_FS_TYPE": "LVM2_member", "ID_FS_USAGE": "raid"}, "holds an LVM volume"),
        ({"ID_FS_TYPE": "linux_raid_member", "ID_FS_USAGE": "raid"}, "holds linux_raid_member"),
        ({"ID_FS_TYPE": "ddf_raid_member", "ID_FS_USAGE": "raid"}, "holds ddf_raid_member"),
        ({"ID_FS_TYPE": "crypto_LUKS", "ID_FS_USAGE": "crypto"}, "encrypted"),
        ({"ID_FS_TYPE": "zfs_member", "ID_FS_USAGE": "filesystem"}, "holds zfs_member"),
        ({"ID_FS_TYPE": "ceph_bluestore", "ID_FS_USAGE": "other"}, "holds ceph_bluestore"),
        ({"ID_FS_TYPE": "bcache", "ID_FS_USAGE": "other"}, "holds bcache"),
        ({"ID_FS_TYPE": "drbd", "ID_FS_USAGE": "raid"}, "holds drbd"),
        ({"ID_FS_TYPE": "swap", "ID_FS_USAGE": "other"}, "a swap disk"),
        ({"ID_FS_TYPE": "iso9660"}, "an optical image"),
        ({"ID_FS_TYPE": "udf"}, "an optical image"),
        ({"ID_FS_TYPE": "ocfs2"}, "ocfs2 is not mounted by itself"),
        ({"ID_FS_TYPE": "gfs2"}, "gfs2 is not mounted by itself"),
        ({"ID_FS_TYPE": "VMFS_volume_member", "ID_FS_USAGE": "raid"}, "holds VMFS_volume_member"),
        ({"ID_FS_TYPE": "", "ID_FS_USAGE": ""}, "no filesystem on it"),
        ({"ID_FS_TYPE": "", "ID_PART_TABLE_TYPE": "gpt"}, "an empty partition table"),
        ({"ID_FS_AMBIVALENT": "filesystem:ext4:1.0 raid:lvm"}, "more than one signature on it"),
        ({"ID_FS_TYPE": "btrfs", "ID_BTRFS_READY": "0"}, "a btrfs of several devices"),
        ({"ID_FS_LABEL_ENC": "config-2"}, "a configuration drive"),
        ({"ID_FS_LABEL_ENC": "CONFIG-2", "ID_FS_TYPE": "vfat"}, "a configuration drive"),
        ({"ID_FS_LABEL_ENC": "config", "ID_FS_TYPE": "vfat"}, "a configuration drive"),
        ({"ID_FS_LABEL_ENC": "cidata", "ID_FS_TYPE": "vfat"}, "a configuration drive"),
        ({"ID_FS_LABEL_ENC": "CIDATA", "ID_FS_TYPE": "vfat"}, "a configuration drive"),
        ({"ID_FS_LABEL_ENC": "gandi", "ID_FS_TYPE": "vfat"}, "a configuration drive"),
    ],
)
def test_content_that_is_not_ours(udev: dict[str, str], why: str) -> None:
    assert reason(facts(whole(**udev))).startswith(why)


@pytest.mark.parametrize(
    ("udev", "why"),
    [
        ({"ID_PART_ENTRY_NAME": "gandiswap"}, "the swap disk"),
        (
            {"ID_PART_ENTRY_TYPE": "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "ID_FS_TYPE": "vfat"},
            "an EFI system",
        ),
        ({"ID_PART_ENTRY_TYPE": "0xef", "ID_FS_TYPE": "vfat"}, "an EFI system partition"),
        ({"ID_PART_ENTRY_TYPE": "0x5"}, "an extended partition"),
        ({"ID_PART_ENTRY_TYPE": "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"}, "a swap partition"),
        ({"ID_PART_ENTRY_FLAGS": "0x8000000000000000"}, "its partition says"),
    ],
)
def test_partitions_that_are_not_for_data(udev: dict[str, str], why: str) -> None:
    piece = part(1, **udev)
    assert reason(facts(parted(piece), piece)).startswith(why)


def test_a_partition_is_mounted_and_its_disk_is_not() -> None:
    piece = part()
    disk = parted(piece)
    assert place(facts(disk, piece)) == "/srv/data"
    assert reason(facts(disk)).startswith("has partitions")


def test_a_blank_partition_is_not_taken_for_a_table() -> None:
    blank = part(1, ID_FS_TYPE="", ID_FS_USAGE="", ID_PART_TABLE_TYPE="gpt")
    assert reason(facts(parted(blank), blank)) == "no filesystem on it"


def test_a_flag_on_the_disk_counts_for_its_partitions() -> None:
    piece = part()
    assert reason(facts(parted(piece, UDISKS_IGNORE="1"), piece)) == "udev says UDISKS_IGNORE=1"


@pytest.mark.parametrize(
    ("machine", "why"),
    [
        ({"swaps": frozenset({"254:16"})}, "in use as swap"),
        ({"root_disks": frozenset({"vdb"})}, "on the root disk"),
        ({"released": frozenset({"vdb"})}, "released by the administrator"),
        ({"claims": (Claim("UUID=AAAA-1", "/data", "/etc/fstab line 3"),)}, "/etc/fstab line 3"),
        ({"claims": (Claim('LABEL="data"', "/data", "fstab"),)}, "the administrator's: fstab"),
        ({"claims": (Claim("/dev/vdb", "", "crypttab"),)}, "the administrator's: crypttab"),
        ({"claims": (Claim("/dev/disk/by-label/data", "/x", "x.mount"),)}, "the administrator's: x.mount"),
        ({"filesystems": (Filesystem("8:1", "AAAA-1", b"", "/"),)}, "the same filesystem UUID as"),
        (
            {"filesystems": (Filesystem("8:1", "aaaa-1", b"", "/srv/x", ours=True),)},
            "the same filesystem UUID",
        ),
        ({"filesystems": (Filesystem("8:1", "b", b"data", "/"),)}, "the same label as what is mounted at /"),
    ],
)
def test_used_by_somebody_else(machine: dict[str, Any], why: str) -> None:
    assert why in reason(facts(whole(), **machine))


def test_a_copy_of_the_root_disk_is_called_a_copy() -> None:
    claims = (Claim("UUID=aaaa-1", "/", "/etc/fstab line 1"),)
    root = Filesystem("254:0", "aaaa-1", b"data", "/")
    assert reason(facts(whole(), claims=claims, filesystems=(root,))).startswith("the same filesystem UUID")


def test_holders() -> None:
    disk = whole()
    held = replace(disk, device=replace(disk.device, holders=("dm-0",)))
    assert reason(facts(held)) == "held by dm-0"


@pytest.mark.parametrize(
    ("fstype", "why"), [("LVM2_member", "holds an LVM volume"), ("crypto_LUKS", "encrypted")]
)
def test_what_it_is_says_more_than_who_holds_it(fstype: str, why: str) -> None:
    disk = whole(ID_FS_TYPE=fstype, ID_FS_USAGE="raid")
    assert reason(facts(replace(disk, device=replace(disk.device, holders=("dm-0",))))) == why


def test_claims_on_something_else_do_not_count() -> None:
    named = (("UUID=other", "/data"), ("/dev/vdbx", "/y"), ("LABEL=", "/z"), ("", "/q"))
    claims = tuple(Claim(what, where, "fstab") for what, where in named)
    assert place(facts(whole(), claims=claims)) == "/srv/data"


def test_what_is_mounted_stays() -> None:
    mount = Mount("/mnt", "/dev/vdb", "ext4", frozenset({"254:16"}))
    claims = (Claim("/dev/vdb", "/mnt", "fstab"),)
    assert decide(facts(whole(), mounts=(mount,), claims=claims)) == Mounted("/mnt")
    assert why_not_grown(facts(whole(), mounts=(mount,), claims=claims)) == ""


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (Settings(allow_mount=False), "CONFIG_ALLOW_MOUNT=0"),
        (Settings(mount_mode=MountMode.NOTIFY), "mount mode notify"),
        (Settings(mount_mode=MountMode.AUTOFS), "mount mode autofs"),
        (Settings(mount_mode=MountMode.OFF), "mount mode off"),
        (Settings(disk_ignore=("da*",)), "CONFIG_DISK_IGNORE=da*"),
        (Settings(disk_ignore=("SER-?",)), "CONFIG_DISK_IGNORE=SER-?"),
        (Settings(disk_ignore=("0xwwn",)), "CONFIG_DISK_IGNORE=0xwwn"),
        (Settings(disk_ignore=("pci-*",)), "CONFIG_DISK_IGNORE=pci-*"),
        (Settings(disk_only=("other",)), "not in CONFIG_DISK_ONLY"),
        (Settings(configdrive_label="data"), "a configuration drive"),
        (Settings(swap_device="/dev/vdb"), "the swap disk (CONFIG_SWAP_DEVICE)"),
    ],
)
def test_settings(settings: Settings, why: str) -> None:
    disk = whole(ID_SERIAL="SER-1", ID_WWN="0xwwn", ID_PATH="pci-0000:00:05.0")
    assert reason(facts(disk, settings=settings)) == why


def test_only_lets_through_what_it_names() -> None:
    disk = whole(ID_SERIAL="SER-1")
    assert place(facts(disk, settings=Settings(disk_only=("x", "SER-*")))) == "/srv/data"


@pytest.mark.parametrize(
    ("machine", "remembered", "at"),
    [
        ({}, {}, "/srv/data"),
        ({}, {"aaaa-1": {"at": "/srv/data_2"}}, "/srv/data_2"),
        ({}, {"bbbb-2": {"at": "/srv/data"}}, "/srv/data_2"),
        ({}, {"b": {"at": "/srv/data"}, "c": {"at": "/srv/data_2"}}, "/srv/data_3"),
        ({}, {"aaaa-1": {"at": "/mnt/data"}}, "/srv/data"),
        ({"mounts": (Mount("/srv/data", "x", "nfs", frozenset()),)}, {}, "/srv/data_2"),
        ({"filesystems": (Filesystem("8:1", "b", b"data", "/srv/data", ours=True),)}, {}, "/srv/data_2"),
        ({"claims": (Claim("/dev/sdz", "/srv/data/", "fstab"),)}, {}, "/srv/data_2"),
        ({"places": {"/srv/data": Place.OTHER}}, {}, "/srv/data_2"),
        ({"places": {"/srv/data": Place.OTHER}}, {"aaaa-1": {"at": "/srv/data"}}, "/srv/data_2"),
        ({"places": {"/srv/data": Place.EMPTY}}, {}, "/srv/data"),
        ({"disk_root": "/mnt/disks"}, {"aaaa-1": {"at": "/srv/data"}}, "/mnt/disks/data"),
    ],
)
def test_where(machine: dict[str, Any], remembered: dict[str, dict[str, Any]], at: str) -> None:
    assert place(facts(whole(), remembered=remembered, **machine)) == at


def test_a_filesystem_that_was_overwritten_gives_its_name_to_the_next() -> None:
    disk = whole(ID_SERIAL="SER-1")
    old = {"old": {"at": "/srv/data", "on": "SER-1 0"}}
    assert place(facts(disk, remembered=old)) == "/srv/data"
    other = {"old": {"at": "/srv/data", "on": "SER-2 0"}}
    assert place(facts(disk, remembered=other)) == "/srv/data_2"


def test_without_a_label_the_device_gives_the_name() -> None:
    assert place(facts(whole(ID_FS_LABEL_ENC=""))) == "/srv/vdb"


def test_odd_labels_come_as_bytes() -> None:
    assert place(facts(whole(ID_FS_LABEL_ENC="..\\x2f..\\x2fetc"))) == "/srv/_._.._etc"
    assert place(facts(whole(ID_FS_LABEL_ENC="a\\x0ab"))) == "/srv/a_b"
    assert place(facts(whole(ID_FS_LABEL_ENC="\\xff\\xfe"))) == "/srv/__"


def test_a_folder_that_is_not_empty_is_told() -> None:
    decision = decide(facts(whole(), places={"/srv/data": Place.FULL}))
    assert decision == MountAt("/srv/data", OPTIONS, "over a folder that is not empty")


def test_a_read_only_disk_is_mounted_so() -> None:
    disk = whole()
    locked = replace(disk, device=replace(disk.device, readonly=True))
    assert decide(facts(locked)) == MountAt("/srv/data", "ro,nosuid,nodev,noatime")


@pytest.mark.parametrize(
    ("params", "owner", "options"),
    [
        ("rw", "", "rw,utf8=1,dmask=0022,fmask=0133"),
        ("rw,utf8,uid=33,fmask=0117", "", "rw,utf8,uid=33,fmask=0117,dmask=0022"),
        ("rw", "root:users:0775", "rw,utf8=1,uid=root,gid=users,dmask=0002,fmask=0113"),
        ("rw", "www:www:2750", "rw,utf8=1,uid=www,gid=www,dmask=0027,fmask=0137"),
    ],
)
def test_a_filesystem_without_owners_gets_them_by_options(params: str, owner: str, options: str) -> None:
    settings = Settings(mount_params=params, mount_owner=owner)
    decision = decide(facts(whole(ID_FS_TYPE="vfat"), settings=settings))
    assert decision == MountAt("/srv/data", options)


# -- CONFIG_DISK_FORMAT ---------------------------------------------------------------------------

BLANK = whole(ID_FS_TYPE="", ID_FS_USAGE="", ID_FS_UUID="", ID_FS_LABEL_ENC="", ID_SERIAL="SER-1")
FORMATS = Settings(disk_format="xfs")


def new(disk: Disk, device: Device | None = None, settings: Settings = FORMATS, **machine: Any) -> Facts:
    return replace(facts(disk, device, settings=settings, **machine), is_new=True)


def test_a_blank_disk_that_was_attached_just_now_is_formatted_if_that_is_wanted() -> None:
    assert decide(new(BLANK)) == Format("xfs")
    assert decide(facts(BLANK, settings=FORMATS)) == Leave("no filesystem on it")
    assert decide(new(BLANK, settings=Settings())) == Leave("no filesystem on it")


BARE = part(1, ID_FS_TYPE="", ID_FS_USAGE="", ID_FS_UUID="", ID_FS_LABEL_ENC="")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (new(parted(BARE), BARE), "no filesystem on it"),
        (new(parted(BARE)), "has partitions"),
        (new(parted()), "an empty partition table"),
        (new(whole(ID_FS_TYPE="LVM2_member")), "holds an LVM volume"),
        (new(whole(ID_FS_TYPE="", ID_FS_AMBIVALENT="a b")), "more than one signature"),
        (new(replace(BLANK, device=replace(BLANK.device, readonly=True))), "no filesystem on it"),
        (new(replace(BLANK, device=replace(BLANK.device, holders=("md0",)))), "held by md0"),
        (new(replace(BLANK, excluded="a USB disk")), "a USB disk"),
        (new(BLANK, root_disks=frozenset({"vdb"})), "on the root disk"),
        (new(BLANK, swaps=frozenset({"254:16"})), "in use as swap"),
        (new(BLANK, claims=(Claim("/dev/vdb", "/data", "fstab"),)), "the administrator's: fstab"),
        (new(BLANK, settings=replace(FORMATS, disk_ignore=("SER-*",))), "CONFIG_DISK_IGNORE=SER-*"),
        (new(BLANK, settings=replace(FORMATS, disk_only=("SER-2",))), "not in CONFIG_DISK_ONLY"),
        (new(BLANK, settings=replace(FORMATS, swap_device="/dev/vdb")), "the swap disk"),
        (new(BLANK, settings=replace(FORMATS, allow_mount=False)), "CONFIG_ALLOW_MOUNT=0"),
        (new(BLANK, settings=replace(FORMATS, mount_mode=MountMode.OFF)), "mount mode off"),
    ],
)
def test_what_is_never_formatted(given: Facts, why: str) -> None:
    assert reason(given).startswith(why)


def test_two_partitions_of_one_label_get_two_places() -> None:
    one, two = part(1), part(2, ID_FS_UUID="bbbb-2")
    used = Filesystem(one.devno, one.uuid, one.label, "/srv/data", ours=True)
    disk = parted(one, two)
    assert place(facts(disk, two, filesystems=(used,))) == "/srv/data_2"
    copy = part(2)
    assert reason(facts(parted(one, copy), copy, filesystems=(used,))).startswith("the same filesystem UUID")


def test_what_cannot_be_read_is_a_failure_and_not_an_empty_disk() -> None:
    broken = replace(BLANK, device=replace(BLANK.device, error="Input/output error"))
    found = decide(facts(broken))
    assert found == Leave("cannot be read: Input/output error")
    assert isinstance(found, Leave)
    assert "udevadm trigger" in found.remedy
    assert decide(facts(BLANK)) == Leave("no filesystem on it")
