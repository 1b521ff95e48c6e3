"""The keys of network-config version 2, with the reason for each that is not handled.

Format: netplan-yaml(5).
"""

from __future__ import annotations

from agent.lib.records import dataclass
from agent.reader.common import fields, network_fields, values
from agent.reader.common.lenient import ITSELF, named, part, parts, unused, value
from agent.reader.common.values import Choice, Whole
from agent.reader.formats import netplan_values
from agent.reader.formats.netplan_values import Address, Time, given

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_RENDERER = "CONFIG_RENDERER decides which network manager is configured"
#: A time in milliseconds.
_MS = Time(1, 0, 1_000_000)


@dataclass(frozen=True, slots=True)
class Match:
    """``match``. What is empty would match any NIC, and is refused."""

    macaddress: str | None = value(given(fields.mac), None, exact=True)
    name: str | None = value(netplan_values.glob, None, exact=True)
    driver: tuple[str | None, ...] = value(netplan_values.drivers, (), exact=True)


@dataclass(frozen=True, slots=True)
class Nameservers:
    """``nameservers``."""

    addresses: list[fields.IP | None] | None = parts(fields.resolver, split=True)
    search: list[str | None] | None = parts(network_fields.search_domain, split=True)


@dataclass(frozen=True, slots=True)
class PlanRoute:
    """``routes[]``."""

    to: str = value(given(network_fields.destination))
    via: fields.IP | None = value(netplan_values.host, None, exact=True)
    from_: fields.IP | None = value(netplan_values.host, None, exact=True)
    table: int | None = value(given(netplan_values.TABLE), None, exact=True)
    type: str = value(netplan_values.route_type, "unicast", exact=True)
    scope: str | None = value(Choice(("global", "link", "host")), None, exact=True)
    metric: int | None = value(network_fields.METRIC, None, exact=True)
    on_link: bool = value(values.boolean, default=False, exact=True)
    mtu: int | None = value(network_fields.MTU, None)
    congestion_window: int | None = value(Whole(1, 2**31), None)
    advertised_receive_window: int | None = value(Whole(1, 2**31), None)


@dataclass(frozen=True, slots=True)
class Policy:
    """``routing-policy[]``."""

    table: int = value(given(netplan_values.TABLE), netplan_values.MAIN_TABLE, exact=True)
    from_: str | None = value(netplan_values.selector, None, exact=True)
    to: str | None = value(netplan_values.selector, None, exact=True)
    priority: int | None = value(Whole(0, 2**32 - 1), None, exact=True)
    mark: int | None = value(given(netplan_values.MARK), None, exact=True)
    type_of_service: int | None = value(given(Whole(0, 255)), None, exact=True)


@dataclass(frozen=True, slots=True)
class Overrides:
    """``dhcp4-overrides`` and ``dhcp6-overrides``."""

    use_dns: bool | None = value(values.boolean, None)
    use_domains: str | None = value(netplan_values.use_domains, None)
    use_hostname: bool | None = value(values.boolean, None)
    use_mtu: bool | None = value(values.boolean, None)
    use_ntp: bool | None = value(values.boolean, None)
    use_routes: bool | None = value(values.boolean, None)
    send_hostname: bool | None = value(values.boolean, None)
    hostname: str = value(fields.hostname, "")
    route_metric: int | None = value(network_fields.METRIC, None)


@dataclass(frozen=True, slots=True)
class RaOverrides:
    """``ra-overrides``."""

    use_dns: bool = value(values.boolean, default=True)
    table: str = value(values.word, "")


