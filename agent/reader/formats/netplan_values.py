"""Readers of single values in the form of netplan-yaml(5)."""

from __future__ import annotations

import ipaddress
import re

from agent.lib.records import dataclass
from agent.lib.text import WHITE
from agent.reader.common import fields, values
from agent.reader.common.fields import stripped
from agent.reader.common.values import Choice, Whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from agent.reader.common.network_fields import Interface

    Read = TypeVar("Read")

TABLE = Whole(1, 2**32 - 1)
#: The table of a route that names none.
MAIN_TABLE = 254
MARK = Whole(1, 2**32 - 1)
_ROUTE_TYPES = Choice(("unicast", "local", "blackhole", "unreachable", "prohibit", "throw"))
_OTHER_ROUTE_TYPES = ("anycast", "broadcast", "multicast", "nat", "xresolve")
_MAC_WORDS = ("permanent", "preserve", "random", "stable", "stable-ssid")
_VERSIONS = {"ipv4": 4, "ipv6": 6}
#: Milliseconds.
_UNITS = {"ms": 1, "s": 1000, "sec": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000}
_ADDRESS_OPTIONS = {"label", "lifetime"}
#: The bit of a MAC address of a group (IEEE 802).
_GROUP = 1
#: Maximum characters of an address's label (IFNAMSIZ without the NUL).
_LABEL = 15
_NOT_AN_ADDRESS = "not an address with a prefix; write for example 203.0.113.10/24"


def given(reader: Callable[[object], Read | None]) -> Callable[[object], Read]:
    """Return a reader that also refuses "" and null: an item with that key would mean more without it."""

    def read(value: object) -> Read:
        found = reader(value)
        if found is None or found == "":
            raise ValueError("empty; write a value")
        return found

    return read


@dataclass(frozen=True, slots=True)
class Time:
    """A reader for a time: a whole number of the unit (in milliseconds), or with another unit after it.
    Return it in the unit; None for "" or null.
    """

    unit: int
    low: int
    high: int

    def __call__(self, value: object) -> int | None:
        if value is None or value == "":
            return None
        is_number = isinstance(value, int) and not isinstance(value, bool)
        written = str(value) if is_number or isinstance(value, float) else stripped(value)
        found = re.fullmatch(r"([0-9]{1,10}) ?([a-z]*)", written)
        unit = _UNITS.get(found[2]) if found and found[2] else self.unit
        time, rest = divmod(int(found[1]) * unit, self.unit) if found and unit else (0, 1)
        if rest or not self.low <= time <= self.high:
            name = "ms" if self.unit == 1 else "s"
            raise ValueError(f"not a time in range; write a number of {name} from {self.low} to {self.high}")
        return time


@dataclass(frozen=True, slots=True)
class Address:
    """An item of ``addresses``; ``label`` as it is written."""

    interface: Interface
    label: Any = None
    lifetime: str | None = None


def address(value: object) -> Address:
    """Return an address with its prefix, and its options if it is the key of a dictionary of them."""
    options: Any = {}
    if isinstance(value, dict):
        if len(value) != 1:
            raise ValueError("not one address; write for example {203.0.113.10/24: {lifetime: 0}}")
        value, options = next(iter(value.items()))
        options = {} if options is None else options
    if not isinstance(options, dict) or set(options) - _ADDRESS_OPTIONS:
        raise ValueError("an address with unknown options; write label or lifetime")
    lifetime = options.get("lifetime")
    return Address(
        _interface(value),
        options.get("label"),
        None if lifetime is None else Choice(("forever", "0"))(values.word(lifetime)),
    )


def _interface(value: object) -> Interface:
    written = stripped(value)
    host, slash, _ = written.partition("/")
    try:
        found = ipaddress.ip_interface(written)
    except ValueError:
        raise ValueError(_NOT_AN_ADDRESS) from None
    if not slash:
        raise ValueError(_NOT_AN_ADDRESS)
    if not found.is_loopback:
        fields.address(host)
    return found


