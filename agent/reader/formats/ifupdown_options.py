"""The options of bonds and bridges by the names of ifupdown: for network-config version 1, interfaces(5) and
OpenStack's ``network_data.json``.

Format: the kernel's bonding.rst, bridge-utils-interfaces(5). The prefix (``bond-``, ``bridge_``) may be left
out.
"""

from __future__ import annotations

import re

from agent.config.nics import Bond, BondOptions, Bridge
from agent.lib.records import dataclass, replace
from agent.lib.text import WHITE
from agent.lib.text import words as split_words
from agent.reader.common import fields, network_fields, values
from agent.reader.common.lenient import parts, unused, validate, value
from agent.reader.common.problem import Problem, shown
from agent.reader.common.values import Choice, Whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from agent.reader.common.topology import Link

_SECONDS = Whole(0, 1_000_000)
_BYTE = Whole(0, 255)
_COUNT = Whole(0, 2**31 - 1)


def numbered(*words: str) -> Callable[[object], str | None]:
    """Return a reader for one of the words, or its number (the kernel takes both); None for "" or null."""

    def read(written: object) -> str | None:
        if isinstance(written, int) and not isinstance(written, bool):
            written = str(written)
        if isinstance(written, str) and re.fullmatch("[0-9]", written) and int(written) < len(words):
            return words[int(written)]
        return Choice(words)(written) if fields.stripped(written) else None

    return read


def switch(written: object) -> bool | None:
    """Return true or false, also given as 1 and 0; None for an empty string or null."""
    if written in ("", None):
        return None
    return written in (1, "1") if written in (0, 1, "0", "1") else values.boolean(written)


def all_ports_active(written: object) -> bool | None:
    """Return whether ports that are not active take packets."""
    word = written if isinstance(written, str) else ""
    return (
        {"dropped": False, "delivered": True}[word] if word in ("dropped", "delivered") else switch(written)
    )


def by_port(written: object) -> tuple[tuple[str, int], ...]:
    """Return the numbers by port of ``eth0 80`` or a list of these."""
    words: list[str] = []
    for one in written if isinstance(written, list) else [written]:
        words += split_words(values.line(one))
    numbers = [Whole(0, 2**31 - 1)(word) for word in words[1::2]]
    if len(words) % 2 or None in numbers:
        raise ValueError("not the name of a port and a number; write for example eth0 80")
    return tuple(zip(words[::2], (number or 0 for number in numbers), strict=True))


def bridge_mac(written: object) -> str | None:
    """Return a bridge's MAC address, also with ``MAC`` before it as an older manual had it."""
    text = fields.stripped(written)
    return fields.mac(text[4:] if text[:4].upper() == "MAC " else text)


@dataclass(frozen=True, slots=True)
class BondParams:
    """The options of a bond, without their prefix."""

    mode: str = value(network_fields.bond_mode, "balance-rr")
    miimon: int | None = value(network_fields.MILLISECONDS, None)
    xmit_hash_policy: str | None = value(network_fields.xmit_hash_policy, None)
    lacp_rate: str | None = value(network_fields.lacp_rate, None)
    primary: str = value(values.line, "")
    min_links: int | None = value(_COUNT, None)
    ad_select: str | None = value(numbered("stable", "bandwidth", "count"), None)
    all_slaves_active: bool | None = value(all_ports_active, None)
    arp_interval: int | None = value(network_fields.MILLISECONDS, None)
    arp_ip_target: list[fields.IP | None] | None = parts(fields.address, split=True)
    arp_validate: str | None = value(
        numbered("none", "active", "backup", "all", "filter", "filter_active", "filter_backup"), None
    )
    arp_all_targets: str | None = value(numbered("any", "all"), None)
    updelay: int | None = value(network_fields.MILLISECONDS, None)
    downdelay: int | None = value(network_fields.MILLISECONDS, None)
    fail_over_mac: str | None = value(numbered("none", "active", "follow"), None)
    num_grat_arp: int | None = value(_BYTE, None)
    num_unsol_na: int | None = value(_BYTE, None)
    packets_per_slave: int | None = value(Whole(0, 65535), None)
    primary_reselect: str | None = value(numbered("always", "better", "failure"), None)
    resend_igmp: int | None = value(_BYTE, None)
    lp_interval: int | None = value(Whole(1, 2**31 - 1), None)


_STATUS = "the kernel shows it, and nothing can set it"
unused(
    BondParams,
    harmless={
        "ad_actor_key": _STATUS,
        "ad_aggregator": _STATUS,
        "ad_num_ports": _STATUS,
        "ad_partner_key": _STATUS,
        "ad_partner_mac": _STATUS,
        "mii_status": _STATUS,
        "use_carrier": "current kernels only watch the carrier",
    },
    # The bond works without each of them.
    unsupported={
        "active_slave": "the active port is chosen by the kernel; primary prefers one",
        "ad_actor_sys_prio": "the kernel's default is used",
        "ad_actor_system": "the kernel's default is used",
        "ad_user_port_key": "the kernel's default is used",
        "peer_notif_delay": "the kernel's default is used",
        "queue_id": "packets are not steered to ports",
        "tlb_dynamic_lb": "the kernel's default is used",
    },
)


