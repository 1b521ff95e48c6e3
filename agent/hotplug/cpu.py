"""CPUs: only those that are added while the machine runs are brought online.

A CPU that was present at the first scan of this boot, or has been online since, is known. If it is offline,
the kernel's command line or the administrator wants that, and no event, restart or ``udevadm trigger``
changes it. A CPU that was removed and added again is new: its folder in /sys has another inode.
"""

from __future__ import annotations

import threading
import time

from agent.host.sysfs import format_list, numbered, online_cpus
from agent.lib.errors import HostError
from agent.lib.records import dataclass
from agent.report import Outcome, changed, failed, skipped, unchanged
from agent.state import boot_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

_SYS = "/sys/devices/system/cpu"
#: Seconds to wait for a new CPU's ``online`` file, which older kernels make after the event.
_TIMEOUT = 2.0
#: Seconds between two checks for it.
_TICK = 0.05
#: Why a known CPU is left offline.
LEFT_OFFLINE = "offline since the boot, or taken offline by the administrator"

_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Cpu:
    """A present CPU. ``folder`` is the inode of its folder in /sys: another one after it is added again."""

    name: str
    folder: int
    online: bool

    @property
    def number(self) -> int:
        """Return N of cpuN."""
        return int(self.name.removeprefix("cpu"))


def present(host: Host) -> list[Cpu]:
    """Return the CPUs that are plugged in, by number."""
    online = online_cpus(host)
    cpus = (
        Cpu(name, folder, int(name.removeprefix("cpu")) in online)
        for name, folder in numbered(host, _SYS, "cpu").items()
    )
    return sorted(cpus, key=lambda cpu: cpu.number)


def decide(cpu: Cpu, known: Mapping[str, int] | None, *, wanted: bool) -> tuple[bool, str]:
    """Return whether to bring a CPU online, and the reason. Pure.

    ``known`` has the folder of each known CPU by name, None before the first scan; ``wanted`` is
    CONFIG_CPU_ONLINE.
    """
    if cpu.online:
        return False, "online"
    if known is None or known.get(cpu.name) == cpu.folder:
        return False, LEFT_OFFLINE
    return (True, "added while the machine runs") if wanted else (False, "CONFIG_CPU_ONLINE=0")


def handle(ctx: Context) -> Iterator[Item]:
    """Bring new CPUs online; at the first scan of a boot, only record those present."""
    with _lock:
        known, there = boot_cache.load(ctx.host, boot_cache.CPUS), present(ctx.host)
        brought = set[str]()
        for cpu in there:
            act, why = decide(cpu, known, wanted=ctx.settings.cpu_online)
            if ctx.host.debug:
                ctx.host.debug(f"{cpu.name}: {'bring online' if act else 'leave'}: {why}")
            if act:
                item = _bring_online(ctx.host, cpu)
                if item.outcome is Outcome.CHANGED:
                    brought.add(cpu.name)
                yield item
            elif not cpu.online and why != LEFT_OFFLINE:
                yield skipped(cpu.name, why)
        _record_present(ctx.host, known, there, brought)
    online = online_cpus(ctx.host)
    named = f"{format_list(online, 'cpu')} ({len(online)})" if online else "none in /sys"
    yield unchanged("CPUs online", named)


def _record_present(
    host: Host, known: Mapping[str, int] | None, there: list[Cpu], brought: set[str]
) -> None:
    """Record the present CPUs that were present at the first scan or have been online since."""
    keep = {
        cpu.name: cpu.folder
        for cpu in there
        if known is None or cpu.online or cpu.name in brought or known.get(cpu.name) == cpu.folder
    }
    if keep != known:
        boot_cache.store(host, boot_cache.CPUS, keep)


def _bring_online(host: Host, cpu: Cpu) -> Item:
    file = f"{_SYS}/{cpu.name}/online"
    if not _wait_for_file(host, file):
        return failed(
            cpu.name,
            f"{file} is not there after {_TIMEOUT:g} s",
            "see the kernel's log: journalctl -k -g cpu",
        )
    try:
        host.sysfs_write(file, "1")
    except HostError as error:
        # Another program may have brought it online before.
        if cpu.number not in online_cpus(host):
            return failed(cpu.name, error.message, "see the kernel's log: journalctl -k -g cpu")
    return changed(cpu.name, "online")


def _wait_for_file(host: Host, file: str) -> bool:
    """Wait until the file exists, by checking again and again: sysfs sends no event for it. Return False
    after _TIMEOUT seconds.
    """
    deadline = time.monotonic() + _TIMEOUT
    while not host.exists(file):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_TICK)
    return True


def survey(ctx: Context) -> Iterator[tuple[str, str, str, str]]:
    """Yield the rows of ``gandi-agent resources``: name, state, action and reason of each CPU."""
    known = boot_cache.load(ctx.host, boot_cache.CPUS)
    for cpu in present(ctx.host):
        act, why = decide(cpu, known, wanted=ctx.settings.cpu_online)
        state = "online" if cpu.online else "offline"
        yield cpu.name, state, "bring online" if act else "leave", why
