"""NICs with random values in any combination, the same ones for the same seed."""

from __future__ import annotations

from random import Random
from typing import Any

from agent.config.nics import (
    AddressOptions,
    Bond,
    BondOptions,
    Bridge,
    Dhcp,
    Kind,
    Nic,
    NicOptions,
    Route,
    RouteOptions,
    Rule,
)

_FLAG = (None, True, False)
_TYPES = ("unicast", "unicast", "local", "blackhole", "unreachable", "prohibit", "throw")
_MODES = ("balance-rr", "active-backup", "balance-xor", "802.3ad", "balance-alb")


def document(seed: int) -> list[Nic]:
    """Return the NICs of a document: two, in most cases with a bond, a bridge, a VLAN or lo."""
    return _Random(seed).document()


class _Random:
    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def _one(self, *values: Any) -> Any:
        return self._random.choice(values)

    def _some(self, *values: Any) -> tuple[Any, ...]:
        return tuple(self._random.sample(values, self._random.randrange(len(values) + 1)))

    def _perhaps(self, value: Any) -> Any:
        return self._one(None, value)

    def document(self) -> list[Nic]:
        kind = self._one("bond", "bridge", "vlan", "lo", "")
        if kind == "bond":
            made = self._nic(2, name="bond0", kind=Kind.BOND, ports=(0, 1), bond=self._perhaps(self._bond()))
        elif kind == "bridge":
            ports = self._some(0, 1)
            made = self._nic(
                2, name="br0", kind=Kind.BRIDGE, ports=ports, bridge=self._perhaps(self._bridge())
            )
        elif kind == "vlan":
            made = self._nic(2, name="eth0.5", kind=Kind.VLAN, parent=0, vlan=5)
        else:
            made = self._nic(2, loopback=kind == "lo")
        below = made.ports if kind in ("bond", "bridge") else ()
        return [Nic(n) if n in below else self._nic(n) for n in (0, 1)] + [made]

    def _nic(self, number: int, **values: Any) -> Nic:
        addresses = self._some(
            f"192.0.2.{7 + number}/24", f"198.51.100.{8 + number}/32", f"2001:db8:{number}::7/64"
        )
        routes = {(r.destination, r.table, r.metric): r for r in (self._route() for _ in range(4))}
        flags = {
            f: self._one(True, False)
            for f in ("dhcp4", "dhcp6", "accept_ra", "ra_address", "ra_dns", "ra_gateway")
        }
        return Nic(
            number,
            addresses=addresses,
            routes=tuple(routes.values())[: self._one(0, 1, 2, 4)],
            rules=tuple(self._rule() for _ in range(self._one(0, 0, 1, 2))),
            nameservers=self._some("192.0.2.53", "2001:db8::53", "198.51.100.53"),
            search=self._some("example.com", "example.net"),
            mtu=self._perhaps(1400),
            options=self._perhaps(self._options(number, addresses)),
            **flags,
            **values,
        )

    def _options(self, number: int, addresses: tuple[str, ...]) -> NicOptions:
        labels = (None, "web", f"eth{number}:1")
        return NicOptions(
            set_mac=self._perhaps(f"02:00:00:00:00:0{number}"),
            dhcp4=self._perhaps(self._dhcp()),
            dhcp6=self._perhaps(self._dhcp()),
            addresses=tuple(
                AddressOptions(a, self._one(*labels), self._one(None, "0", "forever"))
                for a in self._some(*addresses)
            ),
            link_local=self._one(None, (), (4,), (6,), (4, 6)),
            ipv6_mtu=self._perhaps(1300),
            ipv6_privacy=self._one(*_FLAG),
            ipv6_address_generation=self._one(None, "eui64", "stable-privacy"),
            critical=self._one(True, False),
            ignore_carrier=self._one(True, False),
            activation_mode=self._one(None, "manual", "off"),
        )

    def _dhcp(self) -> Dhcp:
        flags = ("use_dns", "use_hostname", "use_mtu", "use_ntp", "use_routes", "send_hostname")
        return Dhcp(
            **{flag: self._one(*_FLAG) for flag in flags},
            use_domains=self._one(None, "true", "false", "route"),
            hostname=self._perhaps("vm1"),
            identifier=self._one(None, "mac", "duid"),
        )

    def _route(self) -> Route:
        ipv6, kind = self._one(True, False), self._one(*_TYPES)
        to = (
            ("2001:db8:9::/48", "2001:db8:a::/48", "::/0")
            if ipv6
            else ("10.8.0.0/16", "10.9.0.0/16", "0.0.0.0/0")
        )
        via = (None, "fe80::1", "2001:db8::1") if ipv6 else (None, "192.0.2.1")
        gateway = self._one(*via) if kind == "unicast" else None
        source, scope = "2001:db8::7" if ipv6 else "192.0.2.7", self._one(None, "link", "host", "global")
        options = RouteOptions(
            self._perhaps(source), scope, self._perhaps(1300), self._perhaps(10), self._perhaps(20)
        )
        return Route(
            self._one(*to),
            gateway,
            on_link=gateway is not None and self._one(True, False),
            metric=self._one(None, 0, 7, 300),
            table=self._one(None, 7, 101),
            type=kind,
            options=self._perhaps(options),
        )

    def _rule(self) -> Rule:
        network = self._one("2001:db8::/32", "192.0.2.0/24")
        source, destination, tos = self._perhaps(network), self._perhaps(network), self._one(None, 4, 16)
        return Rule(101, source, destination, self._one(None, 50, 99), self._one(None, 1, 77), tos)

    def _bond(self) -> Bond:
        options = BondOptions(
            min_links=self._perhaps(1),
            ad_select=self._perhaps("count"),
            all_slaves_active=self._one(*_FLAG),
            arp_interval=self._perhaps(100),
            arp_ip_target=self._some("192.0.2.1", "192.0.2.2"),
            arp_validate=self._perhaps("all"),
            updelay=self._perhaps(100),
            fail_over_mac=self._perhaps("active"),
            packets_per_slave=self._perhaps(4),
            lp_interval=self._perhaps(6),
        )
        return Bond(
            self._one(*_MODES),
            self._one(None, 0, 50),
            self._perhaps("layer3+4"),
            self._one(None, "slow", "fast"),
            self._one(None, 0, 1),
            self._perhaps(options),
        )

    def _bridge(self) -> Bridge:
        return Bridge(
            self._one(*_FLAG),
            self._perhaps(300),
            self._perhaps(5),
            self._one(None, 0, 4, 40),
            self._perhaps(2),
            self._perhaps(20),
            self._one((), ((0, 5),)),
            self._one((), ((0, 50), (1, 60))),
        )
