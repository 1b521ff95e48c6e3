"""What systemd-networkd itself makes of the agent's files, in a namespace with two virtual NICs."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent.config.nics import AddressOptions, Bridge, Kind, Nic, NicOptions, Route, RouteOptions, Rule
from agent.network import networkd
from agent.network.interfaces import Interface, Link
from agent.network.plan import plan
from tests.unit.network.rare_cases import DHCP4, RARE

NETWORKD = Path("/usr/lib/systemd/systemd-networkd")


#: A read-only /sys makes networkd configure NICs without udev. It is ended once ``ip`` shows all of the
#: words $2 or it has had 20 seconds; then the state is printed.
SCRIPT = """
set -e
mount -t sysfs -o ro sysfs /sys
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /etc/systemd/network
cp "$1"/* /etc/systemd/network/
ip link set lo up
for nic in eth0 eth1; do
    ip link add $nic type veth peer name far-$nic
    ip link set far-$nic up
done
SYSTEMD_LOG_LEVEL=notice SYSTEMD_LOG_TARGET=console timeout 20 "$3" >&2 &
running=$!
shows() {
    state=$(ip -d address; ip route show table all; ip -6 route show table all)
    for word in $1; do echo "$state" | grep -q "$word" || return 1; done
}
until shows "$2" || ! kill -0 $running; do sleep 0.1; done
for of in "-d address" "route show table all" "-6 route show table all" "rule" "-6 rule"; do
    ip -j $of; echo
done
kill $running || true
"""
#: Configured on the far end of a pair, by a file of the test: networkd has read all files then.
MARK = "203.0.113.77"
MARK_FILE = f"[Match]\nName=far-eth1\n[Network]\nAddress={MARK}/32\nConfigureWithoutCarrier=yes\n"
#: Directives that systemd 255 added to [DHCPv6], and the messages of documents that contradict themselves.
EXPECTED = r"'(SendHostname|Hostname)' in section \[DHCPv6\]|link-local addressing is disabled"


def _run(folder: Path, links: tuple[Link, ...], *until: str) -> tuple[str, list[Any]]:
    """Return networkd's messages about its files, and what ``ip`` prints of addresses, routes and rules."""
    for link in links:
        for file in networkd.render(link):
            folder.joinpath(Path(file.path).name).write_text(file.text)
    (folder / "90-mark.network").write_text(MARK_FILE)
    words = " ".join((MARK, *until))
    argv = ["unshare", "--net", "--mount", "sh", "-c", SCRIPT, "sh", str(folder), words, str(NETWORKD)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    said = [line for line in done.stderr.splitlines() if "/etc/systemd/network" in line]
    return "\n".join(said), [json.loads(line) for line in done.stdout.splitlines() if line]


def _links(*nics: Nic) -> tuple[Link, ...]:
    return plan(
        nics, {n.number: Interface(f"eth{n.number}", "") for n in nics if not n.loopback}, slaac=False
    )


@pytest.mark.parametrize("case", RARE)
def test_it_knows_every_directive_and_value(tmp_path: Path, case: str) -> None:
    said, _ = _run(tmp_path, RARE[case])
    assert [line for line in said.splitlines() if not re.search(EXPECTED, line)] == []


def test_it_says_so_of_a_directive_that_it_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "20-odd.network").write_text("[Match]\nName=eth9\n[Network]\nOdd=1\n")
    said, _ = _run(tmp_path, ())
    assert "Unknown key 'Odd'" in said


def _facts(shown: list[Any], kind: int, name: str = "") -> list[dict[str, Any]]:
    return [one for one in shown[kind] if not name or one.get("ifname") == name]


def test_addresses_routes_and_rules_are_the_delivered_ones(tmp_path: Path) -> None:
    nic = Nic(
        0,
        name="eth0",
        accept_ra=False,
        addresses=("192.0.2.7/24", "192.0.2.8/24", "2001:db8::7/64"),
        routes=(
            Route("0.0.0.0/0", "192.0.2.1", table=101),
            Route("10.0.0.0/8", type="blackhole", metric=7),
            Route("10.1.0.0/16", type="unreachable", table=101),
            Route("10.2.0.0/16", type="throw", table=101),
            Route("2001:db8:1::/48", type="prohibit"),
            Route("198.51.100.9/32", type="local"),
            Route("10.9.0.0/16", "192.0.2.1", options=RouteOptions("192.0.2.8", None, 1400, 20, 30)),
        ),
        rules=(
            Rule(101, "192.0.2.7"),
            Rule(101, "192.0.2.0/24", "10.0.0.0/8", priority=50),
            Rule(101, mark=7),
            Rule(101, destination="2001:db8:2::/48", tos=8),
        ),
        options=NicOptions(
            set_mac="02:00:00:00:00:99",
            dhcp4=DHCP4,
            addresses=(
                AddressOptions("192.0.2.8/24", label="eth0:1"),
                AddressOptions("2001:db8::7/64", lifetime="0"),
            ),
            link_local=(),
            ipv6_mtu=1280,
            critical=True,
        ),
    )
    lo = Nic(1, loopback=True, addresses=("198.51.100.7/32",))
    shown = _run(tmp_path, _links(nic, lo), "198.51.100.7", "2001:db8::7", "10.9.0.0", "throw", "prohibit")[
        1
    ]
    (eth0,), (loop,) = _facts(shown, 0, "eth0"), _facts(shown, 0, "lo")
    assert eth0["address"] == "02:00:00:00:00:99"
    assert {(one["local"], one.get("label"), one.get("deprecated")) for one in eth0["addr_info"]} == {
        ("192.0.2.7", "eth0", None),
        ("192.0.2.8", "eth0:1", None),
        ("2001:db8::7", None, True),
    }
    assert {one["local"] for one in loop["addr_info"]} == {"127.0.0.1", "::1", "198.51.100.7"}
    routes = {(one["dst"], one.get("table", "main")): one for one in shown[1] + shown[2]}
    assert routes["default", "101"]["gateway"] == "192.0.2.1"
    assert ("default", "main") not in routes
    assert {
        of: routes[of]["type"]
        for of in routes
        if routes[of].get("type") in ("blackhole", "unreachable", "throw", "prohibit")
    } == {
        ("10.0.0.0/8", "main"): "blackhole",
        ("10.1.0.0/16", "101"): "unreachable",
        ("10.2.0.0/16", "101"): "throw",
        ("2001:db8:1::/48", "main"): "prohibit",
    }
    assert routes["10.9.0.0/16", "main"]["prefsrc"] == "192.0.2.8"
    assert [routes["10.9.0.0/16", "main"]["metrics"][0][key] for key in ("mtu", "initcwnd", "initrwnd")] == [
        1400,
        20,
        30,
    ]
    rules = [one for one in shown[3] + shown[4] if one["table"] == "101"]
    assert len(rules) == 4
    assert {(one["src"], one.get("dst"), one.get("fwmark"), one.get("tos")) for one in rules} == {
        ("192.0.2.7", None, None, None),
        ("192.0.2.0", "10.0.0.0", None, None),
        ("all", None, "0x7", None),
        ("all", "2001:db8:2::", None, "0x08"),
    }
    assert 50 in [one["priority"] for one in rules]


def test_a_bridge_and_its_port_have_the_delivered_options(tmp_path: Path) -> None:
    options = Bridge(True, 200, 4096, 5, 1, 10, ((1, 8),), ((1, 20),))
    bridge = Nic(3, name="br0", kind=Kind.BRIDGE, ports=(1,), accept_ra=False, bridge=options)
    shown = _run(tmp_path, _links(Nic(1, name="eth1"), bridge), "master.br0")[1]
    made = {one["ifname"]: one["linkinfo"] for one in shown[0] if "linkinfo" in one}
    of_bridge, of_port = made["br0"]["info_data"], made["eth1"]["info_slave_data"]
    assert [
        of_bridge[key] for key in ("stp_state", "priority", "ageing_time", "forward_delay", "max_age")
    ] == [1, 4096, 20_000, 500, 1000]
    assert (of_port["priority"], of_port["cost"]) == (8, 20)
