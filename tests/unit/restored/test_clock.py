"""Which clock is compared with, and when the system's clock is set."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from agent.context import context
from agent.host.host import Host
from agent.restored import clock
from agent.systemd import units

NOW = 1_800_000_000


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Make a machine with an RTC that is right, in a dry run: the tests' own clock is not set."""
    monkeypatch.setattr(time, "time", lambda: NOW + 0.9)
    put(tmp_path, clock._RTC, f"{NOW}\n")
    return Host(tmp_path, dry_run=True)


def put(root: Path, name: str, text: str) -> None:
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def said(host: Host) -> str:
    """Return the one item of a check."""
    (item,) = clock.check(context(host))
    return str(item)


@pytest.mark.parametrize(
    ("rtc", "outcome"),
    [
        (NOW, "unchanged: clock: within 1 s of the RTC"),
        (NOW + 1, "unchanged: clock: within 1 s of the RTC"),
        (NOW + 2, "changed: clock: was 1.6 s behind the RTC: set by date"),
        (NOW - 1, "unchanged: clock: within 1 s of the RTC"),
        (NOW + 3, "changed: clock: was 2.6 s behind the RTC: set by date"),
        (NOW - 2, "changed: clock: was 2.4 s ahead of the RTC: set by date"),
        (NOW + 600, "changed: clock: was 599.6 s behind the RTC: set by date"),
    ],
)
def test_it_is_set_only_if_it_is_off_whatever_the_fraction(host: Host, rtc: int, outcome: str) -> None:
    put(Path(host.root), clock._RTC, f"{rtc}\n")
    assert said(host) == outcome


def test_date_sets_it_in_a_unit_of_its_own(host: Host) -> None:
    put(Path(host.root), clock._RTC, f"{NOW + 600}\n")
    said(host)
    assert host.planned == ["run date --utc --set=+599.600 seconds in gandi-clock.service"]


def test_an_rtc_in_local_time_is_not_used(host: Host) -> None:
    put(Path(host.root), "/etc/adjtime", "0.0 0 0.0\n0\nLOCAL\n")
    assert "the RTC is in local time" in said(host)
    put(Path(host.root), "/etc/adjtime", "0.0 0 0.0\n0\nUTC\n")
    assert said(host).startswith("unchanged")


def test_an_rtc_that_was_never_set_is_not_used(host: Host) -> None:
    put(Path(host.root), clock._RTC, "86400\n")
    assert said(host) == "skipped: clock: no clock to compare with: the RTC was never set"


def test_without_a_clock_it_says_so(host: Host) -> None:
    os.unlink(Path(host.root) / clock._RTC.lstrip("/"))
    assert "neither a PTP clock" in said(host)


def test_a_ptp_clock_of_a_nic_is_not_used(host: Host) -> None:
    put(Path(host.root), "/sys/class/ptp/ptp0/clock_name", "igb\n")
    assert said(host).endswith("the RTC")


def test_a_ptp_clock_that_cannot_be_opened_leaves_the_rtc(host: Host) -> None:
    put(Path(host.root), "/sys/class/ptp/ptp0/clock_name", "KVM virtual PTP\n")
    assert said(host).endswith("the RTC")


def test_the_hypervisors_ptp_clock_comes_first(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    put(Path(host.root), "/sys/class/ptp/ptp0/clock_name", "igb\n")
    put(Path(host.root), "/sys/class/ptp/ptp1/clock_name", "KVM virtual PTP\n")
    put(Path(host.root), "/dev/ptp1", "")
    asked: list[int] = []

    def gettime(number: int) -> float:
        asked.append(number)
        return NOW + 2.0

    monkeypatch.setattr(time, "clock_gettime", gettime)
    assert said(host) == "changed: clock: was 1.1 s behind /dev/ptp1: set by date"
    assert all(number < 0 and number & 7 == 3 for number in asked), "dynamic ids, of a descriptor"


def test_it_is_left_to_a_time_daemon(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    put(Path(host.root), clock._RTC, f"{NOW + 600}\n")
    put(Path(host.root), "/usr/lib/systemd/ntp-units.d/50-mine.list", "# mine\nmine.service\n")
    monkeypatch.setattr(units, "is_active", lambda _host, unit: unit == "mine.service")
    assert said(host) == "skipped: clock: 599.6 s behind the RTC: left to mine.service, which is active"
