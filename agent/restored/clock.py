"""The system's clock after a restore: it goes on from the moment at which the machine was saved.

The time is taken from a PTP clock of the hypervisor's, else from the RTC, which the hypervisor keeps. A time
daemon that runs is left to it. The daemon may not set the clock: date(1) does, in a unit of its own.
"""

from __future__ import annotations

import os
import time

from agent.host.sysfs import attribute, listed
from agent.lib.errors import HostError
from agent.lib.records import dataclass
from agent.lib.text import WHITE, lines, number
from agent.report import changed, failed, skipped, unchanged
from agent.systemd import transient, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

#: clock_name of PTP clocks that show the host's time (ptp_kvm, hv_util); those of NICs may show any time.
_HYPERVISORS = frozenset({"KVM virtual PTP", "hyperv"})
_PTP, _RTC = "/sys/class/ptp", "/sys/class/rtc/rtc0/since_epoch"
#: hwclock(8): the third line is LOCAL if the RTC is in local time.
_ADJTIME = "/etc/adjtime"
#: Files that name time daemons, one on each line (systemd-timedated.service(8)), and those without a file.
_NTP_UNITS = ("/usr/lib/systemd/ntp-units.d", "/etc/systemd/ntp-units.d")
_TIME_DAEMONS = ("systemd-timesyncd", "chrony", "chronyd", "ntpsec", "ntp", "ntpd", "openntpd")
#: Seconds that the clock may be off. The RTC shows whole seconds: its time is known to half a second.
TOLERANCE, _HALF = 1.0, 0.5
#: Before this (2024, Unix time) an RTC was never set.
_UNSET = 1704067200
#: linux/rtc.h; and the most seconds to wait for the RTC's next second.
_UIE_ON, _UIE_OFF, _SECOND = 0x7003, 0x7004, 2.0
_UNIT, _TIMEOUT = "gandi-clock", 20.0


@dataclass(frozen=True, slots=True)
class Reading:
    """By how many seconds the system's clock is behind a clock, and how exactly that is known."""

    source: str
    behind: float
    within: float = 0.0

    @property
    def is_off(self) -> bool:
        """Whether the clock is off by more than is tolerated, whatever the fraction of the second."""
        return abs(self.behind) > TOLERANCE + self.within


def check(ctx: Context) -> Iterator[Item]:
    """Set the clock if it is off by more than ``TOLERANCE`` and no time daemon runs."""
    found = _read(ctx.host)
    if isinstance(found, str):
        yield skipped("clock", found)
        return
    if not found.is_off:
        yield unchanged("clock", f"within {TOLERANCE:g} s of {found.source}")
        return
    off = f"{abs(found.behind):.1f} s {'behind' if found.behind > 0 else 'ahead of'} {found.source}"
    if keeper := time_daemon(ctx.host):
        yield skipped("clock", f"{off}: left to {keeper}, which is active")
        return
    ctx.on_wait("the RTC's next second")
    exact = _behind_rtc_at_its_second(ctx.host) if found.within else None
    ctx.on_wait("")
    behind = found.behind if exact is None else exact
    try:
        transient.run(
            ctx.host,
            _UNIT,
            # Relative to the time at which it runs: a unit takes a second to start on a slow machine.
            ("date", "--utc", f"--set={behind:+.3f} seconds"),
            timeout=_TIMEOUT,
            description="gandi-agent: set the clock",
            properties=(("StandardOutput", "s", "null"),),
        )
    except HostError as error:
        yield failed("clock", f"{off}: {error.message}", error.hint)
        return
    after = _read(ctx.host)
    if not ctx.host.dry_run and (isinstance(after, str) or after.is_off):
        yield failed("clock", f"{off}: still off after it was set", "see: journalctl -b -u gandi-clock")
        return
    yield changed("clock", f"was {off}: set by date")


def time_daemon(host: Host) -> str:
    """Return the unit of the time daemon that is active, "" if none is."""
    names = dict.fromkeys(f"{name}.service" for name in _TIME_DAEMONS)
    for folder in _NTP_UNITS:
        for file in listed(host, folder):
            said = (line.strip(WHITE) for line in lines(host.read(f"{folder}/{file}") or ""))
            names |= dict.fromkeys(name for name in said if name.endswith(".service"))
    return next((name for name in names if units.is_active(host, name)), "")


def _read(host: Host) -> Reading | str:
    """Return the reading of the best clock, or why there is none."""
    for name in listed(host, _PTP):
        if attribute(host, f"{_PTP}/{name}/clock_name") in _HYPERVISORS:
            behind = _behind_ptp(host, name)
            if behind is not None:
                return Reading(f"/dev/{name}", behind)
    adjtime = lines(host.read(_ADJTIME) or "")
    if len(adjtime) > 2 and adjtime[2].strip(WHITE) == "LOCAL":
        return f"no clock to compare with: {_ADJTIME} says that the RTC is in local time"
    now = number(attribute(host, _RTC))
    if now is None:
        return "no clock to compare with: neither a PTP clock of the hypervisor's nor an RTC"
    if now < _UNSET:
        return "no clock to compare with: the RTC was never set"
    return Reading("the RTC", now + _HALF - time.time(), _HALF)


def _behind_ptp(host: Host, name: str) -> float | None:
    """Return by how many seconds the clock is behind a PTP clock; None if that cannot be opened or read:
    the RTC is used then.
    """
    try:
        clock = os.open(host.path(f"/dev/{name}"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # FD_TO_CLOCKID of clock_gettime(2).
        return time.clock_gettime(~clock << 3 | 3) - time.time()
    except OSError:
        return None
    finally:
        os.close(clock)


def _behind_rtc_at_its_second(host: Host) -> float | None:
    """Wait for the interrupt of the RTC's next second (rtc(4)), and return by how many seconds the clock is
    behind; None if the RTC has none, or another program has opened it.
    """
    import fcntl
    import select

    try:
        rtc = os.open(host.path("/dev/rtc0"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.ioctl(rtc, _UIE_ON)
        try:
            if not select.select([rtc], [], [], _SECOND)[0]:
                return None
            now = time.time()
        finally:
            fcntl.ioctl(rtc, _UIE_OFF)
    except OSError:
        return None
    finally:
        os.close(rtc)
    second = number(attribute(host, _RTC))
    # The RTC is read after the interrupt: a second later, where the machine is that slow.
    return None if second is None else second - now - int(time.time() - now)
