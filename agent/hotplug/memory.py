"""Memory blocks: added blocks that are offline are brought online, unless the kernel does so by itself.

A module or a grown virtio-mem device adds many blocks at once (128 MiB each on most machines): one scan
handles them all, and those that are added during it. A block that has been online in this boot and is
offline now was taken offline by the administrator. A block that was removed and added again is new: its
folder in /sys has another inode.

Onlining needs free memory and locks, so the kernel may refuse it temporarily: such blocks are retried with
growing delays. Interface: the kernel's admin-guide/mm/memory-hotplug.rst.
"""

from __future__ import annotations

import errno
import threading
import time

from agent.host.sysfs import attribute, format_list, numbered
from agent.lib.errors import HostError
from agent.lib.records import dataclass, field
from agent.lib.text import words
from agent.report import changed, failed, skipped, unchanged
from agent.state import boot_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

_SYS = "/sys/devices/system/memory"
#: Seconds before each further attempt at the blocks that were refused temporarily.
DELAYS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
#: The errors of a temporary refusal.
_TEMPORARY = (errno.ENOMEM, errno.EBUSY, errno.EAGAIN)
TAKEN_OFFLINE = "taken offline by the administrator"
NEW = "plugged in"
#: The zone in ``valid_zones`` that online_movable needs; any other one is the kernel's.
_MOVABLE = "Movable"

_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Block:
    """A memory block. ``folder`` is the inode of its folder in /sys: another one after it is added again."""

    name: str
    folder: int
    state: str

    @property
    def number(self) -> int:
        """Return N of memoryN."""
        return int(self.name.removeprefix("memory"))


@dataclass(slots=True)
class ScanResult:
    """The results of one scan, by block number."""

    #: The blocks brought online, by zone.
    online: dict[str, set[int]] = field(default_factory=dict)
    #: The reason of each refused block.
    refused: dict[int, str] = field(default_factory=dict)
    #: The reason of each block that was refused temporarily, and is retried.
    retried: dict[int, str] = field(default_factory=dict)


def present(host: Host) -> list[Block]:
    """Return the blocks that are plugged in, by number."""
    folders = numbered(host, _SYS, "memory").items()
    blocks = (Block(name, folder, attribute(host, f"{_SYS}/{name}/state")) for name, folder in folders)
    # A block without a state was removed during the scan.
    return sorted((block for block in blocks if block.state), key=lambda block: block.number)


def online_method(setting: str, kernel: str) -> tuple[str, str]:
    """Return what to write into the ``state`` of a new block ("" for nothing), and the reason. Pure.

    ``setting`` is CONFIG_MEMORY_ONLINE, ``kernel`` the content of auto_online_blocks ("" without that file).
    """
    if setting == "0":
        return "", "CONFIG_MEMORY_ONLINE=0"
    if kernel not in ("", "offline"):
        return "", f"the kernel itself brings memory online (auto_online_blocks={kernel})"
    return ("online" if setting == "auto" else setting), NEW


def why_impossible(state: str, zones: str) -> str:
    """Return why writing ``state`` cannot bring a block online, "" if it can. Pure.

    ``zones`` is the content of the block's ``valid_zones`` ("" without that file).
    """
    possible = words(zones)
    if not possible or (state == "online" and possible != ["none"]):
        return ""
    movable = _MOVABLE in possible
    kernels = set(possible) - {_MOVABLE, "none"}
    if (state == "online_movable" and movable) or (state == "online_kernel" and kernels):
        return ""
    return f"{state} is not possible there: valid_zones says {zones}"


def apply(ctx: Context) -> Iterator[Item]:
    """Make the first scan of a boot, which brings every offline block online: it is too early for the
    administrator to have taken one offline.
    """
    return _scan(ctx, boot_cache.load(ctx.host, boot_cache.MEMORY) or {}, DELAYS[:3])


def handle(ctx: Context) -> Iterator[Item]:
    """Bring new blocks online; if there was no scan in this boot, only record the blocks present."""
    known = boot_cache.load(ctx.host, boot_cache.MEMORY)
    if known is None:
        known = {block.name: block.folder for block in present(ctx.host)}
    return _scan(ctx, known, DELAYS)


