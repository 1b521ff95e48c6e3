"""The options of bonds and bridges of network-config version 2.

Format: netplan-yaml(5).
"""

from __future__ import annotations

from agent.config.nics import Bond, BondOptions, Bridge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias, TypeVar

    from agent.reader.formats.netplan_keys import BondParameters, BridgeParameters

    Record = TypeVar("Record")
    Report: TypeAlias = Callable[[str, str, str], None]


def unless_default(record: Record) -> Record | None:
    """Return the record, None if it has the default for everything."""
    return None if record == type(record)() else record


def valid(found: Any) -> tuple[Any, ...]:
    """Return the items of a list without those that are empty or were left out."""
    return tuple(one for one in found or () if one is not None and one != "")


def _either(said: Any, key: str, alias: str, report: Report) -> Any:
    """Return the value of a key with two names; if both are given, that of the first."""
    found, other = getattr(said, key), getattr(said, alias)
    if found is not None and other is not None:
        what = "another name of a key that is given too: not applied"
        report(f"parameters.{alias.replace('_', '-')}", what, "write one of them")
    return other if found is None else found


def bond(said: BondParameters | None, report: Report) -> Bond:
    """Return the options of a bond."""
    if said is None:
        return Bond("balance-rr")
    options = BondOptions(
        min_links=said.min_links,
        ad_select=said.ad_select,
        all_slaves_active=_either(said, "all_members_active", "all_slaves_active", report),
        arp_interval=said.arp_interval,
        arp_ip_target=tuple(map(str, valid(said.arp_ip_targets))),
        arp_validate=said.arp_validate,
        arp_all_targets=said.arp_all_targets,
        updelay=said.up_delay,
        downdelay=said.down_delay,
        fail_over_mac=said.fail_over_mac_policy,
        num_grat_arp=_either(said, "gratuitous_arp", "gratuitious_arp", report),
        packets_per_slave=_either(said, "packets_per_member", "packets_per_slave", report),
        primary_reselect=said.primary_reselect_policy,
        resend_igmp=said.resend_igmp,
        lp_interval=said.learn_packet_interval,
    )
    miimon = said.mii_monitor_interval
    if miimon is None and said.arp_interval:
        miimon = 0  # The kernel has one of the two checks, and the agent's default is this one.
    return Bond(
        said.mode, miimon, said.transmit_hash_policy, said.lacp_rate, options=unless_default(options)
    )


def bridge(said: BridgeParameters | None, report: Report) -> Bridge | None:
    """Return the options of a bridge, without those by port; None if there are none."""
    if said is None:
        return None
    ageing = _either(said, "ageing_time", "aging_time", report)
    made = Bridge(said.stp, ageing, said.priority, said.forward_delay, said.hello_time, said.max_age)
    return unless_default(made)


def by_port(said: BridgeParameters | None) -> dict[str, dict[str, int]]:
    """Return the options of a bridge's ports, by the ports' names."""
    given = {"port_priority": said.port_priority, "path_cost": said.path_cost} if said else {}
    valid = {
        key: {port: of for port, of in (by or {}).items() if of is not None} for key, by in given.items()
    }
    return {key: by for key, by in valid.items() if by}
