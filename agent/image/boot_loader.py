"""Install GRUB for a disk that boots by its firmware alone: a BIOS, UEFI, or both.

GRUB is the one of the tree, and its programs run isolated from this machine, as all programs of an image.
grub-install and grub-probe are not among them: they look for devices in /dev, /proc and /sys, where such a
program has none, and elsewhere they would find this machine's. grub-mkimage makes the same images from files
alone, and grub-mkconfig asks a program of this module instead of grub-probe. This machine then writes the
boot record on that one disk, and the program for UEFI under the name for removable disks, which needs no
variable of the firmware.
"""

from __future__ import annotations

import re

from agent.block import fstab
from agent.host import trees
from agent.host.sysfs import listed
from agent.image import boot_record
from agent.lib.errors import ConfigError, HostError
from agent.lib.records import dataclass
from agent.lib.text import WHITE
from agent.report import changed, skipped, unchanged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.host.host import Host
    from agent.report import Item

_GRUB, BOOT = "/usr/lib/grub", "/boot/grub"
_BIOS, _UEFI = "i386-pc", "x86_64-efi"
#: The package of Debian with each, and what a tree that has it has.
_PACKAGES = {_BIOS: "grub-pc-bin", _UEFI: "grub-efi-amd64-bin"}
MKCONFIG = "/usr/sbin/grub-mkconfig"
CONFIG = f"{BOOT}/grub.cfg"
#: The settings of the serial console, for each later update-grub too.
CONSOLE = "/etc/default/grub.d/gandi.cfg"
#: What the image of GRUB does first; grub-install has it under the same name.
EARLY = "load.cfg"
#: On the ESP (UEFI Specification, 3.5.1.1), with its folders.
PROGRAM, _FOLDERS = "EFI/BOOT/BOOTX64.EFI", ("EFI", "EFI/BOOT")
#: The mountpoint of the ESP in the machine, which grub-install looks for.
ESP = "/boot/efi"
#: Driver of GRUB by filesystem.
_DRIVERS = {"ext2": "ext2", "ext3": "ext2", "ext4": "ext2", "xfs": "xfs"}
#: Of mtools, which need no mount: this machine's kernel may have no driver for a FAT.
_MCOPY, _MMD = "mcopy", "mmd"
_TABLES = ("part_gpt", "part_msdos")
#: Work folder in the tree, accessible to root only.
_WORK = "/var/lib/gandi/boot-loader"
#: Seconds for grub-mkconfig, in a machine that is emulated too.
_TIMEOUT = 300.0
#: Most bytes of an image of GRUB; they have 150 KiB.
_LIMIT = 8 << 20
_WANTS, _SERIAL = (
    "/etc/systemd/system/getty.target.wants",
    re.compile(r"serial-getty@([A-Za-z0-9]+)\.service"),
)
#: What grub-mkconfig asks, and the answers, which are those of a running machine.
_PROBE = """#!/bin/sh
for word; do
	case $word in
	device | --target=device) echo UUID={uuid} ;;
	fs_uuid | --target=fs_uuid) echo {uuid} ;;
	fs | --target=fs) echo {driver} ;;
	partmap | --target=partmap) echo {table} ;;
	esac
done
"""


@dataclass(frozen=True, slots=True)
class Target:
    """The disk, by its path on this machine; UUID and type of the tree's filesystem on it."""

    disk: str
    uuid: str
    fstype: str


def install(node: Host, host: Host, target: Target) -> Iterator[Item]:
    """Install the GRUB of ``host`` for each firmware that the disk has room for; ``node`` is this machine.

    Raise ConfigError, before anything is changed, if no firmware would boot the disk.
    """
    there, chosen, missing = check(node, host, target)
    driver = _DRIVERS[target.fstype]
    for platform in missing:
        yield skipped(platform, f"{_PACKAGES[platform]} is not installed in the image")
    yield from console(host)
    for platform in chosen:
        _copy_modules(host, platform)
        _make_core(host, target, platform, driver)
    yield configuration(host, target, there.table)
    if _BIOS in chosen:
        yield _boot_record(node, host, target, there)
    if _UEFI in chosen:
        yield _program(node, host, target.disk, there)
        yield from esp_entry(host, _fat_uuid(node, target.disk, there))


