"""What leads to the disk of an image, before and after an import, on another bus, with new UUIDs."""

from __future__ import annotations

import pytest

from agent.image import root_references
from agent.image.root_references import Disk, Part
from agent.lib.records import replace

ROOT = Part(3, "ext4", "11111111-1111-4111-8111-111111111111", "root", "aaaa-03")
ESP = Part(1, "vfat", "1B78-11EA", partuuid="aaaa-01")
SWAP = Part(2, "swap", "22222222-2222-4222-8222-222222222222", partuuid="aaaa-02")
HOME = Part(5, "ext4", "33333333-3333-4333-8333-333333333333", partuuid="aaaa-05")
LUKS = Part(6, "crypto_LUKS", "44444444-4444-4444-8444-444444444444")
OLD = "UUID=99999999-9999-4999-8999-999999999999"
NEW = f"UUID={ROOT.uuid}"
ELSEWHERE = "leads to no part of this disk: left, since it may be on another one"


def disk(*more: Part, former: str = "") -> Disk:
    return Disk((ESP, SWAP, ROOT, *more), ROOT, former)


@pytest.mark.parametrize(
    "spec",
    [
        f"UUID={ROOT.uuid}",
        f'UUID="{ROOT.uuid.upper()}"',
        "LABEL=root",
        "PARTUUID=aaaa-03",
        f"/dev/disk/by-uuid/{ROOT.uuid}",
        "/dev/disk/by-label/root",
    ],
)
def test_what_is_right_on_any_bus_stays_as_it_is(spec: str) -> None:
    text = f"# a comment\n{spec}\t/\text4\tnoatime 0 1\ntmpfs /tmp tmpfs size=1G\n/swapfile none swap sw\n"
    assert root_references.mended_fstab(text, disk()) == (text, [])
    line = f'GRUB_CMDLINE_LINUX="quiet root={spec.replace(chr(34), "")} root2=x"\n'
    assert root_references.mended_line(line, disk()) == (line, [])


@pytest.mark.parametrize(
    "spec", ["/dev/sda3", "/dev/vda7", "/dev/nvme0n1p3", OLD, "LABEL=old", "PARTUUID=b"]
)
def test_a_lost_root_is_found(spec: str) -> None:
    text, changes = root_references.mended_fstab(f"{spec} / ext4 noatime 0 1\n", disk())
    assert text == f"{NEW} / ext4 noatime 0 1\n"
    assert [(one.where, one.was, one.now) for one in changes] == [("/", spec, NEW)]
    line, changes = root_references.mended_line(f"linux /boot/vmlinuz root={spec} ro quiet\n", disk())
    assert line == f"linux /boot/vmlinuz root={NEW} ro quiet\n"
    assert [one.where for one in changes] == ["root="]


def test_another_type_gets_its_own_options_and_a_missing_entry_is_made() -> None:
    text, _ = root_references.mended_fstab("/dev/sda1 / xfs logbufs=8 0 0\n", disk())
    assert text == f"{NEW} / ext4 defaults 0 0\n"
    text, (change,) = root_references.mended_fstab("proc /proc proc defaults 0 0\n", disk())
    assert text == f"proc /proc proc defaults 0 0\n{NEW} / ext4 defaults 0 1\n"
    assert (change.where, change.was) == ("/", "no entry")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # Swap: of the same disk by another name, and the only one; of another disk.
        ("/dev/sda2 none swap sw 0 0", f"UUID={SWAP.uuid} none swap sw 0 0"),
        (f"{OLD} none swap sw 0 0", f"UUID={SWAP.uuid} none swap sw 0 0"),
        (f"UUID={SWAP.uuid} none swap sw\n{OLD} none swap sw", None),
        # The system's other filesystems, by their type.
        ("UUID=0000-0000 /boot/efi vfat umask=0077 0 1", f"UUID={ESP.uuid} /boot/efi vfat umask=0077 0 1"),
        ("/dev/sda1 /boot/efi vfat umask=0077 0 1", f"UUID={ESP.uuid} /boot/efi vfat umask=0077 0 1"),
        (f"{OLD} /boot ext4 defaults 0 2", f"UUID={HOME.uuid} /boot ext4 defaults 0 2"),
        # Others: by the kernel's name on this disk only.
        ("/dev/sda5 /home ext4 defaults 0 2", f"UUID={HOME.uuid} /home ext4 defaults 0 2"),
        ("/dev/sdb5 /srv ext4 defaults 0 2", None),
        (f"{OLD} /home ext4 defaults 0 2", None),
        ("LABEL=data /srv ext4 nofail 0 2", None),
    ],
)
def test_what_is_on_the_disk_is_found_and_all_else_is_left(before: str, after: str | None) -> None:
    head = f"{NEW} / ext4 defaults 0 1\n"
    text, changes = root_references.mended_fstab(f"{head}{before}\n", disk(HOME))
    assert text == f"{head}{after or before}\n"
    (change,) = changes
    assert bool(change.now) == bool(after)
    assert change.why == ("" if after else ELSEWHERE)


