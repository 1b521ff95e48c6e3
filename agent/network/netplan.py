"""Renderer for netplan: one file for each NIC below /etc/netplan.

The file's name sorts after those of images, since a later file adds to and overrides earlier ones. The id of
a physical NIC sorts before those of images: it becomes part of the name of the file that netplan generates
for networkd, which uses the first file that matches a NIC. Settings that current versions of netplan lack
(which parts of router advertisements to use) go into a networkd drop-in for that file.
"""

from __future__ import annotations

import os

from agent.config.nics import ANYWHERE, Bond, Kind
from agent.lib.text import HEADER
from agent.network import networkd
from agent.network.interfaces import FALLBACK, ConfigFile, bond_miimon, is_global_on_link, is_plain
from agent.network.managers import NETWORKD_UNIT, NETWORKMANAGER_UNIT, is_netplan_for_networkmanager
from agent.systemd import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.config.nics import Route, Rule
    from agent.host.host import Host
    from agent.network.interfaces import Link

NAME = "netplan"
BY_NAME = False
_FOLDER = "/etc/netplan"
_WAIT = "systemd-networkd-wait-online"
#: Prefix of a physical NIC's id.
_ID = "00-gandi-"
#: Prefixes of the files that it generates for networkd and NetworkManager (netplan-generate(8)).
_FOR_NETWORKD, _FOR_NETWORKMANAGER = "10-netplan-", "netplan-"
#: The program behind ``netplan generate``, run directly to save the start of Python: new and old path.
_GENERATORS = ("/usr/libexec/netplan/generate", "/usr/lib/netplan/generate")
#: Where it enables, as a systemd generator, the backend that it needs (systemd.generator(7)).
_WANTS = "/run/systemd/generator/multi-user.target.wants"
_SECTIONS = {
    Kind.PHYSICAL: "ethernets",
    Kind.BOND: "bonds",
    Kind.BRIDGE: "bridges",
    Kind.VLAN: "vlans",
}


def paths(key: str) -> tuple[str, ...]:
    """Return netplan's file, networkd's drop-in for a physical NIC, and the drop-in of wait-online."""
    return (
        f"{_FOLDER}/90-gandi-{key}.yaml",
        f"/etc/systemd/network/{_FOR_NETWORKD}{_ID}{key}.network.d/gandi-{key}.conf",
        f"/etc/systemd/system/{_WAIT}.service.d/90-gandi-{key}.conf",
    )


def render(link: Link) -> tuple[ConfigFile, ...]:
    """Return the NIC's file, mode 0600 as netplan requires, and the drop-ins that it needs."""
    tree = {"network": {"version": 2, _SECTIONS[link.nic.kind]: {_name(link): _definition(link)}}}
    main, drop_in, wait = paths(link.key)
    files = [ConfigFile(main, HEADER + "".join(f"{line}\n" for line in yaml(tree)), 0o600)]
    sections = [
        # netplan passes ``optional`` only to its own wait-online drop-in, by name, not to networkd.
        ("Link", [] if link.required else ["RequiredForOnline=no"]),
        (
            "IPv6AcceptRA",
            networkd.advertised(link) if link.accepts_router_advertisements and not link.master else [],
        ),
    ]
    if not is_plain(link.nic) or (link.nic.dhcp4 and link.nic.dhcp6):
        from agent.network import netplan_options

        sections += netplan_options.drop_in(link)
    if any(lines for _, lines in sections) and not link.is_virtual:
        files.append(ConfigFile(drop_in, networkd.text(sections)))
    if link.required:
        # netplan's own drop-in waits for every NIC that any file matches: with a wildcard of the image, for
        # all. networkd's default waits for those that are required in the file that configures them.
        lines = ["ExecStart=", f"ExecStart=/usr/lib/systemd/{_WAIT}"]
        files.append(ConfigFile(wait, networkd.text([("Service", lines)])))
    return tuple(files)


def yaml(value: Mapping[str, object], indent: int = 0) -> list[str]:
    """Return block YAML of mappings, and of lists of scalars or mappings; scalars are written as JSON."""
    import json

    lines, space = list[str](), " " * indent
    for key, item in value.items():
        if isinstance(item, dict):
            lines += [f"{space}{key}:", *yaml(item, indent + 2)]
        elif item and isinstance(item, list):
            lines.append(f"{space}{key}:")
            for element in item:
                inner = yaml(element, indent + 4) if isinstance(element, dict) else [json.dumps(element)]
                lines += [f"{space}  - {inner[0].lstrip(' ')}", *inner[1:]]
        else:
            lines.append(f"{space}{key}: {json.dumps(item)}")
    return lines


def unsupported(link: Link) -> dict[str, str]:
    """Return the values without a key, by their paths, and why."""
    ignored = link.nic.accept_ra and not link.accepts_router_advertisements
    if is_plain(link.nic) and not link.is_virtual and not ignored:
        return {}
    from agent.network import netplan_options

    return netplan_options.unsupported(link)


def _name(link: Link) -> str:
    return link.name if link.is_virtual else f"{_ID}{link.key}"


def _definition(link: Link) -> dict[str, object]:
    tree: dict[str, object] = _made(link) if link.is_virtual else {"match": _match(link)}
    if link.nic.mtu:
        tree["mtu"] = link.nic.mtu
    if not link.required:
        tree["optional"] = True
    tree |= {} if link.master else _addresses(link) | _routing(link)
    if is_plain(link.nic) and not (link.nic.dhcp4 and link.nic.dhcp6):
        return tree
    from agent.network import netplan_options

    return netplan_options.completed(link, tree, {port.nic.number: _name(port) for port in link.ports})