@dataclass(frozen=True, slots=True)
class BondParameters:
    """``parameters`` of a bond."""

    mode: str = value(network_fields.bond_mode, "balance-rr", exact=True)
    mii_monitor_interval: int | None = value(_MS, None)
    transmit_hash_policy: str | None = value(network_fields.xmit_hash_policy, None)
    lacp_rate: str | None = value(network_fields.lacp_rate, None)
    primary: str = value(values.line, "")
    min_links: int | None = value(Whole(0, 65535), None)
    ad_select: str | None = value(Choice(("stable", "bandwidth", "count")), None)
    all_members_active: bool | None = value(values.boolean, None)
    all_slaves_active: bool | None = value(values.boolean, None)
    arp_interval: int | None = value(_MS, None)
    arp_ip_targets: list[fields.IP | None] | None = parts(netplan_values.host4, split=True)
    arp_validate: str | None = value(Choice(("none", "active", "backup", "all")), None)
    arp_all_targets: str | None = value(Choice(("any", "all")), None)
    up_delay: int | None = value(_MS, None)
    down_delay: int | None = value(_MS, None)
    fail_over_mac_policy: str | None = value(Choice(("none", "active", "follow")), None)
    gratuitous_arp: int | None = value(Whole(0, 255), None)
    gratuitious_arp: int | None = value(Whole(0, 255), None)
    packets_per_member: int | None = value(Whole(0, 65535), None)
    packets_per_slave: int | None = value(Whole(0, 65535), None)
    primary_reselect_policy: str | None = value(Choice(("always", "better", "failure")), None)
    resend_igmp: int | None = value(Whole(0, 255), None)
    learn_packet_interval: int | None = value(Time(1000, 1, 2**31 - 1), None)


@dataclass(frozen=True, slots=True)
class BridgeParameters:
    """``parameters`` of a bridge. The limits are those of the kernel (net/bridge/br_stp.c)."""

    stp: bool | None = value(values.boolean, None)
    ageing_time: int | None = value(Time(1000, 0, 1_000_000), None)
    aging_time: int | None = value(Time(1000, 0, 1_000_000), None)
    priority: int | None = value(Whole(0, 65535), None)
    forward_delay: int | None = value(Time(1000, 0, 30), None)
    hello_time: int | None = value(Time(1000, 1, 10), None)
    max_age: int | None = value(Time(1000, 6, 40), None)
    port_priority: dict[str, int | None] | None = named(Whole(0, 63))
    path_cost: dict[str, int | None] | None = named(Whole(1, 65535))


@dataclass(frozen=True, slots=True)
class Device:
    """The keys of an entry of any section."""

    macaddress: str | None = value(netplan_values.own_mac, None)
    addresses: list[Address | None] | None = parts(netplan_values.address, split=True)
    gateway4: fields.IP | None = value(netplan_values.host4, None)
    gateway6: fields.IP | None = value(netplan_values.host6, None)
    routes: list[PlanRoute | None] | None = parts(PlanRoute)
    routing_policy: list[Policy | None] | None = parts(Policy)
    nameservers: Nameservers | None = part(Nameservers)
    mtu: int | None = value(network_fields.MTU, None)
    dhcp4: bool = value(values.boolean, default=False)
    dhcp6: bool = value(values.boolean, default=False)
    dhcp4_overrides: Overrides | None = part(Overrides)
    dhcp6_overrides: Overrides | None = part(Overrides)
    dhcp_identifier: str | None = value(Choice(("mac", "duid")), None)
    accept_ra: bool = value(netplan_values.accept_ra, default=True)
    ra_overrides: RaOverrides | None = part(RaOverrides)
    link_local: list[int | None] | None = parts(netplan_values.ip_version, split=True)
    ipv6_mtu: int | None = value(Whole(1280, 65535), None)
    ipv6_privacy: bool | None = value(values.boolean, None)
    ipv6_address_generation: str | None = value(Choice(("eui64", "stable-privacy")), None)
    ipv6_address_token: str | None = value(netplan_values.token, None)
    critical: bool = value(values.boolean, default=False)
    ignore_carrier: bool = value(values.boolean, default=False)
    optional: bool = value(values.boolean, default=False)
    activation_mode: str | None = value(Choice(("manual", "off")), None)


@dataclass(frozen=True, slots=True)
class Ethernet(Device):
    """An entry of ``ethernets``."""

    match: Match | None = part(Match, exact=True)
    set_name: str | None = value(network_fields.optional_name, None)
    wakeonlan: bool | None = value(values.boolean, None)


