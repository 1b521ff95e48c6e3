"""The text of interfaces(5) that platforms deliver, and the routes in its commands."""

from __future__ import annotations

import pytest

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
)
from agent.reader.common.merge import Draft
from agent.reader.common.problem import ERROR, HARMLESS, UNSUPPORTED
from agent.reader.formats import interfaces_text, route_commands

#: As a virtualisation platform writes it: resolvers below lo, options with an underscore.
SHORT = """auto lo
iface lo inet loopback

        dns_nameservers 192.0.2.53
        dns_search lab.example
auto eth0
iface eth0 inet static
        address 192.0.2.10
        netmask 255.255.255.0
        gateway 192.0.2.1
"""

#: A text in which nothing is missing from the model.
WHOLE = r"""# made by the platform
auto lo eth0 eth0:1
iface lo inet loopback
  dns-nameservers 192.0.2.53 192.0.2.54
  dns-search a.example b.example
auto lo:1
iface lo:1 inet static
  address 198.51.100.1/32

iface eth0 inet static
  hwaddress ether 52:54:00:12:34:56
  address 192.0.2.10
  netmask 255.255.255.128
  gateway 192.0.2.1
  metric 50
  mtu 9000
  dns-nameservers 192.0.2.55
  dns-domain c.example
  up ip route add 10.0.0.0/8 via 192.0.2.2 \
    dev $IFACE metric 7 || true
  post-up route add -net 10.9.0.0 netmask 255.255.0.0 gw 192.0.2.3
iface eth0 inet6 static
  address 2001:db8::10
  netmask 48
  gateway 2001:db8::1
  accept_ra 0
  autoconf 0
  privext 2
  preferred-lifetime 0
  mtu 1400
iface eth0:1 inet static
  address 192.0.2.11/24

allow-hotplug eth1
iface eth1 inet dhcp
  hostname vm1
  metric 300
iface eth1 inet6 auto

auto eth2
iface eth2 inet6 dhcp

auto bond0 eth3 eth4
iface eth3 inet manual
  bond-master bond0
  bond-primary eth3
iface eth4 inet manual
  bond-master bond0
iface bond0 inet manual
  bond-slaves none
  bond-mode active-backup
  bond_miimon 100
  bond-updelay 200

auto bond0.7
iface bond0.7 inet static
  address 198.51.100.7/24
iface vlan8 inet manual
  vlan-raw-device bond0

auto br0
iface br0 inet static
  bridge_ports eth5 eth6
  bridge_stp off
  bridge_fd 0
  bridge_pathcost eth5 50
  bridge-hw 52:54:00:12:34:77
  address 203.0.113.2/24
"""


def _read(text: str) -> Draft:
    draft = Draft("test")
    interfaces_text.read(text, "eni", draft)
    return draft


def _nics(draft: Draft) -> dict[str, Nic]:
    return {(nic.options.set_name if nic.options else None) or nic.name or "": nic for nic in draft.nics}


def _facts(text: str) -> object:
    draft = _read(text)
    told = [(problem.message, problem.severity) for problem in draft.problems]
    return draft.nics, draft.nameservers, draft.search, told


def test_the_resolvers_below_lo_are_the_machines() -> None:
    draft = _read(SHORT)
    assert not draft.problems
    assert draft.nics == (
        Nic(0, name="eth0", addresses=("192.0.2.10/24",), routes=(Route("0.0.0.0/0", "192.0.2.1"),)),
    )
    assert (draft.nameservers, draft.search) == (["192.0.2.53"], ["lab.example"])


def test_everything_has_its_place() -> None:
    draft = _read(WHOLE)
    assert not draft.problems
    assert (draft.nameservers, draft.search) == (["192.0.2.53", "192.0.2.54"], ["a.example", "b.example"])
    nics = _nics(draft)
    assert nics["lo"].loopback
    assert nics["lo"].addresses == ("198.51.100.1/32",)
    assert nics["eth0"] == Nic(
        0,
        mac="52:54:00:12:34:56",
        mtu=9000,
        accept_ra=False,
        ra_address=False,
        addresses=("192.0.2.10/25", "2001:db8::10/48", "192.0.2.11/24"),
        routes=(
            Route("0.0.0.0/0", "192.0.2.1", metric=50),
            Route("10.0.0.0/8", "192.0.2.2", metric=7),
            Route("10.9.0.0/16", "192.0.2.3"),
            Route("::/0", "2001:db8::1"),
        ),
        nameservers=("192.0.2.55",),
        search=("c.example",),
        options=NicOptions(
            set_name="eth0",
            ipv6_privacy=True,
            ipv6_mtu=1400,
            addresses=(
                AddressOptions("2001:db8::10/48", lifetime="0"),
                AddressOptions("192.0.2.11/24", label="eth0:1"),
            ),
        ),
    )
    assert nics["eth1"] == Nic(
        1,
        name="eth1",
        dhcp4=True,
        optional=True,
        options=NicOptions(dhcp4=Dhcp(hostname="vm1", route_metric=300)),
    )
    assert nics["eth2"] == Nic(2, name="eth2", dhcp6=True)
    ports = (nics["eth3"].number, nics["eth4"].number)
    assert nics["bond0"].ports == ports
    assert nics["bond0"].bond == Bond(
        "active-backup", 100, primary=ports[0], options=BondOptions(updelay=200)
    )
    tagged, manual = nics["bond0.7"], nics["vlan8"]
    assert (tagged.kind, tagged.vlan, tagged.parent) == (Kind.VLAN, 7, nics["bond0"].number)
    assert (manual.kind, manual.vlan, manual.parent) == (Kind.VLAN, 8, nics["bond0"].number)
    assert manual.options == NicOptions(activation_mode="manual")
    bridge = nics["br0"]
    first, second = nics["eth5"].number, nics["eth6"].number
    assert (bridge.kind, bridge.mac, bridge.ports) == (Kind.BRIDGE, "52:54:00:12:34:77", (first, second))
    assert bridge.bridge == Bridge(stp=False, forward_delay=0, path_cost=((first, 50),))