def test_the_former_name_of_the_disk_decides() -> None:
    text = "/dev/sdb3 / ext4 defaults 0 1\n/dev/sdb5 /home ext4 defaults 0 2\n/dev/sda5 /srv ext4 defaults\n"
    assert root_references.former_disk(text) == "sdb"
    made, _ = root_references.mended_fstab(text, disk(HOME, former="sdb"))
    assert made.splitlines() == [
        f"{NEW} / ext4 defaults 0 1",
        f"UUID={HOME.uuid} /home ext4 defaults 0 2",
        "/dev/sda5 /srv ext4 defaults",
    ]
    assert root_references.former_disk("/dev/nvme1n1p2 / ext4\n") == "nvme1n1"
    assert root_references.former_disk(f"{OLD} / ext4\n") == ""


def test_no_two_entries_get_the_same_part() -> None:
    text = f"{NEW} / ext4\n{OLD} none swap sw\nUUID=8888 none swap sw\n"
    made, changes = root_references.mended_fstab(text, disk())
    assert made.count(SWAP.uuid) == 1
    assert [bool(one.now) for one in changes] == [True, False]


def test_encrypted_volumes() -> None:
    text = f"# name device key\nroot_crypt {OLD} none luks\ndata UUID=7777 none\nfile /image none\n"
    made, changes = root_references.mended_crypttab(text, disk(LUKS))
    assert made.splitlines()[1:] == [
        f"root_crypt UUID={LUKS.uuid} none luks",
        "data UUID=7777 none",
        "file /image none",
    ]
    assert [bool(one.now) for one in changes] == [True, False]
    assert (
        root_references.mended_crypttab("c /dev/vda6 none\n", disk(LUKS))[0] == f"c UUID={LUKS.uuid} none\n"
    )


def test_resume() -> None:
    assert root_references.mended_resume(f"RESUME={OLD}\n", disk())[0] == f"RESUME=UUID={SWAP.uuid}\n"
    assert root_references.mended_resume("RESUME=/dev/sda2\n", disk())[0] == f"RESUME=UUID={SWAP.uuid}\n"
    for text in ("RESUME=none\n", "RESUME=auto\n", f"RESUME=UUID={SWAP.uuid}\n", "# RESUME=/dev/sda2\n"):
        assert root_references.mended_resume(text, disk()) == (text, [])
    without = Disk((ROOT,), ROOT)
    assert root_references.mended_resume(f"RESUME={OLD}\n", without)[0] == "RESUME=none\n"
    line = f"root={OLD} resume={OLD} quiet\n"
    assert root_references.mended_line(line, disk())[0] == f"root={NEW} resume=UUID={SWAP.uuid} quiet\n"


def test_what_may_be_inside_of_a_volume_is_left() -> None:
    text = f"{OLD} / ext4\n{OLD} none swap sw\n/dev/mapper/vg-swap none swap sw\nUUID=0-0 /boot/efi vfat x\n"
    for volume in (Part(7, "LVM2_member", "x"), LUKS):
        made, changes = root_references.mended_fstab(text, disk(volume))
        assert made == text.replace(f"{OLD} /", f"{NEW} /", 1)
        assert [bool(one.now) for one in changes] == [True, False, False]
        for more in ((), (SWAP,)):
            there = Disk((ROOT, volume, *more), ROOT)
            assert root_references.mended_resume(f"RESUME={OLD}\n", there)[0] == f"RESUME={OLD}\n"
    text = "RESUME=/dev/mapper/vg-swap\n"
    assert root_references.mended_resume(text, disk()) == (text, [])
    text = f"c {OLD} none\n"
    assert root_references.mended_crypttab(text, disk(LUKS, Part(7, "LVM2_member", "x")))[0] == text


def test_what_is_no_device_is_left() -> None:
    line = "root=ZFS=pool/root resume=/swapfile x.root=/dev/sda1 rootflags=x\n"
    assert root_references.mended_line(line, disk()) == (line, [])


def test_how_grub_looks_for_the_root() -> None:
    old = OLD.removeprefix("UUID=")
    for form in (
        "search.fs_uuid {} root hd0,gpt3 \nset prefix=($root)'/boot/grub'\n",
        "search --no-floppy --fs-uuid --set=root {}\n",
        "search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt2 --hint='hd0,gpt2'  {}\n",
    ):
        assert root_references.is_right(form.format(ROOT.uuid), disk())
        assert not root_references.is_right(form.format(old), disk())
        made, changes = root_references.mended_search(form.format(old), disk())
        assert made == form.format(ROOT.uuid)
        assert len(changes) == 1
    assert not root_references.is_right("\tlinux /boot/vmlinuz root=/dev/sda3 ro\n", disk())
    assert root_references.is_right("\tlinux /boot/vmlinuz root=LABEL=root ro\n", disk())


def test_a_boot_of_its_own_and_the_esp() -> None:
    both, find = disk(HOME), root_references.system_parts
    table = f"#UUID={HOME.uuid} /efi vfat\nx\nUUID={ESP.uuid} /boot/efi vfat\nUUID={HOME.uuid} /boot ext4\n"
    assert list(find(table, both).items()) == [("/boot", HOME), ("/boot/efi", ESP)]
    assert find(f"{NEW} /boot ext4\n{OLD} /boot/efi vfat\n", both) == {}
    own = replace(both, boot=HOME)
    menu = "search.fs_uuid {}\nlinux /vmlinuz root={}\n"
    text, changes = root_references.mended_menu(menu.format(ROOT.uuid, "/dev/sda3"), own)
    assert text == menu.format(HOME.uuid, NEW)
    assert [change.where for change in changes] == ["search", "root="]
    assert root_references.mended_menu(text, own) == (text, [])
