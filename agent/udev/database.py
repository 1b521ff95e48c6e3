"""udev's private database, read by its files and not by a library: no library reads it below another root.

Images and the tests' trees have a database of their own. sd-device and libudev read that of the running
system alone, so the agent would need this reader beside theirs. Import and first device cost 0.5 ms of CPU;
by sd-device with ctypes 2.4 ms, by pyudev 17.5 ms. The format is not promised, and has stood since 2010:
tests/system/test_udev_database.py holds this reading to libudev's of the same records.
"""

from __future__ import annotations

import os

from agent.host.sysfs import attribute, listed
from agent.lib.text import lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.host.host import Host

_CLASS = "/sys/class/block"
_DATA = "/run/udev/data"
#: In a record while udev is at work on the device: since systemd 255 there is one from the beginning on,
#: before the device has its name.
_AT_WORK = "E:ID_PROCESSING=1"


def block(host: Host, name: str) -> dict[str, str]:
    """The properties of a block device now, by its kernel name: the kernel's (/sys/…/uevent) and udev's.

    Empty when there is no such device. ``USEC_INITIALIZED`` is there once udev has finished with it for the
    first time. Format of a record: systemd's sd-device, device_read_db; a record is replaced whole.
    """
    folder = f"{_CLASS}/{name}"
    number = attribute(host, f"{folder}/dev")
    if not number:
        return {}
    found = _pairs(lines(attribute(host, f"{folder}/uevent")))
    path = os.path.realpath(host.path(folder))
    found |= {"SUBSYSTEM": "block", "DEVPATH": "/" + path.partition("/sys/")[2]}
    if "DEVNAME" in found:
        found["DEVNAME"] = f"/dev/{found['DEVNAME']}"
    record = _record(host, f"b{number}")
    found |= _properties(record)
    links = [f"/dev/{line[2:]}" for line in record if line.startswith("S:")]
    if links:
        found["DEVLINKS"] = " ".join(links)
    found |= _pairs(f"USEC_INITIALIZED={line[2:]}" for line in record if line.startswith("I:"))
    return found


def interface(host: Host, index: int) -> dict[str, str]:
    """What udev has found out about a network interface, by its number (ifindex): the names that it may be
    given among it. Empty before udev has seen it.
    """
    return _properties(_record(host, f"n{index}"))


def finished(host: Host, index: int) -> bool:
    """Whether udev has finished with a network interface: until then its name may still change."""
    record = host.read(f"{_DATA}/n{index}")
    return record is not None and _AT_WORK not in lines(record)


def tagged(host: Host, tag: str) -> Iterator[tuple[str, dict[str, str]]]:
    """What udev has finished with and tagged: the name of each record (b254:16, n3, +cpu:cpu1), and its
    properties. One that has lost the tag since is among them, without the properties that came with it.
    """
    for key in listed(host, f"/run/udev/tags/{tag}"):
        record = _record(host, key)
        if any(line.startswith("I:") for line in record):
            yield key, _properties(record)


def _record(host: Host, key: str) -> list[str]:
    return lines(host.read(f"{_DATA}/{key}") or "")


def _properties(record: Iterable[str]) -> dict[str, str]:
    return _pairs(line[2:] for line in record if line.startswith("E:"))


def _pairs(assignments: Iterable[str]) -> dict[str, str]:
    """The properties; one without a value is none, as for libudev."""
    return {key: value for key, _, value in (one.partition("=") for one in assignments) if value}
