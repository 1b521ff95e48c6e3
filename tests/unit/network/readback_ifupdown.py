"""Read interfaces(5) files back: stanzas, and the commands of ip(8) in them. See ``readback``."""

from __future__ import annotations

import re
from typing import Any

from agent.network.interfaces import Link

Said = dict[str, Any]

#: Options of ip-route(8) that are followed by a value, and how the model has them.
_ROUTE = {"via": "gateway", "src": "source", "scope": "scope"}
_ROUTE_NUMBERS = {
    "metric": "metric",
    "table": "table",
    "mtu": "mtu",
    "initcwnd": "initcwnd",
    "initrwnd": "initrwnd",
}
_RULE = {"from": "source", "to": "destination"}
_RULE_NUMBERS = {"lookup": "table", "priority": "priority", "fwmark": "mark", "tos": "tos"}
_TYPES = ("local", "blackhole", "unreachable", "prohibit", "throw")
#: Times of a bridge are in hundredths of a second (ip-link(8)).
_BRIDGE_TIMES = ("ageing_time", "forward_delay", "hello_time", "max_age")
#: Sysctls of rare values.
_UNDONE = ("addr_gen_mode", "use_tempaddr")
_SYSCTL = re.compile(r"echo (\d+) > /proc/sys/net/ipv6/conf/([^/]+)/(\w+)")


def read(links: tuple[Link, ...], files: dict[str, dict[str, str]]) -> dict[str, Said]:
    """Return the description of each NIC by its key."""
    said: dict[str, Said] = {}
    for link in links:
        ((_, text),) = files[link.key].items()
        said[link.key] = _File(link.name, text).said
    return said


def undone(text: str) -> list[str]:
    """Return the commands of a file that add what does not go away with the link, and have no line with the
    same words that removes it.
    """
    lines = [line.strip() for line in text.splitlines()]
    left = []
    for line in lines:
        words = line.removesuffix(" || true")
        if sysctl := _SYSCTL.fullmatch(words.removeprefix("pre-up ")):
            path = f"/proc/sys/net/ipv6/conf/{{}}/{sysctl[3]}"
            undo = f"post-down cat {path.format('default')} > {path.format(sysctl[2])} || true"
            left += [line] if sysctl[3] in _UNDONE and undo not in lines else []
        add = re.fullmatch(r"up (ip -[46]) (route|rule|addr) (?:replace|add) (.*)", words)
        if not add or (add[2] == "route" and add[3].split()[0] not in _TYPES[1:]):
            continue
        rest = re.sub(r" brd \+|( (label|preferred_lft) \S+)", "", add[3]) if add[2] == "addr" else add[3]
        if f"down {add[1]} {add[2]} del {rest} || true" not in lines:
            left.append(line)
    return left