def test_no_line_is_lost() -> None:
    lines = WHOLE.splitlines()
    whole = _facts(WHOLE)
    unused = {
        line.strip()
        for place, line in enumerate(lines)
        if _facts("\n".join(lines[:place] + lines[place + 1 :])) == whole
    }
    # What every NIC does by default, and what the stanzas of the ports say too.
    assert unused == {"# made by the platform", "", "iface eth1 inet6 auto", "bond-slaves none"}


def _eth0(option: str, method: str = "inet static") -> str:
    address = "address 192.0.2.10/24" if method == "inet static" else ""
    return f"auto eth0\niface eth0 {method}\n{address}\n{option}\n"


@pytest.mark.parametrize(
    ("text", "path", "severity", "left"),
    [
        ("source /etc/network/interfaces.d/*\n", "line 1", UNSUPPORTED, 0),
        ("source-directory interfaces.d\n", "line 1", UNSUPPORTED, 0),
        ("mapping eth0\n  script /bin/true\n", "line 1", UNSUPPORTED, 0),
        ("address 192.0.2.1\n", "line 1", ERROR, 0),
        ("auto eth7\n", "auto", UNSUPPORTED, 0),
        ("iface eth0 inet\n", "line 1", ERROR, 0),
        ("iface eth0:$x inet static\naddress 192.0.2.1\n", "line 1: iface eth0:$x inet", ERROR, 1),
        ("iface eth0 inet dhcp inherits x\n", "line 1", ERROR, 0),
        ("iface ppp0 inet ppp\n", "line 1", ERROR, 0),
        ("iface en* inet dhcp\n", "line 1: iface en* inet", ERROR, 0),
        ("iface eth0 inet static\n", "line 1: iface eth0 inet.address", ERROR, 1),
        (_eth0("netmask 255.0.255.0"), "line 2: iface eth0 inet.address", ERROR, 1),
        (_eth0("gateway x"), "line 2: iface eth0 inet.gateway", ERROR, 1),
        (_eth0("mtu big"), "line 2: iface eth0 inet.mtu", ERROR, 1),
        (_eth0("mtu 1400\nmtu 1300"), "line 5", ERROR, 1),
        # What would change the meaning costs the stanza.
        (_eth0("pointopoint 192.0.2.1"), "line 2: iface eth0 inet.pointopoint", ERROR, 0),
        (_eth0("hwaddress random"), "line 2: iface eth0 inet.hwaddress", ERROR, 0),
        (_eth0("scope link"), "line 2: iface eth0 inet.scope", ERROR, 0),
        (_eth0("wpa-ssid x", "inet dhcp"), "line 2: iface eth0 inet.wpa-ssid", ERROR, 0),
        # Other options, and commands, cost themselves.
        (_eth0("ethtool-wol g"), "line 2: iface eth0 inet.ethtool-wol", UNSUPPORTED, 1),
        (_eth0("broadcast 192.0.2.255"), "line 2: iface eth0 inet.broadcast", HARMLESS, 1),
        (_eth0("up iptables -A INPUT -j DROP"), "line 2: iface eth0 inet.up[0]", UNSUPPORTED, 1),
        (_eth0("up ip route add 10.0.0.0/8 via x"), "line 2: iface eth0 inet.up[0]", UNSUPPORTED, 1),
        (_eth0("pre-up ip route add 10.0.0.0/8"), "line 2: iface eth0 inet.pre-up[0]", UNSUPPORTED, 1),
        (_eth0("down ip route del 10.0.0.0/8"), "line 2: iface eth0 inet.down[0]", HARMLESS, 1),
        (_eth0("down rm -r /"), "line 2: iface eth0 inet.down[0]", UNSUPPORTED, 1),
        (_eth0("address 192.0.2.9", "inet dhcp"), "line 2: iface eth0 inet.address", UNSUPPORTED, 1),
        (_eth0("hostname vm1"), "line 2: iface eth0 inet.hostname", UNSUPPORTED, 1),
        (
            _eth0("bond-master bond0\niface bond0 inet manual\nbond-mode 9"),
            "line 5: iface bond0 inet",
            ERROR,
            1,
        ),
    ],
)
def test_it_is_named_by_its_line(text: str, path: str, severity: str, left: int) -> None:
    draft = _read(text)
    told = [(problem.path.removeprefix("eni: "), problem.severity) for problem in draft.problems]
    assert (path.replace("[]", ""), severity) in told
    assert len(draft.nics) == left
    assert not any(route.gateway for nic in draft.nics for route in nic.routes)


