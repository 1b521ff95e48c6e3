"""``apply --repair``: mend what leads to the filesystems of an image's disk after an import, on another bus
or with new UUIDs, so that the machine finds its root again.
"""

from __future__ import annotations

from agent.block import fstab, mounts
from agent.host.sysfs import listed
from agent.image import boot_loader, boot_record, root_references
from agent.image.root_references import BOOT, Disk, Part
from agent.lib.errors import ConfigError, HostError
from agent.lib.records import replace
from agent.lib.text import lines, number, words
from agent.report import Outcome, changed, failed, guarded, kept, unchanged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.host.host import Host
    from agent.report import Item

    Mend = Callable[[str, Disk], tuple[str, list[root_references.Change]]]

_CRYPTTAB = "/etc/crypttab"
_RESUME_FOLDER, _RESUME_FILE = "/etc/initramfs-tools/conf.d", "/etc/initramfs-tools/initramfs.conf"
_LINES = ("/etc/default/grub", "/etc/kernel/cmdline")
#: Folders with files of which some have a command line.
_FOLDERS = {"/etc/default/grub.d": ".cfg"}
_FOLDERS |= {f"{esp}/loader/entries": ".conf" for esp in ("/boot", "/boot/efi", "/efi")}
_INITRD = "update-initramfs"
#: GRUB's first configuration on the ESP, in a folder of the distribution.
_ESP_FOLDER, _ESP_CONFIG = f"{boot_loader.ESP}/EFI", "grub.cfg"
#: Seconds to make the initrds of all kernels, in a machine that is emulated too.
_TIMEOUT = 900.0


def repair(node: Host, host: Host, target: boot_loader.Target, *, with_loader: bool) -> Iterator[Item]:
    """Mend the image ``host``, of which the disk is ``target`` on the machine ``node``; ``with_loader``: its
    boot loader is installed afterwards. Raise ConfigError if the root filesystem is not found on the disk.
    """
    disk = _disk(node, host, target)
    is_any = False
    is_initrd_old = False
    if disk.boot and not with_loader and not _is_mounted(node, f"{host.root}{BOOT}"):
        what = f"{BOOT}: partition {disk.boot.number} is not mounted there: nothing was mended"
        raise ConfigError(what, hint="mount it in the image, or name the image's disk with --image")
    for name, mend in _files(host):
        for item in _mended(host, name, mend, disk):
            is_any = True
            is_in_initrd = name == _CRYPTTAB or mend is root_references.mended_resume
            is_initrd_old |= is_in_initrd and item.outcome is Outcome.CHANGED
            yield item
    if is_initrd_old:
        yield _initrd(host)
    if not with_loader:
        for item in _loader(node, host, target, disk):
            is_any = True
            yield item
    if not is_any:
        yield unchanged("references to the disk", "each leads to it")


def _is_mounted(node: Host, path: str) -> bool:
    return path in {one.mountpoint for one in mounts.mounts(node)}


def filesystems(node: Host, host: Host, target: boot_loader.Target) -> dict[str, Part]:
    """Return the partitions of the image's disk that it mounts as /boot and ESP once its fstab is mended, in
    the order to mount them. Raise ConfigError if the root filesystem is not found on the disk.
    """
    return _filesystems(host, _disk(node, host, target))


def _filesystems(host: Host, disk: Disk) -> dict[str, Part]:
    text, _ = root_references.mended_fstab(host.read(fstab.FSTAB) or "", disk)
    return root_references.system_parts(text, disk)


def _disk(node: Host, host: Host, target: boot_loader.Target) -> Disk:
    parts = tuple(_parts(node, target))
    root = next((part for part in parts if part.uuid == target.uuid), None)
    if root is None or not root.uuid:
        raise ConfigError(f"{target.disk}: its root filesystem has no UUID", hint="see: blkid -p")
    disk = Disk(parts, root, root_references.former_disk(host.read(fstab.FSTAB) or ""))
    return replace(disk, boot=_filesystems(host, disk).get(BOOT))


