"""The part of the model that describes NICs: what each dialect's network document is parsed into.

Records of what is rare are parts that are None by default, so that the document of most machines is small.
"""

from __future__ import annotations

from enum import StrEnum

from agent.lib.canonical_json import record
from agent.lib.records import asdict, dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@dataclass(frozen=True, slots=True)
class RouteOptions:
    """The rare options of a route, by ip-route(8). ``source`` is the preferred source address (src);
    ``scope`` is global, link or host; ``mtu`` is in bytes, the windows are in segments.
    """

    source: str | None = None
    scope: str | None = None
    mtu: int | None = None
    initcwnd: int | None = None
    initrwnd: int | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A route of a NIC; ``on_link`` if the gateway is outside the networks of its addresses. ``table`` is
    the number of a routing table, None for the main one. ``type`` is that of ip-route(8): one that is not
    unicast or local leads nowhere, and has no gateway.
    """

    destination: str
    gateway: str | None = None
    on_link: bool = False
    metric: int | None = None
    table: int | None = None
    type: str = "unicast"
    options: RouteOptions | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of ip-rule(8): packets that match all of its conditions use the routing table."""

    table: int
    source: str | None = None
    destination: str | None = None
    priority: int | None = None
    mark: int | None = None
    tos: int | None = None


#: The destination of a default route, by the IP version.
ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}


class Kind(StrEnum):
    """The kind of a NIC."""

    PHYSICAL = "physical"
    BOND = "bond"
    VLAN = "vlan"
    BRIDGE = "bridge"


@dataclass(frozen=True, slots=True)
class BondOptions:
    """The rare options of a bond, by the kernel's names and values (bonding.rst); times in milliseconds."""

    min_links: int | None = None
    ad_select: str | None = None
    all_slaves_active: bool | None = None
    arp_interval: int | None = None
    arp_ip_target: tuple[str, ...] = ()
    arp_validate: str | None = None
    arp_all_targets: str | None = None
    updelay: int | None = None
    downdelay: int | None = None
    fail_over_mac: str | None = None
    num_grat_arp: int | None = None
    packets_per_slave: int | None = None
    primary_reselect: str | None = None
    resend_igmp: int | None = None
    #: In seconds, as the kernel has it.
    lp_interval: int | None = None


@dataclass(frozen=True, slots=True)
class Bond:
    """The options of a bond, by the kernel's names (bonding.rst). ``miimon`` is in milliseconds, None for
    the agent's default, 0 for no checks.
    """

    mode: str = "active-backup"
    miimon: int | None = None
    xmit_hash_policy: str | None = None
    lacp_rate: str | None = None
    primary: int | None = None
    options: BondOptions | None = None


@dataclass(frozen=True, slots=True)
class Bridge:
    """The options of a bridge; times in seconds. ``port_priority`` and ``path_cost`` are by the numbers of
    its ports. ``stp`` is None for the agent's default.
    """

    stp: bool | None = None
    ageing_time: int | None = None
    priority: int | None = None
    forward_delay: int | None = None
    hello_time: int | None = None
    max_age: int | None = None
    port_priority: tuple[tuple[int, int], ...] = ()
    path_cost: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """Which interfaces a physical NIC may be paired with, beside its ``mac``: all of these conditions hold.
    ``name`` and ``drivers`` are globs; one of the drivers fits.
    """

    name: str | None = None
    drivers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dhcp:
    """The options of DHCP for one IP version. None for the manager's default. ``use_domains`` is "yes", "no"
    or "route": for looking names up, not for completing them.
    """

    use_dns: bool | None = None
    use_domains: str | None = None
    use_hostname: bool | None = None
    use_mtu: bool | None = None
    use_ntp: bool | None = None
    use_routes: bool | None = None
    send_hostname: bool | None = None
    hostname: str | None = None
    route_metric: int | None = None
    #: The client's identifier: "mac" or "duid", None for the manager's default.
    identifier: str | None = None


@dataclass(frozen=True, slots=True)
class AddressOptions:
    """The options of the NIC's address ``address`` (with its prefix). ``lifetime`` is its preferred one,
    "forever" or "0".
    """

    address: str
    label: str | None = None
    lifetime: str | None = None


@dataclass(frozen=True, slots=True)
class NicOptions:
    """The rare options of a NIC. None, or an empty tuple, for the manager's default."""

    #: The name and the MAC address to give to a physical NIC.
    set_name: str | None = None
    set_mac: str | None = None
    dhcp4: Dhcp | None = None
    dhcp6: Dhcp | None = None
    addresses: tuple[AddressOptions, ...] = ()
    #: The IP versions (4, 6) that get a link-local address; None for the default.
    link_local: tuple[int, ...] | None = None
    ipv6_mtu: int | None = None
    ipv6_privacy: bool | None = None
    #: "eui64" or "stable-privacy"; or a token (an address with the host's bits), not both.
    ipv6_address_generation: str | None = None
    ipv6_address_token: str | None = None
    wake_on_lan: bool | None = None
    #: Its addresses stay when the network manager stops.
    critical: bool = False
    ignore_carrier: bool = False
    #: "manual": the administrator brings it up; "off": it is never brought up.
    activation_mode: str | None = None


@dataclass(frozen=True, slots=True)
class Nic:
    """One NIC. ``number`` is unique, defines the order, and is how other NICs refer to it.

    A physical NIC is paired with an interface of the machine that has its ``mac`` (lower case), its ``name``
    and what ``match`` requires, as far as these are given; with none of them by its number. ``loopback``: it
    is the machine's lo, which is paired with nothing else. A NIC of another ``kind`` is created as ``name``
    (required), with ``mac`` if given. ``ports`` are the numbers of the NICs in a bond or bridge; a VLAN has
    ``parent``, the number of the NIC below, and its id in ``vlan``. ``addresses`` are ``address/prefix``.
    ``accept_ra`` is the kernel's setting for router advertisements; ``ra_address``, ``ra_dns`` and
    ``ra_gateway`` set what they may configure. The boot does not wait for an ``optional`` NIC.
    """

    number: int
    mac: str | None = None
    name: str | None = None
    kind: Kind = Kind.PHYSICAL
    ports: tuple[int, ...] = ()
    parent: int | None = None
    vlan: int | None = None
    bond: Bond | None = None
    bridge: Bridge | None = None
    match: Match | None = None
    loopback: bool = False
    addresses: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()
    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    mtu: int | None = None
    optional: bool = False
    dhcp4: bool = False
    dhcp6: bool = False
    accept_ra: bool = True
    ra_address: bool = True
    ra_dns: bool = True
    ra_gateway: bool = True
    options: NicOptions | None = None


#: The fields of a NIC and of a route that version 0.1 had not.
_ADDED = {"bridge": None, "match": None, "loopback": False, "rules": (), "options": None}
_ADDED_TO_ROUTE = {"table": None, "type": "unicast", "options": None}


def to_dict(nic: Nic) -> dict[str, Any]:
    """Return the NIC as a document of JSON's types, for ``from_dict``. What version 0.1 had not is left out
    if it is the default: an older document is the same one after an upgrade.
    """
    found = _without(asdict(nic), _ADDED)
    found["routes"] = [_without(route, _ADDED_TO_ROUTE) for route in found["routes"]]
    if found["bond"]:
        found["bond"] = _without(found["bond"], {"options": None})
    return found


def _without(facts: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    return {key: of for key, of in facts.items() if key not in defaults or of != defaults[key]}


def from_dict(nic: dict[str, Any]) -> Nic:
    """Return the NIC of a stored document, as ``model.from_dict``."""
    return record(Nic, nic, may_lack=_ADDED.keys())