def test_a_stanza_that_is_left_out_costs_no_other() -> None:
    draft = _read(f"iface eth1 inet static\n address x\n{SHORT}iface eth2 inet static\n pointopoint 1\n")
    assert [nic.name for nic in draft.nics] == ["eth1", "eth0"]
    assert draft.nics[1].addresses == ("192.0.2.10/24",)


def test_lines_that_say_nothing() -> None:
    assert _facts(f"\\\n\n# {SHORT[:8]}{SHORT}\\") == _facts(SHORT)


def test_windows_line_ends_and_tabs() -> None:
    assert _facts(SHORT.replace("        ", "\t").replace("\n", "\r\n")) == _facts(SHORT)


def test_too_many_stanzas() -> None:
    draft = _read("".join(f"iface e{number} inet dhcp\n" for number in range(2000)))
    assert len(draft.nics) == 256
    assert any("more than 1000" in problem.message for problem in draft.problems)


@pytest.mark.parametrize(
    ("command", "route"),
    [
        ("ip route add 10.0.0.0/8 via 192.0.2.1", Route("10.0.0.0/8", "192.0.2.1")),
        ("/sbin/ip -4 ro replace 10.0.0.5 via 192.0.2.1 dev eth0", Route("10.0.0.5/32", "192.0.2.1")),
        ("ip r append default via 192.0.2.1 proto static", Route("0.0.0.0/0", "192.0.2.1")),
        ("ip -6 route add default dev $IFACE metric 5", Route("::/0", metric=5)),
        ("ip route add to default via inet6 fe80::1 onlink", Route("::/0", "fe80::1", on_link=True)),
        ("ip route add blackhole 10.0.0.0/8", Route("10.0.0.0/8", type="blackhole")),
        ("ip route add 10.0.0.0/8 dev eth0 table 101", Route("10.0.0.0/8", table=101)),
        ("ip route add 10.0.0.0/8 dev eth0 table main", Route("10.0.0.0/8")),
        (
            "ip route add 10.0.0.0/8 dev eth0 src 192.0.2.9 scope link mtu 1400",
            Route("10.0.0.0/8", options=RouteOptions("192.0.2.9", "link", 1400)),
        ),
        ("route add -net 10.0.0.0 netmask 255.0.0.0 gw 192.0.2.1", Route("10.0.0.0/8", "192.0.2.1")),
        (
            "route add -net 10.0.0.0/8 gw 192.0.2.1 metric 3 || true",
            Route("10.0.0.0/8", "192.0.2.1", metric=3),
        ),
        ("route add -host 10.0.0.1 dev eth0", Route("10.0.0.1/32")),
        ("route add default gw 192.0.2.1 eth0", Route("0.0.0.0/0", "192.0.2.1")),
        ("/sbin/route -A inet6 add default gw fe80::1 || :", Route("::/0", "fe80::1")),
        ("route add -A inet6 2001:db8:1::/48 gw fe80::1", Route("2001:db8:1::/48", "fe80::1")),
    ],
)
def test_commands_that_add_a_route(command: str, route: Route) -> None:
    assert route_commands.added(command, "eth0") == route


@pytest.mark.parametrize(
    "command",
    [
        "",
        "ip",
        "ip route",
        "ip route add",
        "ip route add 10.0.0.0/8 via",
        "ip route add 10.0.0.0/8 via 192.0.2.1; reboot",
        "ip route add $(hostname) via 192.0.2.1",
        "ip route add 10.0.0.0/8 via 192.0.2.1 && reboot",
        "ip route add 10.0.0.0/8 nexthop via 192.0.2.1",
        "ip route add 10.0.0.0/8 dev eth1",
        "ip route add nat 10.0.0.0/8",
        "ip route add 10.0.0.0/8 dev eth0 table office",
        "ip -n other route add 10.0.0.0/8",
        "ip route del 10.0.0.0/8",
        "ip rule add from 192.0.2.1 table 101",
        "ip addr add 192.0.2.1/24 dev eth0",
        "route add -net 10.0.0.0 gw 192.0.2.1",
        "route add -net 10.0.0.0/8 gw 192.0.2.1 reject",
        "route add",
        "echo ip route add 10.0.0.0/8",
        "/opt/bin/ip route add 10.0.0.0/8",
    ],
)
def test_other_commands(command: str) -> None:
    with pytest.raises(ValueError, match="; "):
        route_commands.added(command, "eth0")