@dataclass(frozen=True, slots=True)
class BridgeParams:
    """The options of a bridge, without their prefix; times in seconds."""

    ageing: int | None = value(_SECONDS, None)
    bridgeprio: int | None = value(Whole(0, 65535), None)
    fd: int | None = value(_SECONDS, None)
    hello: int | None = value(_SECONDS, None)
    hw: str | None = value(bridge_mac, None)
    maxage: int | None = value(_SECONDS, None)
    pathcost: tuple[tuple[str, int], ...] = value(by_port, ())
    portprio: tuple[tuple[str, int], ...] = value(by_port, ())
    ports: list[str | None] | None = parts(values.line, split=True)
    stp: bool | None = value(switch, None)


unused(
    BridgeParams,
    harmless={
        "gcint": "kernels have no such interval any more",
        "maxwait": "the boot does not wait for the ports",
        "waitport": "the boot does not wait for the ports",
    },
    unsupported={
        "vlan_aware": "VLANs are not filtered by a bridge",
        "vids": "VLANs are not filtered by a bridge",
        "pvid": "VLANs are not filtered by a bridge",
        "mcsnoop": "the kernel's default is used",
    },
)


def bond(written: dict[str, Any], path: str, problems: list[Problem], *, of: str = "") -> BondParams | None:
    """Return the options of the bond at the path ``of`` (by default theirs); None and a problem if its mode
    cannot be read: with another one the switch may not work.
    """
    bare = _bare("bond", written)
    found, wrong = validate(BondParams, {name: written[key] for name, key in bare.items()})
    problems += _spelled(wrong, bare, path)
    if any(one.path == "mode" and one.is_error for one in wrong):
        problems.append(Problem(of or path, "a bond with an unknown mode: left out", "correct its mode"))
        return None
    return found


def bridge(written: dict[str, Any], path: str, problems: list[Problem]) -> BridgeParams:
    """Return the options of a bridge."""
    bare = _bare("bridge", written)
    found, wrong = validate(BridgeParams, {name: written[key] for name, key in bare.items()})
    names = _names(found.ports or ())
    if {"all", "regex"} & set(found.ports or ()):
        what, hint = "NICs by a pattern of their names: left out", "name each NIC"
        wrong.append(Problem("ports", what, hint))
    problems += _spelled(wrong, bare, path)
    return replace(found, ports=names)


def _names(ports: Sequence[str | None]) -> list[str | None]:
    """Return the names of ports, without ``all`` and the patterns after ``regex``, as by
    bridge-utils-interfaces(5).
    """
    names, is_pattern = list[str | None](), False
    for port in ports:
        if port in ("regex", "noregex"):
            is_pattern = port == "regex"
        elif port not in ("all", None) and not is_pattern:
            names.append(port)
    return names


def _bare(prefix: str, written: dict[str, Any]) -> dict[str, str]:
    """Return the keys as they are written, by the names without their prefix."""
    plain = {key: key.strip(WHITE).lower().replace("-", "_") for key in written}
    return {name.removeprefix(f"{prefix}_"): key for key, name in plain.items()}


def _spelled(problems: list[Problem], bare: dict[str, str], path: str) -> list[Problem]:
    """Return the problems by their path in the document, with the keys as they are written."""
    spelled = []
    for problem in problems:
        name, mark, rest = problem.path.partition("[")
        spelled.append(replace(problem, path=f"{path}.{shown(bare.get(name, name))}{mark}{rest}"))
    return spelled


def to_bond(params: BondParams) -> Bond:
    """Return the bond's options as the model has them; its primary port is a reference of the link."""
    names = set(BondOptions.__slots__) - {"arp_ip_target"}
    said = {name: getattr(params, name) for name in names}
    if params.num_grat_arp is None:
        # One setting of the kernel, by two names.
        said["num_grat_arp"] = params.num_unsol_na
    targets = tuple(str(one) for one in params.arp_ip_target or () if one)
    options = BondOptions(**said, arp_ip_target=targets)
    return Bond(
        params.mode,
        params.miimon,
        params.xmit_hash_policy,
        params.lacp_rate,
        options=None if options == BondOptions() else options,
    )


def to_bridge(params: BridgeParams) -> Bridge | None:
    """Return the bridge's options as the model has them, without those by port; None if all are defaults."""
    options = Bridge(
        stp=params.stp,
        ageing_time=params.ageing,
        priority=params.bridgeprio,
        forward_delay=params.fd,
        hello_time=params.hello,
        max_age=params.maxage,
    )
    return None if options == Bridge() else options


def set_by_port(link: Link, params: BridgeParams, above: str = "") -> None:
    """Add the options by port to a bridge's link; ``above`` is the path of the options."""
    link.keys = {"port_priority": f"{above}bridge_portprio", "path_cost": f"{above}bridge_pathcost"}
    for key, found in (("port_priority", params.portprio), ("path_cost", params.pathcost)):
        if found:
            link.by_port[key] = dict(found)
