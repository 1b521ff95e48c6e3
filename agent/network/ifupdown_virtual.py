"""The ifupdown options that create bonds, bridges and VLANs, with ip(8), on which ifupdown depends. The
options of ifenslave, bridge-utils and vlan need packages that an image may lack and cannot get without a
network.

The NICs below a virtual one are brought up first: a virtual one (a bond below a VLAN) by its own stanza, a
physical one by ``ip link set``.
"""

from __future__ import annotations

from agent.config.nics import Bond, Kind
from agent.network.interfaces import MIIMON

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.network.interfaces import Link


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
    words = ["bond", "mode", bond.mode, "miimon", str(bond.miimon or MIIMON)]
    words += ["xmit_hash_policy", bond.xmit_hash_policy] if bond.xmit_hash_policy else []
    return " ".join(words + (["lacp_rate", bond.lacp_rate] if bond.lacp_rate else []))


def _joined(link: Link, port: Link) -> list[str]:
    # A NIC that is up cannot join a bond.
    down = [f"pre-up ip link set dev {port.name} down"] if link.nic.kind is Kind.BOND else []
    return [*down, f"pre-up ip link set dev {port.name} master {link.name} up"]


def _primary(link: Link) -> list[str]:
    wanted = link.nic.bond.primary if link.nic.bond else None
    named = (port.name for port in link.ports if port.nic.number == wanted)
    return [f"pre-up ip link set dev {link.name} type bond primary {name}" for name in named]