def _parts(node: Host, target: boot_loader.Target) -> Iterator[Part]:
    """Yield the partitions with something on them; the whole disk if it has no table."""
    columns = ("--noheadings", "--raw", "--output", "NR,START,SECTORS,UUID")
    rows = [words(line) for line in lines(_said(node, ("partx", *columns, target.disk)))]
    if not rows:
        yield Part(0, target.fstype, target.uuid)
    for nr, first, sectors, *entry in (row for row in rows if len(row) >= 3):
        place = [(number(word) or 0) * boot_record.SECTOR for word in (first, sectors)]
        where = ("-O", str(place[0]), "-S", str(place[1]))
        said = _said(node, ("blkid", "-p", "-o", "udev", *where, target.disk))
        found = {key: value for key, _, value in (line.partition("=") for line in lines(said))}
        named = [found.get(f"ID_FS_{key}", "") for key in ("TYPE", "UUID", "LABEL")]
        if named[0] and all(place):
            yield Part(number(nr) or 0, *named, *entry[:1])


def _said(node: Host, argv: tuple[str, ...]) -> str:
    return node.run(argv, changes=False, check=False).stdout


def _files(host: Host) -> Iterator[tuple[str, Mend]]:
    yield fstab.FSTAB, root_references.mended_fstab
    yield _CRYPTTAB, root_references.mended_crypttab
    for name in (*_below(host, _RESUME_FOLDER, ""), _RESUME_FILE):
        yield name, root_references.mended_resume
    for vendor in listed(host, _ESP_FOLDER):
        yield f"{_ESP_FOLDER}/{vendor}/{_ESP_CONFIG}", root_references.mended_search
    for name in (*_LINES, *(name for folder, end in _FOLDERS.items() for name in _below(host, folder, end))):
        yield name, root_references.mended_line


def _below(host: Host, folder: str, end: str) -> list[str]:
    return [f"{folder}/{name}" for name in listed(host, folder) if name.endswith(end)]


def _mended(host: Host, name: str, mend: Mend, disk: Disk) -> Iterator[Item]:
    """Mend one file, with its mode and owner; yield each reference."""
    there = host.read_file(name)
    if there is None:
        return
    text, changes = mend(there.content.decode("utf-8", "surrogateescape"), disk)
    for change in dict.fromkeys(changes):
        what = f"{name}: {change.where}"
        yield (
            changed(what, f"{change.was} -> {change.now}")
            if change.now
            else kept(what, f"{change.was} {change.why}")
        )
    if any(change.now for change in changes):
        host.write(name, text, mode=there.mode, owner=there.owner)


def _initrd(host: Host) -> Item:
    """Make the initrds again, which have copies of crypttab and RESUME=."""
    if not host.which(_INITRD):
        return failed("initrd", f"{_INITRD} is not installed in the image", "make the initrd in the machine")
    try:
        host.run((_INITRD, "-u", "-k", "all"), timeout=_TIMEOUT)
    except HostError as error:
        return failed("initrd", error.message, f"run {_INITRD} -u in the machine")
    return changed("initrd", "made again")


def _loader(node: Host, host: Host, target: boot_loader.Target, disk: Disk) -> Iterator[Item]:
    """Make grub.cfg again if it leads elsewhere; name an image of GRUB that does.

    One on a /boot of its own is mended as text: grub-mkconfig finds that by devices, and has none here.
    """
    text = host.read(boot_loader.CONFIG)
    if text is not None and disk.boot:
        yield from _mended(host, boot_loader.CONFIG, root_references.mended_menu, disk)
    elif text is not None and not root_references.is_right(text, disk):
        yield from guarded(boot_loader.CONFIG, _configuration(node, host, target))
    for platform in listed(host, boot_loader.BOOT):
        early = host.read(f"{boot_loader.BOOT}/{platform}/{boot_loader.EARLY}") or ""
        if not root_references.is_right(early, disk):
            what = "GRUB on the disk looks for the root filesystem by another UUID"
            yield failed(platform, what, "install it again: --bootloader grub")


def _configuration(node: Host, host: Host, target: boot_loader.Target) -> Iterator[Item]:
    if not host.exists(boot_loader.MKCONFIG):
        hint = "install grub2-common in the image"
        raise ConfigError(f"{boot_loader.CONFIG}: {boot_loader.MKCONFIG} is not there", hint=hint)
    yield boot_loader.configuration(host, target, boot_record.layout(node, target.disk).table)
