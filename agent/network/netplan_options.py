"""netplan's keys for the rare values of a NIC (netplan-yaml, 0.106 to 1.1). Pure."""

from __future__ import annotations

from agent.network import networkd_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.config.nics import Dhcp
    from agent.network.interfaces import Link
    from agent.network.networkd_options import Names

    #: The model's field and the key.
    Key = tuple[str, str]
    Tree = dict[str, object]

_DHCP: tuple[Key, ...] = tuple(
    (field, field.replace("_", "-"))
    for field in (
        *("use_dns", "use_domains", "use_hostname", "use_mtu", "use_ntp", "use_routes"),
        *("send_hostname", "hostname"),
    )
)
_NIC: tuple[Key, ...] = (
    ("set_mac", "macaddress"),
    ("ipv6_mtu", "ipv6-mtu"),
    ("ipv6_privacy", "ipv6-privacy"),
    ("ipv6_address_generation", "ipv6-address-generation"),
    ("ipv6_address_token", "ipv6-address-token"),
    ("activation_mode", "activation-mode"),
)
#: What a port of a bond or bridge has of these.
_OF_PORT = ("macaddress", "activation-mode", "wakeonlan")


def unsupported(link: Link) -> dict[str, str]:
    """Return the values without a key, by their paths, and why."""
    from agent.network import limits
    from agent.network.interfaces import is_global_on_link

    found = networkd_options.unsupported(link) | limits.ignored_advertisements(link)
    for number, route in enumerate(link.nic.routes):
        if is_global_on_link(route):
            found[f"routes[{number}].scope"] = "a route without a gateway has the scope link"
    if not link.is_virtual:
        return found
    found |= _advertised(link)
    why = "a NIC that netplan creates needs the same for both IP versions"
    for key, path, _value in limits.rare(link.nic):
        version, _, name = key.partition(".")
        if path == "dhcp6.identifier" or (version in ("dhcp4", "dhcp6") and name in _different(link)):
            found[path] = why
    return found


def _advertised(link: Link) -> dict[str, str]:
    """Return what a NIC without a drop-in cannot have of router advertisements."""
    nic = link.nic
    if link.master or not link.accepts_router_advertisements:
        return {}
    why = "a NIC that netplan creates uses all of a router advertisement"
    found = {f"ra_{of}": why for of in ("address", "dns", "gateway") if not getattr(nic, f"ra_{of}")}
    given = nic.options and nic.options.dhcp6 and nic.options.dhcp6.route_metric is not None
    if given and nic.ra_gateway and not nic.dhcp6:
        found["dhcp6.route_metric"] = "a NIC that netplan creates has a metric for DHCP only"
    return found


def completed(link: Link, tree: Tree, ports: Mapping[int, str]) -> Tree:
    """Return the NIC's definition with the keys of its rare values; ``ports`` are the ids of its ports by
    number.
    """
    nic = link.nic
    tree = tree | _of_nic(link)
    if nic.bond and nic.bond.options:
        tree["parameters"] = _parameters(tree) | _tree(networkd_options.BOND, nic.bond.options)
    if nic.bridge:
        by_port = (("port-priority", nic.bridge.port_priority), ("path-cost", nic.bridge.path_cost))
        mappings = {key: {ports[n]: of for n, of in pairs if n in ports} for key, pairs in by_port}
        more = {key: mapping for key, mapping in mappings.items() if mapping}
        tree["parameters"] = _parameters(tree) | _tree(networkd_options.BRIDGE, nic.bridge) | more
    if link.master:
        return tree
    tree.pop("dhcp4-overrides", None)
    tree.pop("dhcp6-overrides", None)
    tree |= {"addresses": _addresses(link)} if nic.addresses else {}
    return tree | _overrides(link)


def drop_in(link: Link) -> list[tuple[str, list[str]]]:
    """Return the sections for DHCP of networkd's drop-in: what netplan's overrides cannot express. If both
    IP versions have different ones, netplan refuses its files for networkd as a whole.
    """
    options = None if link.master else link.nic.options
    lines = networkd_options.dhcp(options) if options else {"DHCPv4": [], "DHCPv6": []}
    if _different(link):
        metric = [f"RouteMetric={link.metric4}"] if link.metric4 is not None else []
        return [("DHCPv4", metric + lines["DHCPv4"]), ("DHCPv6", lines["DHCPv6"])]
    return [("DHCPv6", [line for line in lines["DHCPv6"] if line.startswith("DUIDType=")])]


def _parameters(tree: Tree) -> Tree:
    found = tree.get("parameters")
    return found if isinstance(found, dict) else {}


def _of_nic(link: Link) -> Tree:
    options = link.nic.options
    if not options:
        return {}
    tree = _tree(_NIC, options)
    if options.wake_on_lan:
        # Else NetworkManager switches off what udev has set; with networkd, udev's file for it sorts first.
        tree["wakeonlan"] = True
    if link.master:
        return {key: value for key, value in tree.items() if key in _OF_PORT}
    flags = {"critical": options.critical, "ignore-carrier": options.ignore_carrier}
    tree |= {key: True for key, wanted in flags.items() if wanted}
    if options.link_local is not None:
        tree["link-local"] = [f"ipv{version}" for version in dict.fromkeys(options.link_local)]
    four = options.dhcp4
    return tree | ({"dhcp-identifier": four.identifier} if four and four.identifier else {})


def _addresses(link: Link) -> list[object]:
    """Return the addresses; one with options is a mapping."""
    special = {one.address: one for one in link.nic.options.addresses} if link.nic.options else {}
    keys = (("label", "label"), ("lifetime", "lifetime"))
    return [
        {f'"{address}"': _tree(keys, special[address])} if address in special else address
        for address in link.nic.addresses
    ]


def _overrides(link: Link) -> Tree:
    """Return the overrides for DHCP; for a NIC with different ones only what both have."""
    nic, different = link.nic, _different(link)
    tree: Tree = {}
    for version, wanted in ((4, nic.dhcp4), (6, nic.dhcp6)):
        keys = {key: of for key, of in _wanted(link, version).items() if _field(key) not in different}
        if wanted and keys:
            tree[f"dhcp{version}-overrides"] = keys
    return tree


def _different(link: Link) -> set[str]:
    """Return the fields of the overrides that are not the same for both IP versions, if both are used."""
    if not (link.nic.dhcp4 and link.nic.dhcp6):
        return set()
    four, six = _wanted(link, 4), _wanted(link, 6)
    return {_field(key) for key in four.keys() | six.keys() if four.get(key) != six.get(key)}


def _field(key: str) -> str:
    return key.replace("-", "_")


def _wanted(link: Link, version: int) -> Tree:
    metrics = {4: link.metric4, 6: link.metric6}
    metric = metrics[version]
    if link.is_virtual and link.nic.dhcp4 and link.nic.dhcp6:
        # Without a drop-in, both get the metric of one.
        metric = next((one for one in metrics.values() if one is not None), None)
    dhcp: Dhcp | None = getattr(link.nic.options, f"dhcp{version}", None)
    return _tree(_DHCP, dhcp) | ({"route-metric": metric} if metric is not None else {})


def _tree(keys: Iterable[Key | Names], record: object | None) -> Tree:
    if record is None:
        return {}
    found = ((key, getattr(record, field)) for field, *_, key in keys)
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in found
        if value not in (None, ())
    }
