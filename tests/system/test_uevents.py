"""udev's multicast group, for real: messages as udevd sends them, the kernel's filter, and an overflow."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from agent.host import Host
from agent.uevents import Uevent, Uevents
from agent.wakeup import Wakeup
from tests.system.machine import message, send

if TYPE_CHECKING:
    from pathlib import Path

DEVPATH = "/devices/virtual/mem/null"


def readable(uevents: Uevents | Wakeup, seconds: float) -> bool:
    return bool(select.select([uevents], [], [], seconds)[0])


def test_what_carries_our_tag_arrives_with_its_role() -> None:
    uevents = Uevents()
    send(message("remove", "gandi", DEVPATH))
    assert readable(uevents, 5)
    event = Uevent("remove", "mem", "null", DEVPATH, "", "disk")
    assert uevents.drain() == ([event], False)
    assert uevents.drain() == ([], False)


def test_what_carries_another_tag_wakes_nobody() -> None:
    uevents = Uevents()
    send(message("add", "systemd", DEVPATH))
    assert not readable(uevents, 0.3)


def test_after_an_overflow_it_says_so_once_and_goes_on() -> None:
    uevents = Uevents(receive_buffer=4096)
    for _ in range(200):
        send(message("change", "gandi", DEVPATH))
    events, lost = uevents.drain()
    assert lost
    assert 0 < len(events) < 200
    assert uevents.drain() == ([], False)
    send(message("add", "gandi", DEVPATH))
    assert [event.action for event in uevents.drain()[0]] == ["add"]


def test_the_usual_buffer_holds_a_storm() -> None:
    uevents = Uevents()
    for _ in range(2000):
        send(message("add", "gandi", DEVPATH))
    events, lost = uevents.drain()
    assert (len(events), lost) == (2000, False)


def test_what_carries_our_tag_is_a_reason_to_wake_up(tmp_path: Path) -> None:
    wakeup = Wakeup(Host(tmp_path))
    send(message("add", "systemd", DEVPATH))
    assert readable(wakeup, 5)
    assert not wakeup.heard()
    assert not readable(wakeup, 0)
    send(message("add", "systemd", DEVPATH))
    send(message("add", "gandi", DEVPATH))
    assert readable(wakeup, 5)
    assert wakeup.heard()
    assert not wakeup.heard()
    wakeup.close()


def test_more_than_could_be_queued_is_a_reason_as_well(tmp_path: Path) -> None:
    wakeup = Wakeup(Host(tmp_path))
    for _ in range(2000):
        send(message("add", "systemd", DEVPATH))
    assert wakeup.heard()
    assert not wakeup.heard()
    wakeup.close()


def test_what_the_kernel_told_before_is_no_reason(tmp_path: Path) -> None:
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "sys/kernel/uevent_seqnum").write_text("1200\n")
    wakeup = Wakeup(Host(tmp_path))
    send(message("add", "gandi", DEVPATH, SEQNUM="1200"))
    assert readable(wakeup, 5)
    assert not wakeup.heard()
    send(message("add", "gandi", DEVPATH, SEQNUM="1201"))
    assert readable(wakeup, 5)
    assert wakeup.heard()
    wakeup.close()