def _match(link: Link) -> dict[str, object]:
    nic, mac = link.nic, link.interface.mac
    return {"name": link.name} if not mac or (nic.name and not nic.mac) else {"macaddress": mac}


def _made(link: Link) -> dict[str, object]:
    nic, tree = link.nic, dict[str, object]()
    if nic.mac:
        tree["macaddress"] = nic.mac
    if link.parent:
        return tree | {"id": nic.vlan, "link": _name(link.parent)}
    tree["interfaces"] = [_name(port) for port in link.ports]
    return tree | {"parameters": {"stp": False} if nic.kind is Kind.BRIDGE else _bond(link)}


def _bond(link: Link) -> dict[str, object]:
    bond = link.nic.bond or Bond()
    tree: dict[str, object] = {"mode": bond.mode, "mii-monitor-interval": bond_miimon(bond)}
    if bond.xmit_hash_policy:
        tree["transmit-hash-policy"] = bond.xmit_hash_policy
    if bond.lacp_rate:
        tree["lacp-rate"] = bond.lacp_rate
    primary = next((port for port in link.ports if port.nic.number == bond.primary), None)
    return tree | ({"primary": _name(primary)} if primary else {})


def _addresses(link: Link) -> dict[str, object]:
    nic = link.nic
    tree: dict[str, object] = {"dhcp4": nic.dhcp4, "dhcp6": nic.dhcp6}
    tree["accept-ra"] = link.accepts_router_advertisements
    if nic.dhcp4 and link.metric4 is not None:
        tree["dhcp4-overrides"] = {"route-metric": link.metric4}
    if nic.dhcp6 and link.metric6 is not None:
        tree["dhcp6-overrides"] = {"route-metric": link.metric6}
    if nic.addresses:
        tree["addresses"] = list(nic.addresses)
    servers = {"addresses": list(nic.nameservers), "search": list(nic.search)}
    if any(servers.values()):
        tree["nameservers"] = {key: value for key, value in servers.items() if value}
    return tree


def _routing(link: Link) -> dict[str, object]:
    routes = [_route(route) for route in link.all_routes]
    rules = [_rule(rule) for rule in link.all_rules]
    tree: dict[str, object] = {"routes": routes, "routing-policy": rules}
    return {key: value for key, value in tree.items() if value}


def _route(route: Route) -> dict[str, object]:
    tree: dict[str, object] = {"to": route.destination}
    if route.gateway:
        tree["via"] = route.gateway
    elif route.type == "unicast":
        # Without a gateway, netplan requires the scope.
        tree["scope"] = "link"
    if route.on_link and route.gateway:
        tree["on-link"] = True
    tree |= {"type": route.type} if route.type != "unicast" else {}
    tree |= {"metric": route.metric} if route.metric is not None else {}
    tree |= {"table": route.table} if route.table is not None else {}
    if not (options := route.options):
        return tree
    keys = {
        "from": options.source,
        # netplan refuses the file for a route of scope global without a gateway: see netplan_options.
        "scope": None if is_global_on_link(route) else options.scope,
        "mtu": options.mtu,
        "congestion-window": options.initcwnd,
        "advertised-receive-window": options.initrwnd,
    }
    return tree | {key: value for key, value in keys.items() if value is not None}


def _rule(rule: Rule) -> dict[str, object]:
    # netplan requires one of the addresses; a rule without them is for all of IPv4 (ip-rule(8)).
    to = rule.destination if rule.source or rule.destination else ANYWHERE[4]
    keys = {
        "from": rule.source,
        "to": to,
        "table": rule.table,
        "priority": rule.priority,
        "mark": rule.mark,
        "type-of-service": rule.tos,
    }
    return {key: value for key, value in keys.items() if value is not None}


def configures(host: Host, names: frozenset[str], mac: str) -> str:
    """Return the file that netplan generated for its backend and that configures the NIC, "" if none does;
    files generated from the agent's for DHCP do not count.
    """
    from agent.network import networkmanager

    key = f"{_ID}{FALLBACK}"
    return networkd.configures(host, names, mac, but=f"{_FOR_NETWORKD}{key}") or networkmanager.configures(
        host, names, mac, but=f"{_FOR_NETWORKMANAGER}{key}"
    )


def possible(host: Host, link: Link) -> tuple[Link, dict[str, str]]:
    """Return the link without what netplan's backend on this system cannot do: for one such value netplan
    refuses all files.
    """
    if link.fallback or not is_netplan_for_networkmanager(host):
        return link, {}
    from agent.network import netplan_limits

    return netplan_limits.for_networkmanager(link)


def prepare(host: Host, link: Link) -> None:
    """Do nothing: later files override earlier ones, and the agent's ids sort first."""


def reload(host: Host, links: Iterable[Link]) -> None:
    """Generate the backend's files, and reload the backend if it runs, start it if not: at the first boot of
    an image, netplan had no files when systemd ran it, so no backend was enabled.
    """
    from agent.network import networkmanager

    touched = list(links)
    if not touched or not host.live:
        return
    host.run((next((name for name in _GENERATORS if host.exists(name)), _GENERATORS[0]),))
    # Its units have changed too: those with the NICs that the boot waits for.
    host.run(("systemctl", "daemon-reload"))
    if units.is_active(host, NETWORKD_UNIT):
        networkd.reload(host, touched)
    if units.is_active(host, NETWORKMANAGER_UNIT):
        up = [link for link in touched if not link.activation_mode]
        networkmanager.activate(host, [f"{_FOR_NETWORKMANAGER}{_name(link)}" for link in up])
    for unit in (NETWORKD_UNIT, NETWORKMANAGER_UNIT):
        if os.path.lexists(os.path.join(host.path(_WANTS), unit)) and not units.is_active(host, unit):
            host.run(("systemctl", "--no-block", "start", unit))
