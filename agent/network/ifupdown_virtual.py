"""The ifupdown options that create bonds, bridges and VLANs, with ip(8), on which ifupdown depends. The
options of ifenslave, bridge-utils and vlan need packages that an image may lack and cannot get without a
network.

The NICs below a virtual one are brought up first: a virtual one (a bond below a VLAN) by its own stanza, a
physical one by ``ip link set``.
"""

from __future__ import annotations

from agent.config.nics import Bond, Kind
from agent.lib.records import asdict
from agent.network.ifupdown_lines import command
from agent.network.interfaces import bond_miimon

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.network.interfaces import Link

#: Times among the options of a bridge.
_TIMES = ("ageing_time", "forward_delay", "hello_time", "max_age")


def stanza_lines(link: Link) -> list[str]:
    """Return the options that create the NIC before it is up and delete it after it is down; none for a
    physical NIC.
    """
    if not link.is_virtual:
        return []
    below = link.ports or ((link.parent,) if link.parent else ())
    address = f" address {link.nic.mac}" if link.nic.mac else ""
    on = f" link {link.parent.name}" if link.parent else ""
    return [
        *(f"pre-up ifup {nic.name} || true" for nic in below if nic.is_virtual),
        f"pre-up ip link add{on} name {link.name}{address} type {_type(link)} || true",
        *_options(link),
        *(line for port in link.ports for line in _joined(link, port)),
        *([f"pre-up ip link set dev {link.parent.name} up"] if link.parent else []),
        *_primary(link),
        f"post-down ip link del dev {link.name} || true",
    ]


def _type(link: Link) -> str:
    nic = link.nic
    if nic.kind is Kind.VLAN:
        return f"vlan id {nic.vlan}"
    if nic.kind is Kind.BRIDGE:
        return "bridge"
    bond = nic.bond or Bond()
    words = ["bond", "mode", bond.mode, "miimon", str(bond_miimon(bond))]
    words += ["xmit_hash_policy", bond.xmit_hash_policy] if bond.xmit_hash_policy else []
    return " ".join(words + (["lacp_rate", bond.lacp_rate] if bond.lacp_rate else []))


def _options(link: Link) -> list[str]:
    """Return a line for each rare option: one that the kernel refuses costs only itself."""
    kind, given = str(link.nic.kind), dict[str, object]()
    if bond := link.nic.bond and link.nic.bond.options:
        given = asdict(bond) | {"arp_ip_target": ",".join(bond.arp_ip_target) or None}
        given["all_slaves_active"] = None if bond.all_slaves_active is None else int(bond.all_slaves_active)
    elif bridge := link.nic.bridge:
        given = {"stp_state": None if bridge.stp is None else int(bridge.stp), "priority": bridge.priority}
        given |= {key: _ticks(getattr(bridge, key)) for key in _TIMES}
    lines = [f"{key} {value}" for key, value in given.items() if value is not None]
    return [f"pre-up {command(f'ip link set dev {link.name} type {kind} {line}')} || true" for line in lines]


def _ticks(seconds: int | None) -> int | None:
    """Return a time as ip-link(8) has it for a bridge: in hundredths of a second."""
    return None if seconds is None else seconds * 100


def _joined(link: Link, port: Link) -> list[str]:
    # A NIC that is up cannot join a bond.
    down = [f"pre-up ip link set dev {port.name} down"] if link.nic.kind is Kind.BOND else []
    words = []
    if bridge := link.nic.bridge:
        priority, cost = dict(bridge.port_priority), dict(bridge.path_cost)
        words += [f"priority {priority[port.nic.number]}"] if port.nic.number in priority else []
        words += [f"cost {cost[port.nic.number]}"] if port.nic.number in cost else []
    options = (f"ip link set dev {port.name} type bridge_slave {one}" for one in words)
    joins = f"pre-up ip link set dev {port.name} master {link.name} up"
    return [*down, joins, *(f"pre-up {command(one)} || true" for one in options)]


def _primary(link: Link) -> list[str]:
    wanted = link.nic.bond.primary if link.nic.bond else None
    named = (port.name for port in link.ports if port.nic.number == wanted)
    return [f"pre-up ip link set dev {link.name} type bond primary {name}" for name in named]
