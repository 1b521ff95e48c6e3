"""Readers of single values of a network configuration, for dialects with a full one."""

from __future__ import annotations

import ipaddress
import re

from agent.config.nics import ANYWHERE
from agent.lib.text import WHITE
from agent.reader.common.fields import IP, address, hostname, network, text
from agent.reader.common.values import Choice, Whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

Interface: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface

#: Bytes; the minimum is that of IPv4 (RFC 791).
MTU = Whole(68, 65535)
VLAN = Whole(1, 4094)
METRIC = Whole(0, 2**32 - 1)
MILLISECONDS = Whole(0, 1_000_000)
#: The kernel's names of bond modes, by their numbers (bonding.rst).
MODES = (
    *("balance-rr", "active-backup", "balance-xor", "broadcast"),
    *("802.3ad", "balance-tlb", "balance-alb"),
)
HASHES = Choice(("layer2", "layer2+3", "layer3+4", "encap2+3", "encap3+4", "vlan+srcmac"))
RATES = ("slow", "fast")
#: Interface names that the kernel accepts (dev_valid_name in net/core/dev.c), without characters that shells
#: and sysctl paths treat specially.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,14}")
#: A destination for which the IP version is that of the gateway.
DEFAULT = "default"
#: Other spellings of all destinations. No route leads to the first two as single hosts.
_ANYWHERE = {"0.0.0.0": "0.0.0.0/0", "::": "::/0", "0/0": "0.0.0.0/0", "::0/0": "::/0"}  # noqa: S104


def interface_name(value: object) -> str:
    """Return an interface name that the kernel accepts."""
    written = text(value)
    if not _NAME.fullmatch(written) or written in ("lo", "all", "default"):
        raise ValueError("not an interface name; write letters, digits, _ - and ., at most 15, not lo")
    return written


def optional_name(value: object) -> str | None:
    """Return an interface name; None for an empty string or null."""
    return interface_name(value) if text(value) else None


def interface(value: object) -> Interface:
    """Return a NIC's address with its prefix, by default that of a single host (/32, /128)."""
    written = text(value).strip(WHITE)
    host, _, _ = written.partition("/")
    address(host)
    try:
        return ipaddress.ip_interface(written)
    except ValueError:
        raise ValueError("not an address with a prefix; write for example 203.0.113.10/24") from None


def destination(value: object) -> str:
    """Return a route's destination, in CIDR notation or as ``default``, which ``toward`` resolves."""
    written = text(value).strip(WHITE).lower()
    if written == DEFAULT:
        return written
    if "/" not in written and written not in _ANYWHERE:
        return str(ipaddress.ip_network(address(written)))
    found = network(_ANYWHERE.get(written, written))
    if found is None:
        raise ValueError("not a destination; write for example 10.0.0.0/8 or default")
    return str(found)


def prefix(mask: str, version: int) -> int:
    """Return the prefix length of a netmask: ``255.255.255.0``, ``ffff:ffff::``, ``/24`` or ``24``.

    Raise ValueError for a mask with gaps, or of the other version.
    """
    written, bits = mask.strip(WHITE).removeprefix("/"), 32 if version == 4 else 128
    if re.fullmatch(r"[0-9]{1,3}", written) and int(written) <= bits:
        return int(written)
    try:
        number = int(ipaddress.IPv4Address(written) if version == 4 else ipaddress.IPv6Address(written))
    except ValueError:
        number = -1
    length = number.bit_count()
    if number != ((1 << length) - 1) << (bits - length):
        raise ValueError(f"not a netmask of IPv{version}; write a prefix in the address instead")
    return length


def bond_mode(value: object) -> str:
    """Return a bond's mode by its name; a number, which the kernel also accepts, is translated."""
    written = str(value) if isinstance(value, int) else text(value)
    return MODES[int(written)] if re.fullmatch("[0-6]", written) else Choice(MODES)(written)


def lacp_rate(value: object) -> str | None:
    """Return the rate of LACP packets; None, for the kernel's default, for an empty string or null."""
    written = str(value) if isinstance(value, int) else text(value)
    if written in ("0", "1"):
        return RATES[int(written)]
    return Choice(RATES)(written) if written else None


def xmit_hash_policy(value: object) -> str | None:
    """Return a bond's transmit hash policy; None, for the kernel's default, for an empty string or null."""
    return HASHES(value) if text(value) else None


def search_domain(value: object) -> str:
    """Return a search domain, with or without ``~`` before it (systemd-resolved)."""
    written = text(value).strip(WHITE)
    name = hostname(written.removeprefix("~"))
    if not name and written not in ("~", "~."):
        raise ValueError("not a domain; write for example example.org")
    return written


def toward(destination: str, gateway: IP | None, version: int = 4) -> str:
    """Return the destination of a route by this gateway in CIDR notation: ``default`` is of the gateway's IP
    version, unless ``version`` is 6.
    """
    if destination != DEFAULT:
        return destination
    return ANYWHERE[gateway.version if gateway is not None and version == 4 else version]