def check(node: Host, host: Host, target: Target) -> tuple[boot_record.Layout, Sequence[str], Sequence[str]]:
    """Return the disk's layout, the platforms to install, and those of which the image has no GRUB. Raise
    ConfigError if no firmware would boot the disk, HostError if this machine lacks a program.
    """
    there = boot_record.layout(node, target.disk)
    platforms = list(_platforms(host, there))
    missing = [one for one, is_there in platforms if not is_there]
    chosen = [one for one, is_there in platforms if is_there]
    _check(host, target, chosen, missing)
    if _UEFI in chosen and not node.which(_MCOPY):
        raise HostError(f"{_MCOPY}: not installed on this machine", hint="install the package mtools")
    return there, chosen, missing


def _platforms(host: Host, there: boot_record.Layout) -> Iterator[tuple[str, bool]]:
    """Yield each platform that the disk has room for, and whether the tree has it."""
    if there.sectors:
        yield _BIOS, host.exists(f"{_GRUB}/{_BIOS}/boot.img")
    if there.esp[1]:
        yield _UEFI, host.exists(f"{_GRUB}/{_UEFI}/moddep.lst")


def _check_root(target: Target) -> None:
    if target.fstype not in _DRIVERS:
        raise ConfigError(
            f"{target.disk}: no boot loader for a root filesystem of {target.fstype}",
            hint=f"use {', '.join(_DRIVERS)}, or install the loader in the machine",
        )
    if not re.fullmatch(r"[0-9A-Fa-f-]{9,40}", target.uuid):
        raise ConfigError(f"{target.disk}: its root filesystem has no UUID", hint="see: blkid -p")


def _check(host: Host, target: Target, chosen: Sequence[str], missing: Sequence[str]) -> None:
    _check_root(target)
    if not chosen and not missing:
        raise ConfigError(
            f"{target.disk}: no room for a boot loader: neither a BIOS boot partition nor an ESP",
            hint="make them, or let the first partition of an msdos table begin at 1 MiB",
        )
    lacking = [_PACKAGES[one] for one in missing] if not chosen else []
    lacking += ["grub2-common"] if not lacking and not host.exists(MKCONFIG) else []
    if lacking:
        raise ConfigError(
            f"the image has no GRUB for this disk: {' and '.join(lacking)} is not installed",
            hint="install it in the image (with instance-debootstrap: EXTRA_PKGS), or bootloader=none",
        )
    kernels = [
        name.removeprefix("vmlinuz-") for name in listed(host, "/boot") if name.startswith("vmlinuz-")
    ]
    if not any(host.exists(f"/boot/initrd.img-{version}") for version in kernels):
        raise ConfigError(
            "/boot: the image has no kernel with its initrd, which mounts the root filesystem by its UUID",
            hint="install one in the image: linux-image-amd64 and initramfs-tools",
        )


def console(host: Host) -> Iterator[Item]:
    """Write the settings for the serial terminals on which the image has a login."""
    matches = (_SERIAL.fullmatch(name) for name in listed(host, _WANTS))
    consoles = [found[1] for found in matches if found]
    if not consoles:
        return
    numbers = [name.removeprefix("ttyS") for name in consoles if re.fullmatch(r"ttyS[0-9]", name)]
    words = [f"console={name}{',115200n8' if name.startswith('ttyS') else ''}" for name in consoles]
    text = "# The serial console of the machine, by gandi-agent.\n"
    text += f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX console=tty0 {" ".join(words)}"\n'
    if numbers:
        text += 'GRUB_TERMINAL_INPUT="console serial"\nGRUB_TERMINAL_OUTPUT="console serial"\n'
        text += f'GRUB_SERIAL_COMMAND="serial --unit={numbers[0]} --speed=115200"\n'
    is_new = host.write(CONSOLE, text)
    yield (changed if is_new else unchanged)(CONSOLE, " and ".join(consoles))


def _copy_modules(host: Host, platform: str) -> None:
    for name in listed(host, f"{_GRUB}/{platform}"):
        if name.endswith((".mod", ".lst")):
            content = host.read_bytes(f"{_GRUB}/{platform}/{name}") or b""
            host.write_chunks(f"{BOOT}/{platform}/{name}", (content,))


def _core(platform: str) -> str:
    return f"{BOOT}/{platform}/core.{'img' if platform == _BIOS else 'efi'}"


