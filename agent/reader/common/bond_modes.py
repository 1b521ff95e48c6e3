"""Which options of a bond exclude each other (bonding.rst, drivers/net/bonding/bond_options.c)."""

from __future__ import annotations

from agent.lib.records import fields, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent.config.nics import Bond

#: The modes in which an option is allowed; all where it is not listed.
_MODES = {
    "lacp_rate": ("802.3ad",),
    "packets_per_slave": ("balance-rr",),
    "primary": ("active-backup", "balance-tlb", "balance-alb"),
}
_BY_ARP = ("arp_interval", "arp_ip_target", "arp_validate", "arp_all_targets")
_WITH_ARP = ("balance-rr", "active-backup", "balance-xor", "broadcast")
_DELAYS = ("updelay", "downdelay")


def allowed(bond: Bond) -> tuple[Bond, dict[str, str]]:
    """Return the bond without the options that the kernel refuses, and why, by their names: with one of
    them, a manager may not create the bond at all.
    """
    wrong = {key: f"not in the mode {bond.mode}" for key, modes in _MODES.items() if bond.mode not in modes}
    by_arp = bool(bond.options and bond.options.arp_interval)
    if bond.mode not in _WITH_ARP:
        wrong |= dict.fromkeys(_BY_ARP, f"not in the mode {bond.mode}")
        if by_arp and not bond.miimon:
            # The only check that this mode has.
            bond = replace(bond, miimon=None)
    elif by_arp and bond.miimon:
        wrong |= dict.fromkeys(_BY_ARP, "not beside miimon")
    elif by_arp or bond.miimon == 0:
        wrong |= dict.fromkeys(_DELAYS, "not without miimon")
    bond, refused = _without(bond, wrong)
    if bond.options:
        options, more = _without(bond.options, wrong)
        is_empty = options == type(options)()
        bond, refused = replace(bond, options=None if is_empty else options), refused | more
    return bond, refused


def _without(record: Any, wrong: dict[str, str]) -> tuple[Any, dict[str, str]]:
    """Return the record with the default of each of these fields, and those that had another value."""
    named = (one for one in fields(record) if one.name in wrong)
    defaults = {one.name: one.default for one in named if getattr(record, one.name) != one.default}
    # 0 is what the kernel does without the option; a primary port is a number of a NIC.
    refused = {key: wrong[key] for key in defaults if getattr(record, key) or key == "primary"}
    return replace(record, **defaults), refused