def _scan(ctx: Context, known: Mapping[str, int], delays: Iterable[float]) -> Iterator[Item]:
    with _lock:
        host, work = ctx.host, ScanResult()
        how, why = online_method(ctx.settings.memory_online, attribute(host, f"{_SYS}/auto_online_blocks"))
        left = [] if how else _new(host, known)
        if host.debug:
            new = [block.name for block in _new(host, known)]
            host.debug(f"memory: new blocks {new}: {how or 'leave'}: {why}")
        if how:
            for delay in (0.0, *delays):
                if delay:
                    ctx.on_wait(f"{_range(work.retried)}: {next(iter(work.retried.values()))}")
                    # No event is sent when memory or a lock becomes free.
                    time.sleep(delay)
                _bring_online(host, _untried(_new(host, known), work), how, work)
                if not work.retried:
                    break
            ctx.on_wait("")
        count = _record_present(host, known, work)
    yield from _items(host, work)
    if left:
        yield skipped(_range(block.number for block in left), why)
    yield unchanged("memory", f"{_size(host, count)} in blocks")


def _new(host: Host, known: Mapping[str, int]) -> list[Block]:
    return [
        block
        for block in present(host)
        if block.state == "offline" and known.get(block.name) != block.folder
    ]


def _untried(blocks: list[Block], work: ScanResult) -> list[Block]:
    """Return the blocks except those that were refused, and those that this scan brought online before and
    that are offline again: by the administrator.
    """
    done = set().union(*work.online.values(), work.refused)
    return [block for block in blocks if block.number not in done]


def _bring_online(host: Host, blocks: list[Block], state: str, work: ScanResult) -> None:
    work.retried = {}
    for block in blocks:
        folder = f"{_SYS}/{block.name}"
        if why := why_impossible(state, attribute(host, f"{folder}/valid_zones")):
            work.refused[block.number] = why
            continue
        try:
            host.sysfs_write(f"{folder}/state", state)
        except HostError as error:
            _note(host, block, error, work)
        else:
            zone = attribute(host, f"{folder}/valid_zones")
            work.online.setdefault(zone, set()).add(block.number)


def _note(host: Host, block: Block, error: HostError, work: ScanResult) -> None:
    """Note a refusal, to be retried or not; ignore it if the block has gone or another program has brought
    it online.
    """
    if attribute(host, f"{_SYS}/{block.name}/state") in ("", "online"):
        return
    cause = error.__cause__
    number, text = (cause.errno, cause.strerror) if isinstance(cause, OSError) else (None, error.message)
    (work.retried if number in _TEMPORARY else work.refused)[block.number] = text or error.message


def _record_present(host: Host, known: Mapping[str, int], work: ScanResult) -> int:
    """Record the present blocks that have been online; return the number of all that are present."""
    brought, there = set().union(*work.online.values()), present(host)
    keep = {
        block.name: block.folder
        for block in there
        if block.state == "online" or block.number in brought or known.get(block.name) == block.folder
    }
    if keep != boot_cache.load(host, boot_cache.MEMORY):
        boot_cache.store(host, boot_cache.MEMORY, keep)
    return len(there)


def _items(host: Host, work: ScanResult) -> Iterator[Item]:
    """Yield one item for each zone of blocks brought online, and for each reason of a refusal."""
    for zone, numbers in sorted(work.online.items()):
        where = f" ({zone})" if zone else ""
        yield changed(_range(numbers), f"{_size(host, len(numbers))} online{where}")
    for refused, hint in (
        (work.refused, "see the kernel's log: journalctl -k -g memory"),
        (work.retried, "free some memory; it is retried when a block is added, or by: udevadm trigger"),
    ):
        for why in dict.fromkeys(refused.values()):
            yield failed(_range(n for n, text in refused.items() if text == why), why, hint)


def _range(numbers: Iterable[int]) -> str:
    return f"memory{format_list(set(numbers))}"


def _size(host: Host, blocks: int) -> str:
    size = int(attribute(host, f"{_SYS}/block_size_bytes") or "0", 16)
    return f"{blocks * size >> 20} MiB"


def survey(ctx: Context) -> Iterator[tuple[str, str, str, str]]:
    """Yield the rows of ``gandi-agent resources``: names, state, action and reason. Adjacent blocks with the
    same answer share a row.
    """
    host, known = ctx.host, boot_cache.load(ctx.host, boot_cache.MEMORY)
    how, why = online_method(ctx.settings.memory_online, attribute(host, f"{_SYS}/auto_online_blocks"))
    group, numbers = ("", "", ""), set[int]()
    for block in present(host):
        answer = _answer(block, known, how, why)
        if numbers and (answer != group or block.number - 1 not in numbers):
            yield (_range(numbers), *group)
            numbers = set()
        group = answer
        numbers.add(block.number)
    if numbers:
        yield (_range(numbers), *group)


def _answer(block: Block, known: Mapping[str, int] | None, how: str, why: str) -> tuple[str, str, str]:
    if block.state != "offline":
        return block.state, "leave", block.state
    if known is None or known.get(block.name) == block.folder:
        return "offline", "leave", TAKEN_OFFLINE
    return "offline", "bring online" if how else "leave", why
