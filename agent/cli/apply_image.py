"""``apply --image``: grow the root filesystem of an image, add swap, and configure the system on it.

Whatever ends this process, the kernel then unmounts and detaches the image: its mount is in a namespace of
this process, and its loop devices go with their last close.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from functools import partial

from agent.block import fstab
from agent.cli import apply, documents
from agent.config.system import SwapFile
from agent.disks.offline import growing, image, loop, mounting, roots, swap_partition
from agent.disks.offline.guard import Guard
from agent.disks.offline.mounting import PLACE
from agent.host import terminal
from agent.host.host import Host
from agent.image import delivery
from agent.lib.errors import AgentError, ConfigError
from agent.lib.records import dataclass
from agent.lib.text import gib
from agent.report import StepReport, changed, ended_by, skipped, unchanged
from agent.steps import swap_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from agent.block.storage import Disk
    from agent.disks.offline.image import Image
    from agent.disks.offline.roots import Root
    from agent.reader.client import Parsed
    from agent.report import Item
    from agent.stages import Stage

NONE, FILE, PARTITION = "none", "file", "partition"
#: The file to swap to, as cloud-config's.
_SWAP_FILE = "/swap.img"
_SIZE = re.compile(r"([1-9][0-9]{0,6})([MGT])(?:i?B)?(?::(file|partition))?", re.ASCII)
_UNITS = {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_LARGEST = 1 << 40
#: Types of /boot and of an ESP.
_MOUNTED = ("ext2", "ext3", "ext4", "xfs", "btrfs", "vfat")


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for beside the document. ``swap`` is in bytes, 0 for none; the last three: see apply."""

    partition: str = ""
    grow: bool = True
    swap: int = 0
    swap_kind: str = FILE
    programs: bool = True
    repair: bool = False
    boot_loader: bool = False


def options(
    partition: str | None,
    grow: str | None,
    swap: str | None,
    *,
    programs: bool = True,
    repair: bool = False,
    boot_loader: bool = False,
) -> Options:
    """Return the options as written on the command line. Raise ConfigError."""
    size, kind = 0, FILE
    if swap not in (None, NONE):
        found = _SIZE.fullmatch(swap or "")
        size = int(found[1]) * _UNITS[found[2]] if found else 0
        if not found or size > _LARGEST:
            what = "--swap: not a size of 1M to 1T, with :file or :partition if you like, and not none"
            raise ConfigError(what, hint="write it as 1G, 512M:file, 2G:partition")
        kind = found[3] or FILE
    if size and kind == FILE and not programs:
        what = "--swap: a file needs mkswap of the image, and --no-programs runs none of it"
        raise ConfigError(what, hint="write --swap=SIZE:partition, or deliver the swap file in the document")
    return Options(partition or "", grow != NONE, size, kind, programs, repair, boot_loader)