@dataclass(frozen=True, slots=True)
class BondDevice(Device):
    """An entry of ``bonds``."""

    interfaces: list[str | None] | None = parts(values.line, split=True)
    parameters: BondParameters | None = part(BondParameters, exact=True)


@dataclass(frozen=True, slots=True)
class BridgeDevice(Device):
    """An entry of ``bridges``."""

    interfaces: list[str | None] | None = parts(values.line, split=True)
    parameters: BridgeParameters | None = part(BridgeParameters)


@dataclass(frozen=True, slots=True)
class VlanDevice(Device):
    """An entry of ``vlans``."""

    id: int | None = value(network_fields.VLAN, None)
    link: str = value(values.line, "")


@dataclass(frozen=True, slots=True)
class Plan:
    """The document."""

    version: Any = value(values.word, "")
    ethernets: dict[str, Ethernet | None] | None = named(Ethernet)
    bonds: dict[str, BondDevice | None] | None = named(BondDevice)
    bridges: dict[str, BridgeDevice | None] | None = named(BridgeDevice)
    vlans: dict[str, VlanDevice | None] | None = named(VlanDevice)
    vrfs: dict[str, object] | None = named(values.raw)
    tunnels: dict[str, object] | None = named(values.raw)
    wifis: dict[str, object] | None = named(values.raw)
    modems: dict[str, object] | None = named(values.raw)
    dummy_devices: dict[str, object] | None = named(values.raw)
    virtual_ethernets: dict[str, object] | None = named(values.raw)
    nm_devices: dict[str, object] | None = named(values.raw)
    xfrm_interfaces: dict[str, object] | None = named(values.raw)


_HARMLESS = {
    "renderer": _RENDERER,
    "optional_addresses": "the boot waits for a NIC, not for single addresses of it",
}
_REFUSED = {"openvswitch": "Open vSwitch is not configured"}
_BRIDGE_PORT = "an option of a bridge's port"
_UNSUPPORTED = {
    "neigh_suppress": _BRIDGE_PORT,
    "hairpin": _BRIDGE_PORT,
    "port_mac_learning": _BRIDGE_PORT,
    "networkmanager": "settings of one network manager",
}
_OFFLOAD = "offloading is left to the driver"
_SR_IOV = "SR-IOV is not configured"
_CREATED = "the NIC is created, and has no hardware"

unused(
    Ethernet,
    harmless=_HARMLESS,
    refused=_REFUSED
    | {
        "auth": "IEEE 802.1X is not configured",
        "link": _SR_IOV,
        "virtual_function_count": _SR_IOV,
        "embedded_switch_mode": _SR_IOV,
        "delay_virtual_functions_rebind": _SR_IOV,
        "infiniband_mode": "InfiniBand is not configured",
    },
    unsupported=_UNSUPPORTED
    | {
        "emit_lldp": "LLDP packets are not sent",
        "receive_checksum_offload": _OFFLOAD,
        "transmit_checksum_offload": _OFFLOAD,
        "tcp_segmentation_offload": _OFFLOAD,
        "tcp6_segmentation_offload": _OFFLOAD,
        "generic_segmentation_offload": _OFFLOAD,
        "generic_receive_offload": _OFFLOAD,
        "large_receive_offload": _OFFLOAD,
    },
    unknown=ITSELF,
)
for _created in (BondDevice, BridgeDevice, VlanDevice):
    unused(
        _created,
        harmless=_HARMLESS,
        refused=_REFUSED,
        unsupported=_UNSUPPORTED | {"match": _CREATED, "set_name": _CREATED, "wakeonlan": _CREATED},
        unknown=ITSELF,
    )
unused(Match)
unused(PlanRoute, unsupported={"advertised_mss": "the segment size follows the MTU"})
unused(Policy)
for _options in (Nameservers, Overrides, BondParameters, BridgeParameters):
    unused(RaOverrides, unsupported={"use_domains": "domains of router advertisements"}, unknown=ITSELF)
unused(Plan, harmless={"renderer": _RENDERER}, refused=_REFUSED, unknown=ITSELF)
