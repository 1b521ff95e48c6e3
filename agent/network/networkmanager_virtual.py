"""The groups [bond], [bridge], [vlan] and [bridge-port] of a keyfile (nm-settings-keyfile(5))."""

from __future__ import annotations

from agent.config.nics import Bond, Bridge, Kind
from agent.lib.records import asdict, replace
from agent.network.interfaces import bond_miimon

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.network.interfaces import Link

    #: A group's name, and its keys and values.
    Group = tuple[str, dict[str, object]]

#: The modes in which an option of a bond is allowed; all where it is not listed.
_WITHOUT_LACP = ("balance-rr", "active-backup", "balance-xor", "broadcast")
_MODES = {
    "lacp_rate": ("802.3ad",),
    "packets_per_slave": ("balance-rr",),
    "primary": ("active-backup", "balance-tlb", "balance-alb"),
    **dict.fromkeys(("arp_interval", "arp_ip_target", "arp_validate", "arp_all_targets"), _WITHOUT_LACP),
}
#: Options of a bridge that are in the profiles of its ports.
_OF_PORTS = ("port_priority", "path_cost")
#: The limits of a bridge's times in seconds.
_LIMITS = {"forward_delay": (2, 30), "hello_time": (1, 10), "max_age": (6, 40)}


def groups(link: Link) -> list[Group]:
    """Return the group that creates a virtual NIC; none for another one."""
    nic = link.nic
    if link.parent:
        return [("vlan", {"id": nic.vlan, "parent": link.parent.name})]
    if nic.kind is Kind.BRIDGE:
        return [("bridge", {"stp": False} | bridge_options(link)[0])]
    return [("bond", bond_options(link)[0])] if nic.kind is Kind.BOND else []


def bond_options(link: Link) -> tuple[dict[str, object], dict[str, str]]:
    """Return the bond's options, and why others are left out: with one that its mode lacks, NetworkManager
    refuses the whole profile.
    """
    bond, refused = link.nic.bond or Bond(), dict[str, str]()
    by_arp = bond.mode in _WITHOUT_LACP and bool(bond.options and bond.options.arp_ip_target)
    miimon = bond_miimon(bond if by_arp else replace(bond, options=None))
    given: dict[str, object] = {
        "mode": bond.mode,
        "miimon": miimon,
        "xmit_hash_policy": bond.xmit_hash_policy,
        "lacp_rate": bond.lacp_rate,
        "primary": next((p.name for p in link.ports if p.nic.number == bond.primary), None),
    }
    if bond.options:
        given |= asdict(bond.options)
        given["arp_ip_target"] = ",".join(bond.options.arp_ip_target) or None
        given["all_slaves_active"] = _number(bond.options.all_slaves_active)
    given = {key: value for key, value in given.items() if value is not None}
    for key in given:
        if bond.mode not in _MODES.get(key, (bond.mode,)):
            refused[key] = f"not in the mode {bond.mode}"
        elif key in ("updelay", "downdelay") and not miimon:
            refused[key] = "not without miimon"
        elif key.startswith("arp_") and not {"arp_interval", "arp_ip_target"} <= given.keys():
            refused[key] = "arp_interval and arp_ip_target need each other"
    return {key: value for key, value in given.items() if key not in refused}, refused


def bridge_options(link: Link) -> tuple[dict[str, object], dict[str, str]]:
    """Return the bridge's options, and why others are left out: NetworkManager ignores one that is outside
    the kernel's limits.
    """
    given = asdict(link.nic.bridge) if link.nic.bridge else {}
    given = {key: of for key, of in given.items() if of is not None and key not in _OF_PORTS}
    refused = dict[str, str]()
    for key, (least, most) in _LIMITS.items():
        if key in given and not least <= given[key] <= most:
            refused[key] = f"not from {least} to {most}"
    return {key.replace("_", "-"): of for key, of in given.items() if key not in refused}, refused


def refused(link: Link) -> dict[str, str]:
    """Return why options of the bond or bridge are left out, by their paths."""
    if link.nic.kind is Kind.BOND:
        return {f"bond.{key}": why for key, why in bond_options(link)[1].items()}
    if link.nic.kind is Kind.BRIDGE:
        return {f"bridge.{key}": why for key, why in bridge_options(link)[1].items()}
    return {}


def bridge_port(link: Link, bridge: Link) -> dict[str, object]:
    """Return the keys of [bridge-port]."""
    of = bridge.nic.bridge or Bridge()
    given = {"priority": dict(of.port_priority), "path-cost": dict(of.path_cost)}
    return {key: by[link.nic.number] for key, by in given.items() if link.nic.number in by}


def _number(value: bool | None) -> int | None:  # noqa: FBT001 - a value of the document
    return None if value is None else int(value)