def label(value: object) -> str:
    """Return the label of an address."""
    written = values.line(value)
    if not written or len(written) > _LABEL or " " in written:
        raise ValueError(f"not a label of an address; write at most {_LABEL} characters without blanks")
    return written


def host(value: object) -> fields.IP:
    """Return the address of a host, also if it is written with a prefix."""
    written, slash, _ = stripped(value).partition("/")
    if slash:
        _interface(value)
    return fields.address(written)


def host4(value: object) -> fields.IP | None:
    """Return a host's IPv4 address; None for an empty string or null."""
    return _of_version(value, 4)


def host6(value: object) -> fields.IP | None:
    """Return a host's IPv6 address; None for an empty string or null."""
    return _of_version(value, 6)


def _of_version(value: object, version: int) -> fields.IP | None:
    found = host(value) if stripped(value) else None
    if found is not None and found.version != version:
        raise ValueError(f"not an IPv{version} address; write one")
    return found


def selector(value: object) -> str:
    """Return the network of a rule, in CIDR notation, also if it is written as one address."""
    try:
        return str(ipaddress.ip_network(stripped(value), strict=False))
    except ValueError:
        raise ValueError("neither a network nor an address; write for example 203.0.113.0/24") from None


def token(value: object) -> str | None:
    """Return the host's bits of an IPv6 address (``::2``); None for an empty string or null."""
    if not stripped(value):
        return None
    try:
        found = ipaddress.IPv6Address(stripped(value))
    except ValueError:
        found = None
    if found is None or found.is_unspecified or found.scope_id or int(found) >> 64:
        raise ValueError("not the host's bits of an IPv6 address; write for example ::2")
    return str(found)


def route_type(value: object) -> str:
    """Return the type of a route, by ip-route(8), of those that the model has."""
    if stripped(value).lower() in _OTHER_ROUTE_TYPES:
        raise ValueError(f"a type that is not supported; write one of: {', '.join(_ROUTE_TYPES.words)}")
    return _ROUTE_TYPES(value)


def own_mac(value: object) -> str | None:
    """Return the MAC address to set; None for an empty string or null."""
    if stripped(value).lower() in _MAC_WORDS:
        raise ValueError("a word in place of a MAC address, which is not supported; write the address")
    found = fields.mac(value)
    if found and (int(found[:2], 16) & _GROUP or not found.strip("0:")):
        raise ValueError("the MAC address of a group, or of nothing, which no NIC can have; write another")
    return found


def glob(value: object) -> str:
    """Return a pattern of names (fnmatch(3))."""
    written = values.line(value)
    if not written or written.startswith("!") or " " in written:
        raise ValueError("not a pattern; write for example en* (neither blanks nor ! before it)")
    return written


def drivers(value: object) -> tuple[str | None, ...]:
    """Return one or several patterns of drivers' names, with None for each invalid one. Raise ValueError if
    none is valid: any driver would match.
    """

    def read(one: object) -> str | None:
        try:
            return glob(one)
        except ValueError:
            return None

    found = tuple(read(one) for one in (value if isinstance(value, list) else [value]))
    if not any(found):
        raise ValueError("no driver's name; write for example virtio_net")
    return found


def ip_version(value: object) -> int:
    """Return 4 for ``ipv4``, 6 for ``ipv6``."""
    return _VERSIONS[Choice(tuple(_VERSIONS))(value)]


def accept_ra(value: object) -> bool:
    """Return a boolean, also of the kernel's numbers for it."""
    written = str(value).strip(WHITE)
    return written != "0" if written in ("0", "1", "2") else values.boolean(value)


def use_domains(value: object) -> str:
    """Return ``yes``, ``no`` or ``route``."""
    if isinstance(value, str) and value.strip(WHITE).lower() == "route":
        return "route"
    return "yes" if values.boolean(value) else "no"