def run(
    path: str,
    source: str | None,
    chosen: Sequence[Stage],
    wanted: Options,
    debug: Callable[[str], None] | None = None,
) -> int:
    """Configure the system on the image at ``path``, or without a source only mend it and install its boot
    loader; see apply.apply. Return 1 if a step failed, else 0.

    Raise ConfigError or HostError for an image that cannot be used: one that is in use, has no system, or
    cannot grow. Then nothing is configured.
    """
    # A document of which nothing can be read is named before the image is opened.
    parsed = delivery.read(Host(debug=debug), source) if source else None
    if source and parsed and parsed.config is None:
        terminal.print_error(*documents.judged(source, parsed)[1])
        return 1
    host = Host(debug=debug)
    mounting.leave_shared_mounts(host)
    guard = Guard()
    with (
        image.opened(host, path) as opened,
        loop.attached(host, opened.descriptor, sector=opened.sector, partitions=True) as name,
    ):
        disk = roots.read(host, name)
        root = roots.choose(host, disk, path, wanted.partition)
        terminal.print_lines(f"image: {path}: the system on {root} ({root.fstype})")
        if root.piece and (wanted.repair or wanted.boot_loader):
            what = f"{path}: --repair and --bootloader: the root is a {root} of LVM, not a partition"
            hint = "leave them out, and repair it in the machine, from a rescue system"
            raise ConfigError(what, hint=hint)
        return _on(host, opened, disk, root, _Work(source, parsed, chosen, wanted, debug, guard))


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be done on the image."""

    source: str | None
    parsed: Parsed | None
    chosen: Sequence[Stage]
    options: Options
    debug: Callable[[str], None] | None
    guard: Guard

    @property
    def why_not_grown(self) -> str:
        """Return why nothing grows, "" if it does."""
        config = self.parsed.config if self.parsed else None
        if not self.options.grow:
            return "not grown: --grow=none"
        if config and config.system and not config.system.grow_root:
            return "not grown: the document says so (growpart, resize_rootfs)"
        return ""


def _on(host: Host, opened: Image, disk: Disk, root: Root, work: _Work) -> int:
    """Grow, add swap, and configure; each part is printed when it has ended."""
    wanted, grows, entry = work.options, not work.why_not_grown, ""
    reserve, worst = _reserve(host, opened, disk, wanted), 0
    if grows:
        worst |= _print("growth", lambda: growing.below(host, disk, root, reserve))
        root = growing.again(host, disk, root)
    else:
        _print("growth", lambda: [skipped(str(root), work.why_not_grown)])
    if wanted.swap and wanted.swap_kind == PARTITION:
        entry = f"UUID={swap_partition.make(host, roots.read(host, disk.name), wanted.swap)}"
    with roots.node(host, root) as node:
        if grows:
            worst |= _print("filesystem", lambda: growing.content(host, node, root, is_mounted=False))
        work.guard.note(host, node)
        try:
            with mounting.mounted(host, node, root.fstype):
                return worst | _inside(host, node, disk, root, work, entry)
        finally:
            # Before the devices are detached: an interrupted program of the image would keep them attached.
            work.guard.end()


def _inside(host: Host, node: str, disk: Disk, root: Root, work: _Work, swap: str) -> int:
    """Do what needs the mounted filesystem; ``swap``: the partition for the entry in fstab, or ""."""
    worst = 0
    if not work.why_not_grown:
        worst |= _print("filesystem", lambda: growing.content(host, node, root, is_mounted=True))
    if work.options.swap:
        worst |= _print("swap", lambda: _swap(root, work.options, swap))
    wanted = work.options
    with contextlib.ExitStack() as stack:
        # The loader writes to the ESP itself, and is not installed with a /boot of its own.
        if wanted.repair and not wanted.boot_loader:
            worst |= _print("mounts", lambda: _mount_system(host, disk, work.guard, stack))
        return worst | apply.apply(
            PLACE,
            work.source,
            work.chosen,
            work.debug,
            read=partial(_same, work.parsed) if work.parsed else None,
            programs=wanted.programs,
            repair=wanted.repair,
            boot_loader=wanted.boot_loader,
        )


def _mount_system(host: Host, disk: Disk, guard: Guard, stack: contextlib.ExitStack) -> Iterator[Item]:
    """Mount /boot and the ESP of the system at PLACE. Raise ConfigError or HostError if /boot cannot be: the
    initrds would be made in the folder below.
    """
    from agent.image import boot_disk, repair
    from agent.image.root_references import BOOT

    target = boot_disk.find(host, PLACE, is_written=False)
    for where, part in repair.filesystems(host, Host(PLACE, offline=True), target).items():
        place, node = f"{PLACE}{where}", f"{disk.device.node}p{part.number}"
        what = f"partition {part.number} ({part.fstype})"
        try:
            # A link in the image would lead the mount elsewhere; another driver of the kernel is a risk.
            if os.path.realpath(place) != place or not os.path.isdir(place) or part.fstype not in _MOUNTED:
                hint = f"make it one of {', '.join(_MOUNTED)}, and {where} a folder"
                raise ConfigError(f"{what} cannot be mounted at {where}", hint=hint)
            guard.note(host, node)
            stack.enter_context(mounting.mounted(host, node, part.fstype, place=place))
        except AgentError as error:
            if where == BOOT:
                raise
            yield ended_by(where, error)
        else:
            yield unchanged(where, what)


def _same(parsed: Parsed) -> Parsed:
    return parsed


def _reserve(host: Host, opened: Image, disk: Disk, wanted: Options) -> int:
    """Return the bytes to leave free at the end of the disk, for a swap partition that is not there yet."""
    if not wanted.swap or wanted.swap_kind != PARTITION or swap_partition.find(host, disk, wanted.swap):
        return 0
    swap_partition.check(host, disk, opened.path, wanted.swap)
    # A partition ends at a multiple of 1 MiB, the disk need not.
    return wanted.swap + (1 << 20)


def _swap(root: Root, wanted: Options, spec: str) -> Iterator[Item]:
    """Write the entry for the partition ``spec``, or make a file and its entry."""
    inside = Host(PLACE, offline=True)
    entry = fstab.line(spec or _SWAP_FILE, "none", "swap", "sw")
    if fstab.find(inside.read(fstab.FSTAB) or "", entry) == entry:
        yield unchanged("swap", spec or _SWAP_FILE)
        return
    if spec:
        fstab.put(inside, entry)
    else:
        try:
            swap_file.make(
                inside, SwapFile(_SWAP_FILE, wanted.swap), entry, is_begun=False, fstype=root.fstype
            )
        except ConfigError as error:
            hint = "make --swap smaller, or the image larger; on btrfs write --swap=SIZE:partition"
            raise ConfigError(f"--swap: {error.message}", hint=hint) from error
    yield changed("swap", f"{spec or _SWAP_FILE}, {gib(wanted.swap)}")


def _print(name: str, work: Callable[[], Iterable[Item]]) -> int:
    """Print the report of a part that has something to report; return 1 if something failed, else 0."""
    report = _timed(name, work)
    return apply.print_steps((report,)) if report.items else 0


def _timed(name: str, work: Callable[[], Iterable[Item]]) -> StepReport:
    begun = time.monotonic()
    return StepReport(name, tuple(work()), time.monotonic() - begun)