def _make_core(host: Host, target: Target, platform: str, driver: str) -> None:
    """Make the image that finds the filesystem by its UUID, and GRUB's configuration there."""
    early = f"{BOOT}/{platform}/{EARLY}"
    host.write(early, f"search.fs_uuid {target.uuid} root\nset prefix=($root)'{BOOT}'\n")
    modules = (*_TABLES, driver, "search_fs_uuid", *(("biosdisk",) if platform == _BIOS else ()))
    folder = f"{_GRUB}/{platform}"
    where = ("-d", folder, "-c", early, "-p", BOOT, "-o", _core(platform))
    host.run(("grub-mkimage", "-O", platform, *where, *modules), timeout=_TIMEOUT)


def configuration(host: Host, target: Target, table: str) -> Item:
    """Make grub.cfg as update-grub does, by the image's own settings and programs. Raise ConfigError for a
    filesystem that GRUB does not read, HostError if it cannot be made.

    grub-mkconfig has the path of grub-probe in one line, which its programs take from the environment.
    """
    _check_root(target)
    host.mkdir(_WORK.rpartition("/")[0], mode=0o700)
    host.mkdir(_WORK, mode=0o700)
    try:
        return _configuration(
            host, target, _PROBE.format(uuid=target.uuid, driver=_DRIVERS[target.fstype], table=table)
        )
    finally:
        trees.remove(host, _WORK)


def _configuration(host: Host, target: Target, answers: str) -> Item:
    program, probe = f"{_WORK}/grub-mkconfig", f"{_WORK}/grub-probe"
    text, found = re.subn(r"(?m)^grub_probe=.*$", "", host.read(MKCONFIG) or "")
    if found != 1:
        raise HostError(f"{MKCONFIG}: of another version than expected: not run", hint="report this")
    host.write(program, text, mode=0o700)
    host.write(probe, answers, mode=0o700)
    environment = {"grub_probe": probe}
    host.run(("sh", program, "-o", CONFIG), timeout=_TIMEOUT, environment=environment)
    made = host.read(CONFIG) or ""
    if target.uuid not in made or not re.search(r"(?m)^[ \t]*linux[ \t]", made):
        raise HostError(f"{CONFIG}: has no entry for a kernel", hint="see /etc/grub.d and /etc/default/grub")
    return changed(CONFIG, f"root=UUID={target.uuid}")


def _boot_record(node: Host, host: Host, target: Target, there: boot_record.Layout) -> Item:
    boot = host.read_bytes(f"{_GRUB}/{_BIOS}/boot.img", limit=_LIMIT) or b""
    core = host.read_bytes(_core(_BIOS), limit=_LIMIT) or b""
    is_new = boot_record.write(node, target.disk, there, boot, core)
    where = "the BIOS boot partition" if there.table == "gpt" else "the gap before the first partition"
    return (changed if is_new else unchanged)("boot record", f"for a BIOS, in {where}")


def _program(node: Host, host: Host, disk: str, there: boot_record.Layout) -> Item:
    """Write the program for UEFI to the ESP, in place of another one."""
    fat = f"{disk}@@{there.esp[0] * boot_record.SECTOR}"
    for folder in _FOLDERS:
        # One that exists is an error of mmd; mcopy fails if it is none.
        node.run((_MMD, "-D", "s", "-i", fat, f"::{folder}"), check=False)
    node.run((_MCOPY, "-o", "-i", fat, host.path(_core(_UEFI)), f"::{PROGRAM}"))
    return changed(PROGRAM, "for UEFI, without Secure Boot")


def _fat_uuid(node: Host, disk: str, there: boot_record.Layout) -> str:
    first, sectors = (number * boot_record.SECTOR for number in there.esp)
    where = ("-O", str(first), "-S", str(sectors), "-o", "value", "-s", "UUID")
    return node.run(("blkid", "-p", *where, disk), check=False, changes=False).stdout.strip(WHITE)


def esp_entry(host: Host, uuid: str) -> Iterator[Item]:
    """Name the ESP in fstab, so that the machine's own grub-install finds it; no boot waits for it."""
    if not re.fullmatch(r"[0-9A-F]{4}-[0-9A-F]{4}", uuid):
        return
    entry = fstab.line(f"UUID={uuid}", ESP, "vfat", "umask=0077,nofail")
    host.mkdir(ESP)
    text = host.read(fstab.FSTAB) or ""
    found = fstab.find(text, entry)
    if found is None:
        host.write(fstab.FSTAB, f"{text}{entry}\n")
    elif found != entry:
        fstab.put(host, entry)
    yield (unchanged if found == entry else changed)(fstab.FSTAB, ESP)
