"""Read udev's private database from its files: no library reads it below another root.

Images and the tests' trees have their own databases. sd-device and libudev read only that of the running
system, so the agent would need this module beside them. Import and first device cost 0.5 ms of CPU; with
sd-device by ctypes 2.4 ms, with pyudev 17.5 ms. The format is not guaranteed, but unchanged since 2010:
tests/system/test_udev_database.py compares this module with libudev on the same records.
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
#: In a record while udev processes the device. Since systemd 255 a record exists from the beginning, before
#: the device has its name.
_PROCESSING = "E:ID_PROCESSING=1"


def block(host: Host, name: str) -> dict[str, str]:
    """Return a block device's properties now, by its kernel name: the kernel's (/sys/…/uevent) and udev's.

    Empty if there is no such device. ``USEC_INITIALIZED`` is present once udev has processed the device for
    the first time. Format of a record: systemd's sd-device, device_read_db; udev replaces it as a whole.
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
    """Return udev's properties of a network interface, by its number (ifindex), with the names that it may
    get; empty before udev has processed it.
    """
    return _properties(_record(host, f"n{index}"))


def is_initialized(host: Host, index: int) -> bool:
    """Return whether udev has processed a network interface: until then its name may change."""
    record = host.read(f"{_DATA}/n{index}")
    return record is not None and _PROCESSING not in lines(record)


def tagged(host: Host, tag: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the name (b254:16, n3, +cpu:cpu1) and the properties of each processed device with ``tag``.

    A device that has lost the tag since is included, without the properties that were set with it.
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
    """Return the properties; one without a value is left out, as by libudev."""
    return {key: value for key, _, value in (one.partition("=") for one in assignments) if value}
