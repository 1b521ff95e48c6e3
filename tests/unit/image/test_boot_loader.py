"""Which disk gets a boot loader, and what is said of one that does not; nothing is changed then."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.host.host import Host
from agent.image import boot_loader
from agent.image.boot_loader import Target
from agent.lib.errors import ConfigError
from tests.contents import digest
from tests.unit.image.test_boot_record import GPT, MSDOS, made

UUID = "f0648bb3-d74f-453d-9a89-69717668da70"
BIOS, UEFI = "usr/lib/grub/i386-pc/boot.img", "usr/lib/grub/x86_64-efi/moddep.lst"
TOOLS = (BIOS, UEFI, "usr/sbin/grub-mkconfig")
KERNEL = ("boot/vmlinuz-6.12-amd64", "boot/initrd.img-6.12-amd64")


def tree_with(tmp_path: Path, *names: str) -> Path:
    root = tmp_path / "root"
    for name in ("etc/passwd", *names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


@pytest.mark.parametrize(
    ("table", "fstype", "names", "said", "remedy"),
    [
        (GPT, "ext4", KERNEL, "grub-pc-bin and grub-efi-amd64-bin is not installed", "EXTRA_PKGS"),
        (MSDOS, "ext4", KERNEL, "grub-pc-bin is not installed", "bootloader=none"),
        (MSDOS, "ext4", (BIOS, *KERNEL), "grub2-common is not installed", "EXTRA_PKGS"),
        (MSDOS, "ext4", (*TOOLS, KERNEL[0]), "no kernel with its initrd", "linux-image-amd64"),
        (MSDOS, "btrfs", (*TOOLS, *KERNEL), "no boot loader for a root filesystem of btrfs", "ext4"),
        ("label: gpt\ntype=L\n", "ext4", (*TOOLS, *KERNEL), "no room for a boot loader", "1 MiB"),
        ("", "ext4", (*TOOLS, *KERNEL), "no partition table: no BIOS boots it", "partition=gpt"),
    ],
)
def test_a_disk_that_no_firmware_would_boot_is_refused_before_a_change(
    tmp_path: Path, table: str, fstype: str, names: tuple[str, ...], said: str, remedy: str
) -> None:
    disk, root = made(tmp_path, table), tree_with(tmp_path, *names)
    before = sorted(root.rglob("*")), digest(disk)
    with pytest.raises(ConfigError, match=said) as caught:
        list(boot_loader.install(Host(), Host(root, offline=True), Target(str(disk), UUID, fstype)))
    assert remedy in caught.value.hint
    assert (sorted(root.rglob("*")), digest(disk)) == before


@pytest.mark.parametrize(
    ("consoles", "lines"),
    [
        ((), None),
        (
            ("ttyS0",),
            [
                'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX console=tty0 console=ttyS0,115200n8"',
                'GRUB_TERMINAL_INPUT="console serial"',
                'GRUB_TERMINAL_OUTPUT="console serial"',
                'GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"',
            ],
        ),
        (("hvc0",), ['GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX console=tty0 console=hvc0"']),
    ],
)
def test_the_console_is_the_one_with_a_login(
    tmp_path: Path, consoles: tuple[str, ...], lines: list[str] | None
) -> None:
    wants = "etc/systemd/system/getty.target.wants"
    root = tree_with(tmp_path, *(f"{wants}/serial-getty@{name}.service" for name in consoles))
    items = list(boot_loader.console(Host(root, offline=True)))
    written = root / boot_loader.CONSOLE.lstrip("/")
    assert [item.name for item in items] == ([boot_loader.CONSOLE] if lines else [])
    assert (written.read_text().splitlines()[1:] if lines else written.exists()) == (lines or False)


def test_the_esp_is_named_in_fstab_once(tmp_path: Path) -> None:
    root = tree_with(tmp_path)
    (root / "etc/fstab").write_text(f"UUID={UUID} / ext4 errors=remount-ro 0 1\n")
    host = Host(root, offline=True)
    for uuid in ("1B78-11EA", "1B78-11EA", "0000-0001"):
        list(boot_loader.esp_entry(host, uuid))
    assert (root / "etc/fstab").read_text().splitlines() == [
        f"UUID={UUID} / ext4 errors=remount-ro 0 1",
        "UUID=0000-0001 /boot/efi vfat umask=0077,nofail 0 0",
    ]
    assert (root / "boot/efi").is_dir()
