"""Waiting for a medium by kernel uevents, of which there may be more than the socket's buffer holds."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from agent.host.host import Host
from agent.sources.arrivals import Arrivals

#: linux/netlink.h: NETLINK_KOBJECT_UEVENT, and the kernel's multicast group.
_PROTOCOL, _KERNEL = 15, 1


def _is_quiet(arrivals: Arrivals) -> bool:
    began = time.monotonic()
    return arrivals.wait(began + 0.3) and time.monotonic() - began > 0.2


def test_a_storm_that_overflows_the_socket_is_a_reason_to_look(tmp_path: Path) -> None:
    (tmp_path / "run/udev").mkdir(parents=True)
    (tmp_path / "run/udev/queue").touch()
    with Arrivals(Host(tmp_path)) as arrivals:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _PROTOCOL) as kernel:
            for _ in range(2000):
                kernel.sendto(b"add@/devices/virtual/mem/null\0" + b"X=" + b"x" * 1000 + b"\0", (0, _KERNEL))
        assert arrivals.wait(time.monotonic() + 5)
        # Other devices send events, too; an overflow reported for ever would leave no quiet moment.
        assert any(_is_quiet(arrivals) for _ in range(50))
