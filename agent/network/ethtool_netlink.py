"""Facts about a NIC that sysfs lacks, requested from the kernel over netlink: its queue counts, and its
permanent address.

No process is started, and the NIC is named by its ifindex, which a rename does not change. Message formats:
netlink(7), rtnetlink(7), the kernel's networking/ethtool-netlink.rst.
"""

from __future__ import annotations

import os
import socket
import struct

from agent.lib.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.host.host import Host

#: Seconds to wait for the kernel's answer.
_TIMEOUT = 5.0
_ROUTE, _GENERIC = 0, 16
_HEADER, _GENERIC_HEADER, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBxx"), struct.Struct("=HH")
_REQUEST, _ACK = 1, 4
_ERROR, _DONE = 2, 3
#: The controller of generic netlink, which gives the number of a family (linux/genetlink.h).
_CONTROLLER, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2
#: linux/ethtool_netlink.h
_CHANNELS_GET, _CHANNELS_SET = 17, 18
_CHANNELS_HEADER, _DEVICE_INDEX, _COMBINED_MAX, _COMBINED_COUNT = 1, 1, 5, 9
_NESTED = 1 << 15
#: linux/rtnetlink.h, linux/if_link.h; struct ifinfomsg is 16 bytes with the ifindex at 4.
_GET_LINK, _IFINFO, _PERMANENT_ADDRESS = 18, struct.Struct("=BxHiII"), 54


def queues(index: int) -> tuple[int, int]:
    """Return the number of queue pairs of the NIC with that ifindex, and its maximum (``ethtool -l``).

    Raise HostError with the kernel's reason, also for a NIC that does not support this.
    """
    channels = _ethtool(_CHANNELS_GET, _device(index))
    return tuple(_number(channels.get(key, b"")) for key in (_COMBINED_COUNT, _COMBINED_MAX))  # type: ignore[return-value]  # two


def set_queues(host: Host, index: int, count: int) -> None:
    """Set the number of queue pairs (``ethtool -L … combined``). Raise HostError as ``queues`` does."""
    if host.allows(f"ethtool -L, NIC number {index}, combined {count}"):
        _ethtool(_CHANNELS_SET, _device(index) + _attribute(_COMBINED_COUNT, struct.pack("=I", count)))


def permanent_address(index: int) -> str:
    """Return the NIC's permanent MAC in lower case; "" if the kernel has none."""
    try:
        answers = _ask(_ROUTE, _GET_LINK, _IFINFO.pack(0, 0, index, 0, 0))
    except HostError:
        return ""
    address = _attributes(answers[0][_IFINFO.size :]).get(_PERMANENT_ADDRESS, b"") if answers else b""
    return address.hex(":") if any(address) else ""


def _ethtool(command: int, payload: bytes) -> dict[int, bytes]:
    name = _attribute(_FAMILY_NAME, b"ethtool\0")
    family = _ask(_GENERIC, _CONTROLLER, _GENERIC_HEADER.pack(_GET_FAMILY, 1) + name)
    number = struct.unpack("=H", _attributes(family[0][_GENERIC_HEADER.size :])[_FAMILY_ID])[0]
    answers = _ask(_GENERIC, number, _GENERIC_HEADER.pack(command, 1) + payload)
    return _attributes(answers[0][_GENERIC_HEADER.size :]) if answers else {}


def _device(index: int) -> bytes:
    return _attribute(_CHANNELS_HEADER | _NESTED, _attribute(_DEVICE_INDEX, struct.pack("=I", index)))


def _attribute(kind: int, value: bytes) -> bytes:
    head = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind)
    return head + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    values, offset = dict[int, bytes](), 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            break
        values[kind & ~_NESTED] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += length + -length % 4
    return values


def _number(value: bytes) -> int:
    return int(struct.unpack("=I", value)[0]) if value else 0


def _ask(protocol: int, kind: int, payload: bytes) -> list[bytes]:
    """Send a request; return the payloads received before its acknowledgement. Raise HostError."""
    request = _HEADER.pack(_HEADER.size + len(payload), kind, _REQUEST | _ACK, 1, 0) + payload
    answers = list[bytes]()
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as kernel:
            kernel.settimeout(_TIMEOUT)
            kernel.send(request)
            while True:
                for answer, body in _messages(kernel.recv(1 << 16)):
                    if answer in (_ERROR, _DONE):
                        (error,) = struct.unpack_from("=i", body)
                        if error:
                            raise OSError(-error, os.strerror(-error))
                        return answers
                    answers.append(body)
    except OSError as error:
        raise HostError(f"netlink request about a network interface: {error.strerror or error}") from error


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, offset)
        yield kind, data[offset + _HEADER.size : offset + length]
        offset += max(_HEADER.size, length + -length % 4)