class _File:
    """One file while it is read; ``said`` is the description so far."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.said: Said = {"addresses": set(), "routes": set(), "rules": set(), "ports": set()}
        self.said |= {"ra": {"address", "gateway"}, "nameservers": (), "link_local": {6}}
        self.addresses: dict[str, list[str | None]] = {}
        self.address, self.inet = "", ""
        brought_up = False
        for line in text.splitlines():
            words = line.split()
            if not words or words[0] == "#":
                continue
            if words[0] in ("auto", "allow-hotplug"):
                brought_up = brought_up or words[1] == name
            elif words[0] == "no-auto-down":
                self.said["critical"] = words[1] == name
            elif words[0] == "iface":
                assert words[1] == name
                self._stanza(words[2], words[3])
            else:
                self._option(words[0], line.strip().removeprefix(words[0]).strip())
        self.said["addresses"] = {(a, label, lifetime) for a, (label, lifetime) in self.addresses.items()}
        if not brought_up:
            self.said["activation_mode"] = "manual"
        if "kind" not in self.said:
            self.said["ports"] = set()
        elif self.said["kind"] == "bridge":
            self.said.setdefault("bridge.stp", False)

    def _stanza(self, inet: str, method: str) -> None:
        self.inet, self.address = inet, ""
        if method == "dhcp":
            self.said["dhcp4" if inet == "inet" else "dhcp6"] = True
        self.method = method

    def _option(self, key: str, value: str) -> None:
        said = self.said
        match key:
            case "address":
                self.address = value
                self.addresses[value] = [None, None]
            case "preferred-lifetime":
                self.addresses[self.address][1] = value
            case "accept_ra":
                said["ra"] -= {"address", "gateway"} if value == "0" else set()
            case "autoconf":
                said["ra"] -= {"address"} if value == "0" else set()
            case "metric":
                said["metric4"] = int(value)
            case "hostname":
                said["dhcp4.hostname"] = value
            case "client":
                # 01: the type of the hardware, Ethernet.
                said["dhcp4.identifier"] = "mac" if value.startswith("01:") else value
            case "dns-nameservers":
                said["nameservers"] = tuple(value.split())
            case "dns-search":
                said["search"] = tuple(value.split())
            case "pre-up" | "up" | "post-down" | "down":
                self._command(key, value.removesuffix(" || true"))
            case _:
                assert key == "dad-attempts", key

    def _command(self, when: str, command: str) -> None:
        if sysctl := _SYSCTL.fullmatch(command):
            assert sysctl[2] == self.name
            self._sysctl(sysctl[3], int(sysctl[1]))
            return
        words = command.split()
        if words[0] == "ifup" or when in ("down", "post-down"):
            return
        match words:
            case ["ip", ("-4" | "-6"), "route", "replace", *rest]:
                self.said["routes"].add(_route(self.name, rest))
            case ["ip", ("-4" | "-6"), "rule", "add", *rest]:
                self.said["rules"].add(_rule(rest))
            case ["ip", ("-4" | "-6"), "addr", ("replace" | "change"), address, *rest]:
                own = self.addresses.setdefault(address, [None, None])
                own[0] = rest[rest.index("label") + 1] if "label" in rest else own[0]
                own[1] = rest[rest.index("preferred_lft") + 1] if "preferred_lft" in rest else own[1]
            case ["ip", "token", "set", token, "dev", self.name]:
                self.said["ipv6_address_token"] = token
            case ["ip", "link", "add", *rest]:
                self._created(rest)
            case ["ip", "link", "set", "dev", device, *rest]:
                self._set(device, rest)
            case _:
                raise AssertionError(command)

    def _sysctl(self, key: str, value: int) -> None:
        said = self.said
        match key:
            case "accept_ra":
                said["ra"] -= {"address", "gateway"} if not value else set()
            case "autoconf":
                said["ra"] -= {"address"} if not value else set()
            case "accept_ra_defrtr":
                said["ra"] -= {"gateway"} if not value else set()
            case "ra_defrtr_metric":
                said["metric6"] = value
            case "mtu":
                said["ipv6_mtu"] = value
            case "use_tempaddr":
                said["ipv6_privacy"] = {0: False, 2: True}[value]
            case "addr_gen_mode" if value == 1:
                said["link_local"] -= {6}
            case "addr_gen_mode":
                said["ipv6_address_generation"] = {0: "eui64"}[value]
            case _:
                raise AssertionError(key)

    def _created(self, words: list[str]) -> None:
        said = self.said
        kind = words[words.index("type") + 1]
        said |= {"kind": kind}
        if "address" in words:
            said["mac"] = words[words.index("address") + 1]
        if "link" in words:
            said["parent"] = words[words.index("link") + 1]
        if kind == "vlan":
            said["vlan"] = int(words[words.index("id") + 1])
        else:
            self._options(kind, words[words.index("type") + 2 :])

    def _set(self, device: str, words: list[str]) -> None:
        said = self.said
        match words:
            case ["address", mac] if device == self.name:
                said["mac"] = mac
            case ["mtu", mtu] if device == self.name:
                said["mtu"] = int(mtu)
            case ["master", master, "up"]:
                assert master == self.name
                said["ports"].add(device)
            case ["type", "bridge_slave", key, value]:
                name = {"priority": "bridge.port_priority", "cost": "bridge.path_cost"}[key]
                said[name] = said.get(name, frozenset()) | {(device, int(value))}
            case ["type", kind, *options] if device == self.name:
                self._options(kind, options)
            case ["up"] | ["down"]:
                pass
            case _:
                raise AssertionError(words)

    def _options(self, kind: str, words: list[str]) -> None:
        assert len(words) % 2 == 0, words
        for key, value in zip(words[::2], words[1::2], strict=True):
            made: object = int(value) if value.isdecimal() else value
            if kind == "bridge" and key == "stp_state":
                self.said["bridge.stp"] = value == "1"
                continue
            if kind == "bridge" and key in _BRIDGE_TIMES:
                made = int(value) // 100
            elif key == "all_slaves_active":
                made = value == "1"
            elif key == "arp_ip_target":
                made = tuple(value.split(","))
            self.said[f"{kind}.{key}"] = made


def _route(name: str, words: list[str]) -> tuple[tuple[str, object], ...]:
    from .readback import route_said

    of: Said = {"type": words.pop(0)} if words[0] in _TYPES else {}
    of["destination"] = words.pop(0)
    while words:
        key = words.pop(0)
        if key == "onlink":
            of["on_link"] = True
        elif key == "dev":
            assert words.pop(0) == name
        elif key in _ROUTE:
            of[_ROUTE[key]] = words.pop(0)
        else:
            of[_ROUTE_NUMBERS[key]] = int(words.pop(0))
    if of["destination"] == "::/0" and of.get("gateway") and of.get("metric") == 64:
        # Before those of dhcpcd: the document has no metric.
        of["metric"] = None
    return route_said(of)


def _rule(words: list[str]) -> tuple[tuple[str, object], ...]:
    from .readback import rule_said

    of: Said = {}
    for key, value in zip(words[::2], words[1::2], strict=True):
        # ip-rule(8) reads a tos as hexadecimal.
        of |= {_RULE[key]: value} if key in _RULE else {}
        of |= {_RULE_NUMBERS[key]: int(value, 16 if key == "tos" else 10)} if key in _RULE_NUMBERS else {}
        assert key in _RULE or key in _RULE_NUMBERS, key
    return rule_said(of)
