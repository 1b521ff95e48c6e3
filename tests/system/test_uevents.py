"""udev's real multicast group: messages as udevd sends them, the kernel's filter, and an overflow."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

import pytest
import pyudev

from agent.host.host import Host
from agent.lib.errors import HostError
from agent.udev.monitor import RECEIVE_BUFFER, Uevent, Uevents
from agent.udev.tag_filter import attach
from tests.system.machine import message, send

if TYPE_CHECKING:
    import socket

pytestmark = pytest.mark.usefixtures("own_network")  # udev multicasts in one network namespace only

DEVPATH = "/devices/virtual/mem/null"


def readable(uevents: Uevents, seconds: float) -> bool:
    return bool(select.select([uevents], [], [], seconds)[0])


def heard(receive_buffer: int = RECEIVE_BUFFER) -> Uevents:
    return Uevents(Host(), receive_buffer=receive_buffer)


def test_what_carries_our_tag_arrives_with_its_role() -> None:
    uevents = heard()
    send(message("remove", "gandi", DEVPATH, SEQNUM="1201", DEVTYPE="disk"))
    assert readable(uevents, 5)
    event = Uevent("remove", "mem", "null", DEVPATH, "disk", "disk", 1201)
    assert uevents.drain() == ([event], False)
    send(message("change", "gandi", DEVPATH, RESIZE="1"))
    assert readable(uevents, 5)
    assert uevents.drain() == (
        [Uevent("change", "mem", "null", DEVPATH, "", "disk", 1, is_resized=True)],
        False,
    )
    assert uevents.drain() == ([], False)


def test_what_libudev_hears_is_what_we_read() -> None:
    uevents, monitor = heard(), pyudev.Monitor.from_netlink(pyudev.Context())
    monitor.filter_by_tag("gandi")
    monitor.start()
    send(message("add", "gandi", DEVPATH, SEQNUM="7"))
    device = monitor.poll(timeout=5)
    assert device is not None
    ours = uevents.drain()[0][0]
    assert (ours.action, ours.subsystem) == (device.action, device.subsystem)
    assert (ours.sysname, ours.devpath) == (device.sys_name, device.device_path)
    assert ours.role == device.properties["GANDI_ROLE"]


def test_what_carries_another_tag_is_nothing_and_with_the_filter_wakes_nobody() -> None:
    uevents = heard()
    send(message("add", "systemd", DEVPATH))
    assert readable(uevents, 5)
    assert uevents.drain() == ([], False)
    uevents.attach_tag_filter()
    uevents.attach_tag_filter()  # as the next daemon does, on the same socket
    for number in range(500):
        send(message("add", "systemd", f"{DEVPATH}{number}"))
    assert not readable(uevents, 0.3)
    send(message("remove", "gandi", DEVPATH))
    assert [event.action for event in uevents.drain()[0]] == ["remove"]


def test_the_filter_outlives_who_put_it_there() -> None:
    """It is on the socket, not on the descriptor, so it stays on that of systemd."""
    systemds = heard()
    with systemds.socket.dup() as copy:
        attach(copy, "gandi")
    send(message("add", "systemd", DEVPATH))
    assert not readable(systemds, 0.3)


def test_where_no_filter_is_taken_that_is_an_error_with_a_name() -> None:
    import socket

    with socket.socket() as closed:
        closed.close()
        with pytest.raises(HostError, match="filter of device events"):
            attach(closed, "gandi")


@pytest.mark.parametrize("strange", [b"", b"libudev\0\0\0:gandi:", b"x" * 40 + b":gandi:"])
def test_a_message_of_another_make_is_a_reason_to_look_at_everything(strange: bytes) -> None:
    uevents = heard()
    send(strange or b"x")
    assert uevents.drain() == ([], bool(strange))


def test_after_an_overflow_it_says_so_once_and_goes_on() -> None:
    uevents = heard(receive_buffer=4096)
    for _ in range(200):
        send(message("change", "gandi", DEVPATH))
    events, lost = uevents.drain()
    assert lost
    assert 0 < len(events) < 200
    assert uevents.drain() == ([], False)
    send(message("add", "gandi", DEVPATH))
    assert [event.action for event in uevents.drain()[0]] == ["add"]


def test_the_usual_buffer_holds_a_storm() -> None:
    uevents = heard()
    for _ in range(2000):
        send(message("add", "gandi", DEVPATH))
    events, lost = uevents.drain()
    assert (len(events), lost) == (2000, False)


def test_what_came_before_there_was_a_reader_is_there() -> None:
    """systemd's socket receives while no daemon runs."""
    systemds: socket.socket = heard().socket
    send(message("add", "gandi", DEVPATH))
    later = Uevents(Host(), systemds)
    assert [event.action for event in later.drain()[0]] == ["add"]
