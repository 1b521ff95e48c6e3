"""systemd-networkd's directives for the rare values of a NIC, by section. Pure.

Of systemd.network(5) and systemd.netdev(5) as of systemd 252, unless a comment names a later version.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.config.nics import NicOptions
    from agent.network.interfaces import Link
    from agent.network.networkd import Section

    #: The model's field, the directive, and the unit of a number; and netplan's key.
    Directive = tuple[str, str, str]
    Names = tuple[str, str, str, str]

BOND: tuple[Names, ...] = (
    ("min_links", "MinLinks", "", "min-links"),
    ("ad_select", "AdSelect", "", "ad-select"),
    # Later versions of netplan prefer all-members-active, and read this one too.
    ("all_slaves_active", "AllSlavesActive", "", "all-slaves-active"),
    ("arp_interval", "ARPIntervalSec", "ms", "arp-interval"),
    ("arp_ip_target", "ARPIPTargets", "", "arp-ip-targets"),
    ("arp_validate", "ARPValidate", "", "arp-validate"),
    ("arp_all_targets", "ARPAllTargets", "", "arp-all-targets"),
    ("updelay", "UpDelaySec", "ms", "up-delay"),
    ("downdelay", "DownDelaySec", "ms", "down-delay"),
    ("fail_over_mac", "FailOverMACPolicy", "", "fail-over-mac-policy"),
    ("num_grat_arp", "GratuitousARP", "", "gratuitous-arp"),
    ("packets_per_slave", "PacketsPerSlave", "", "packets-per-slave"),
    ("primary_reselect", "PrimaryReselectPolicy", "", "primary-reselect-policy"),
    ("resend_igmp", "ResendIGMP", "", "resend-igmp"),
    ("lp_interval", "LearnPacketIntervalSec", "s", "learn-packet-interval"),
)
BRIDGE: tuple[Names, ...] = (
    ("stp", "STP", "", "stp"),
    ("ageing_time", "AgeingTimeSec", "s", "ageing-time"),
    ("priority", "Priority", "", "priority"),
    ("forward_delay", "ForwardDelaySec", "s", "forward-delay"),
    ("hello_time", "HelloTimeSec", "s", "hello-time"),
    ("max_age", "MaxAgeSec", "s", "max-age"),
)
_DHCP: tuple[Directive, ...] = (
    ("use_dns", "UseDNS", ""),
    ("use_domains", "UseDomains", ""),
    ("use_hostname", "UseHostname", ""),
    ("use_ntp", "UseNTP", ""),
    # In [DHCPv6] since systemd 255; before, those of [DHCPv4] are for both.
    ("send_hostname", "SendHostname", ""),
    ("hostname", "Hostname", ""),
)
_DHCPV4: tuple[Directive, ...] = (
    *_DHCP,
    ("use_mtu", "UseMTU", ""),
    ("use_routes", "UseRoutes", ""),
    ("identifier", "ClientIdentifier", ""),
)
_NETWORK: tuple[Directive, ...] = (
    ("ipv6_mtu", "IPv6MTUBytes", ""),
    ("ipv6_privacy", "IPv6PrivacyExtensions", ""),
    ("ipv6_address_generation", "IPv6LinkLocalAddressGenerationMode", ""),
)
_OF_ADDRESS = (("address", "Address", ""), ("label", "Label", ""), ("lifetime", "PreferredLifetime", ""))
_LINK_LOCAL = {(): "no", (4,): "ipv4", (6,): "ipv6", (4, 6): "yes"}
_ACTIVATION = {"manual": "manual", "off": "always-down"}
#: The NIC's identifier in addresses from router advertisements.
_TOKENS = {"eui64": "eui64", "stable-privacy": "prefixstable"}
_DHCPV6_LACKS = {"dhcp6.use_mtu": "an MTU", "dhcp6.use_routes": "routes"}


def unsupported(link: Link) -> dict[str, str]:
    """Return the values without a directive, by their paths, and why."""
    from agent.network import limits

    return {
        path: f"DHCP for IPv6 does not offer {_DHCPV6_LACKS[key]}: they come with router advertisements"
        for key, path, _value in limits.rare(link.nic)
        if key in _DHCPV6_LACKS
    }


def device(link: Link, sections: Iterable[Section]) -> list[Section]:
    """Return the sections of a .netdev file with the directives of the NIC's rare values."""
    nic = link.nic
    bond = _lines(BOND, nic.bond.options) if nic.bond else []
    return _added(sections, {"Bond": bond, "Bridge": _lines(BRIDGE, nic.bridge)})


def network(link: Link, sections: Iterable[Section]) -> list[Section]:
    """Return the sections of a .network file with the directives of the NIC's rare values."""
    options, master = link.nic.options, link.master
    more = {"Link": _link(options)} if options else {}
    if master:
        return _added(sections, more | {"Bridge": _port(link, master)})
    if not options:
        return list(sections)
    more |= dhcp(options) | {"Network": _network(options), "IPv6AcceptRA": _advertised(options)}
    own = [_lines(_OF_ADDRESS, one) for one in options.addresses]
    separate = {lines[0] for lines in own}
    found: list[Section] = []
    for name, lines in _added(sections, more):
        found.append((name, [line for line in lines if line not in separate]))
        found += [("Address", one) for one in own] if name == "Network" else []
    return found


def _added(sections: Iterable[Section], more: Mapping[str, Iterable[str]]) -> list[Section]:
    return [
        (name, [*lines, *(line for line in more.get(name, ()) if line not in lines)])
        for name, lines in sections
    ]


def dhcp(options: NicOptions) -> dict[str, list[str]]:
    """Return the lines of the sections for DHCP, by their names, without the metrics."""
    four, six = options.dhcp4, options.dhcp6
    mac = ["DUIDType=link-layer"] if six and six.identifier == "mac" else []
    return {"DHCPv4": _lines(_DHCPV4, four), "DHCPv6": _lines(_DHCP, six) + mac}


def _port(link: Link, master: Link) -> list[str]:
    """Return the options that the bridge has for its port."""
    bridge = master.nic.bridge
    values = (("Priority", bridge.port_priority), ("Cost", bridge.path_cost)) if bridge else ()
    return [f"{name}={of}" for name, pairs in values for number, of in pairs if number == link.nic.number]


def _link(options: NicOptions) -> list[str]:
    lines = [f"MACAddress={options.set_mac}"] if options.set_mac else []
    mode = options.activation_mode
    return lines + ([f"ActivationPolicy={_ACTIVATION[mode]}"] if mode else [])


def _network(options: NicOptions) -> list[str]:
    local = options.link_local
    lines = [f"LinkLocalAddressing={_LINK_LOCAL[tuple(sorted(set(local)))]}"] if local is not None else []
    lines += _lines(_NETWORK, options)
    # "yes" keeps them over a restart too: "dhcp-on-stop" would drop them at the start.
    lines += ["KeepConfiguration=yes"] if options.critical else []
    return lines + (["ConfigureWithoutCarrier=yes"] if options.ignore_carrier else [])


def _advertised(options: NicOptions) -> list[str]:
    if options.ipv6_address_token:
        return [f"Token=static:{options.ipv6_address_token}"]
    mode = options.ipv6_address_generation
    return [f"Token={_TOKENS[mode]}"] if mode else []


def _lines(directives: Iterable[Directive | Names], record: object | None) -> list[str]:
    if record is None:
        return []
    found = ((name, getattr(record, field), unit) for field, name, unit, *_ in directives)
    return [f"{name}={_text(value)}{unit}" for name, value, unit in found if value not in (None, ())]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(value) if isinstance(value, tuple) else str(value)
