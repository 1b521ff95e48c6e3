"""CPUs: exactly those that were added while the machine runs are brought online.

A CPU that was there when this boot first looked, or has been online since, is known: offline, it is so
because somebody wants it (the kernel's command line, the administrator), and no event, no restart and no
``udevadm trigger`` changes that. One that is taken out and plugged in again is new: its folder is another.
"""

from __future__ import annotations

import threading
import time

from agent.host.sysfs import numbered, online_cpus, spelled
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
#: Seconds to wait for a new CPU's ``online`` file, which older kernels make after they have told of the CPU.
_PATIENCE = 2.0
_TICK = 0.05
#: Why a known CPU that is offline is left.
ADMINS = "offline since the boot, or taken offline by the administrator"

_turn = threading.Lock()


@dataclass(frozen=True, slots=True)
class Cpu:
    """A CPU that is there. ``folder`` is the number of its folder in /sys: another when it comes again."""

    name: str
    folder: int
    online: bool

    @property
    def number(self) -> int:
        """N of cpuN."""
        return int(self.name.removeprefix("cpu"))


def present(host: Host) -> list[Cpu]:
    """The CPUs that are plugged in, by number."""
    online = online_cpus(host)
    found = (
        Cpu(name, folder, int(name.removeprefix("cpu")) in online)
        for name, folder in numbered(host, _SYS, "cpu").items()
    )
    return sorted(found, key=lambda cpu: cpu.number)


def policy(cpu: Cpu, known: Mapping[str, int] | None, *, wanted: bool) -> tuple[bool, str]:
    """Whether to bring a CPU online, and why so. Pure; ``known`` is None before the first look."""
    if cpu.online:
        return False, "online"
    if known is None or known.get(cpu.name) == cpu.folder:
        return False, ADMINS
    return (True, "added while the machine runs") if wanted else (False, "CONFIG_CPU_ONLINE=0")


def look(ctx: Context) -> Iterator[Item]:
    """Bring the CPUs online that are new; the first look of a boot only remembers who is there."""
    with _turn:
        known, found = boot_cache.load(ctx.host, boot_cache.CPUS), present(ctx.host)
        mine = set[str]()
        for cpu in found:
            act, why = policy(cpu, known, wanted=ctx.settings.cpu_online)
            if act:
                item = _bring(ctx.host, cpu)
                if item.outcome is Outcome.CHANGED:
                    mine.add(cpu.name)
                yield item
            elif not cpu.online and why != ADMINS:
                yield skipped(cpu.name, why)
        _remember(ctx.host, known, found, mine)
    yield unchanged("cpus", f"{spelled(online_cpus(ctx.host))} online")


def _remember(host: Host, known: Mapping[str, int] | None, found: list[Cpu], mine: set[str]) -> None:
    """Those who were there at the first look, those who have been online, and of both who is still there."""
    keep = {
        cpu.name: cpu.folder
        for cpu in found
        if known is None or cpu.online or cpu.name in mine or known.get(cpu.name) == cpu.folder
    }
    if keep != known:
        boot_cache.store(host, boot_cache.CPUS, keep)


def _bring(host: Host, cpu: Cpu) -> Item:
    file = f"{_SYS}/{cpu.name}/online"
    if not _appears(host, file):
        return failed(
            cpu.name,
            f"{file} is not there after {_PATIENCE:g} s",
            "the kernel says why: journalctl -k -g cpu",
        )
    try:
        host.sysfs_write(file, "1")
    except HostError as error:
        # Whoever was faster: what counts is that it is online.
        if cpu.number not in online_cpus(host):
            return failed(cpu.name, error.message, "the kernel says why: journalctl -k -g cpu")
    return changed(cpu.name, "online")


def _appears(host: Host, file: str) -> bool:
    """Wait until the file is there; sysfs tells nobody when it is."""
    deadline = time.monotonic() + _PATIENCE
    while not host.exists(file):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_TICK)
    return True


def survey(ctx: Context) -> Iterator[tuple[str, str, str, str]]:
    """Each CPU for ``gandi-agent resources``: its name, state, what is done about it, and why."""
    known = boot_cache.load(ctx.host, boot_cache.CPUS)
    for cpu in present(ctx.host):
        act, why = policy(cpu, known, wanted=ctx.settings.cpu_online)
        state = "online" if cpu.online else "offline"
        yield cpu.name, state, "bring online" if act else "leave", why
