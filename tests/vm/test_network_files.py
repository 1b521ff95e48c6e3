"""The rendered files, read by the network managers themselves: Debian 13's programs, in the guest's tree on
the build host. Every document of tests/unit/network/cases.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.host.host import Host
from agent.lib.records import replace
from agent.network import load
from agent.network.interfaces import Link
from agent.network.plan import plan
from tests.unit.network.cases import CASES, INTERFACES
from tests.unit.network.random_nics import document
from tests.unit.network.readback import links_of
from tests.unit.network.readback_cases import RARE
from tests.vm.rig import ImageSpec, Network
from tests.vm.rig.tree import chroot, merged

DOCUMENTS = CASES | RARE
#: nm-settings-keyfile(5): the names that current versions of NetworkManager write.
_NEW_NAMES = {
    "master": "controller",
    "slave-type": "port-type",
    "autoconnect-slaves": "autoconnect-ports",
    # A ternary since 1.52, which keeps the old property beside it.
    "dhcp-send-hostname": "dhcp-send-hostname-deprecated",
}
#: Values that are not written, because they are the default.
_DEFAULTS = ("dhcp-send-hostname-deprecated=true", "stp=true")
#: Runs networkd in a network namespace of its own until it has read everything; exit 124 is timeout(1)'s.
_RUN_FOLDER = """
mkdir -p /run/systemd/netif && chown -R systemd-network: /run/systemd/netif && chmod 755 /run/systemd
"""
_NETWORKD = """
unshare --net sh -c '
  mount -t sysfs none /sys
  SYSTEMD_LOG_TARGET=console exec timeout 5 /usr/lib/systemd/systemd-networkd' 2>&1
"""


def _put(root: Path, manager: str, links: tuple[Link, ...], prefix: str = "") -> list[str]:
    """Write a document's files below a root; return their texts."""
    files = [file for link in links for file in load(manager).render(link)]
    for file in files:
        path = root / file.path.lstrip("/")
        path = path.with_name(prefix + path.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text)
        path.chmod(file.mode)
    return [file.text for file in files]


def _run(tree: Path, script: str) -> tuple[str, int]:
    """Run a script in the tree; return its output and exit status."""
    said = chroot(tree, ["sh", "-c", f"( {script}\n) 2>&1; code=$?; echo; echo $code"])
    output, _, status = said.rstrip("\n").rpartition("\n")
    return output.rstrip("\n"), int(status)


@pytest.fixture(scope="module")
def networkd_tree() -> Iterator[Path]:
    """Debian 13."""
    with merged(ImageSpec()) as root:
        yield root


@pytest.fixture(scope="module")
def netplan_tree() -> Iterator[Path]:
    """Debian 13 with netplan."""
    with merged(ImageSpec(network=Network.NETPLAN)) as root:
        yield root


@pytest.fixture(scope="module")
def networkmanager_tree() -> Iterator[Path]:
    """Debian 13 with NetworkManager."""
    with merged(ImageSpec(network=Network.NETWORKMANAGER)) as root:
        yield root


@pytest.fixture(scope="module")
def ifupdown_tree() -> Iterator[Path]:
    """Debian 13 with ifupdown."""
    with merged(ImageSpec(network=Network.IFUPDOWN)) as root:
        yield root


def test_networkd_knows_every_key(networkd_tree: Path) -> None:
    for case, links in CASES.items():
        _put(networkd_tree, "networkd", links, f"50-{case}-")
    wrong = networkd_tree / "etc/systemd/network/99-wrong.network"
    wrong.write_text("[Match]\nName=x\n[Network]\nNoSuchKey=1\n")
    said, status = _run(networkd_tree, _RUN_FOLDER + _NETWORKD)
    assert status == 124, said
    complaints = [line for line in said.splitlines() if "/etc/systemd/network/" in line]
    # Every document has its own bond0.
    complaints = [line for line in complaints if "was already configured by" not in line]
    assert len(complaints) == 1, "\n".join(complaints)
    assert "99-wrong.network:4: Unknown key 'NoSuchKey'" in complaints[0]


@pytest.mark.parametrize("case", DOCUMENTS)
@pytest.mark.parametrize("backend", ["networkd", "NetworkManager"])
def test_netplan_says_the_same_to_its_backend(netplan_tree: Path, backend: str, case: str) -> None:
    root = netplan_tree / "cases" / backend / case
    chosen = root / "etc/netplan/00-backend.yaml"
    chosen.parent.mkdir(parents=True)
    chosen.write_text(f"network: {{version: 2, renderer: {backend}}}\n")
    chosen.chmod(0o600)
    links = tuple(load("netplan").possible(Host(root), link)[0] for link in DOCUMENTS[case])
    _put(root, "netplan", links)
    inside = f"/cases/{backend}/{case}"
    said, status = _run(netplan_tree, f"/usr/libexec/netplan/generate --root-dir {inside}")
    assert (said, status) == ("", 0)
    made = [
        path
        for folder in ("systemd/network", "NetworkManager/system-connections")
        if (root / "run" / folder).is_dir()
        for path in (root / "run" / folder).iterdir()
    ]
    words = set(re.split(r"[=,;\s/]+", "\n".join(path.read_text() for path in made)))
    for link in links:
        assert _words(link) <= words, f"{link.name}: {sorted(_words(link) - words)}"


def _words(link: Link) -> set[str]:
    """Return addresses, gateways, tables and resolvers, which all managers spell alike."""
    if link.master:
        return set()
    nic = link.nic
    found = {address.partition("/")[0] for address in nic.addresses}
    found |= (
        {route.gateway for route in link.routes if route.gateway} | set(nic.nameservers) | set(nic.search)
    )
    found |= {str(nic.vlan)} if nic.vlan is not None else set()
    return found | ({str(link.table.number), "10000"} if link.table else set())


@pytest.mark.parametrize("case", DOCUMENTS)
def test_networkmanager_reads_what_was_written(networkmanager_tree: Path, case: str) -> None:
    for text in _put(networkmanager_tree / "cases" / case, "networkmanager", DOCUMENTS[case]):
        (networkmanager_tree / "keyfile").write_text(text)
        modify = "nmcli --offline connection modify connection.zone '' < /keyfile"
        said, status = _run(networkmanager_tree, modify)
        assert status == 0, said
        read = {*said.splitlines(), *_DEFAULTS}
        lost = [line for line in map(_renamed, text.splitlines()) if "=" in line and line not in read]
        assert not lost


def _renamed(line: str) -> str:
    key, equals, value = line.partition("=")
    # An address with the prefix of a single one is written without it.
    return _NEW_NAMES.get(key, key) + equals + re.sub(r"(:[0-9a-f]+)/128\b(?= )", r"\1", value)


def test_networkmanager_refuses_no_profile(networkmanager_tree: Path) -> None:
    """One value that it refuses would cost the NIC."""
    folder = networkmanager_tree / "random"
    folder.mkdir()
    for seed in range(60):
        for link in links_of(document(seed)):
            (file,) = load("networkmanager").render(link)
            (folder / f"{seed}-{link.name}").write_text(file.text)
    modify = "nmcli --offline connection modify connection.zone '' < $file > /dev/null || echo $file"
    said, status = _run(networkmanager_tree, f"for file in /random/*; do {modify}; done")
    assert (said, status) == ("", 0)


@pytest.mark.parametrize("case", DOCUMENTS)
def test_ifupdown_would_run_every_line(ifupdown_tree: Path, case: str) -> None:
    root = ifupdown_tree / "cases" / case
    texts = _put(root, "ifupdown", DOCUMENTS[case])
    folder = f"/cases/{case}/etc/network"
    (ifupdown_tree / folder.lstrip("/") / "interfaces").write_text(f"source {folder}/interfaces.d/*\n")
    names = " ".join(link.name for link in DOCUMENTS[case])
    read = f"mkdir -p /run/network; ifup -i {folder}/interfaces --no-act --force {names}"
    said, status = _run(ifupdown_tree, read)
    assert status == 0, said
    commands = re.findall(r"^    (?:pre-up|up) (.*)$", "\n".join(texts), re.MULTILINE)
    # ifupdown itself would run those of the interfaces below once more, where it is set to.
    lost = [line for line in commands if line not in said and not line.startswith("ifup ")]
    assert not lost, said
    assert all(
        a.partition("/")[0] in said
        for link in DOCUMENTS[case]
        if not link.master
        for a in link.nic.addresses
    )


#: Begins a script in a network namespace of its own: two NICs with something at the other end.
_PLAYED = """
unshare --net sh -ec '
  mount -t sysfs -o ro none /sys
  for n in 0 1; do ip link add eth$n type veth peer name far$n; ip link set far$n up; done
  ip link set lo up
  state() {{ ip rule; ip -6 rule; ip -4 route show table all; ip -6 route show table all; }}
  {script}'
"""
_IFUPDOWN = "ifup -i {file} -a; state; echo ==; ifdown -i {file} -a; state"
#: A daemon finds both NICs by itself: wait until each has its routes, in both tables and families.
_DAEMON = """
  timeout 30 {daemon} &
  tries=0
  until test $(state 2>&1 | grep -c "default via") -ge 8
  do tries=$((tries + 1)); test $tries -lt 250; sleep 0.1; done
  state; kill $!; wait"""
#: A machine-id, a D-Bus daemon, and the setting that has NetworkManager manage veth pairs.
_MACHINE_ID = "echo 0123456789abcdef0123456789abcdef > /etc/machine-id\n"
_BUS = """
printf "[device]\nmatch-device=*\nmanaged=1\n" > /etc/NetworkManager/conf.d/99-veth.conf
rm -rf /run/dbus /run/NetworkManager; mkdir -p /run/dbus && dbus-daemon --system --fork
"""
#: Which the kernel then holds.
_WAYS = (
    r"10000:\s+from 203.0.113.10 to 198.51.100.0/24 lookup 10000",
    r"10000:\s+from 198.51.100.10 lookup 10001",
    r"10000:\s+from 2001:db8:1::10 lookup 10001",
    r"default via 203.0.113.254 dev eth0 (proto static )?metric 100",
    r"default via 198.51.100.1 dev eth1 (proto static )?metric 200",
    r"default via 198.51.100.1 dev eth1 table 10001",
    r"198.51.100.0/24 dev eth1 table 10001",
    r"default via fe80::1 dev eth1 table 10001 .*onlink",
)


def test_ifupdown_makes_several_ways_out_and_takes_them_away(ifupdown_tree: Path) -> None:
    root = ifupdown_tree / "cases/played"
    _put(root, "ifupdown", CASES["two-gateways"])
    (root / "etc/network/interfaces").write_text("source /cases/played/etc/network/interfaces.d/*\n")
    script = _IFUPDOWN.format(file="/cases/played/etc/network/interfaces")
    said, status = _run(ifupdown_tree, "mkdir -p /run/network" + _PLAYED.format(script=script))
    assert status == 0, said
    up, _, down = said.partition("==")
    assert [line for line in _WAYS if not re.search(line, up)] == [], up
    assert "1000" not in down, down


#: What the kernel holds of documents with rare values while they are up.
_RARE_LINES = {
    "routes-in-tables": (
        r"32765:\s+from 203.0.113.10 lookup 101",
        r"50:\s+from 2001:db8::10 to 2001:db8:9::/48 lookup 101",
        r"60:\s+from all tos 0x10 fwmark 0x5 lookup 102",
        r"default via 203.0.113.254 dev eth0 (proto static )?(metric 100 )?$",
        r"default via 203.0.113.253 dev eth0 table 101",
        r"default via fe80::1 dev eth0 table 101 .*metric 7 onlink",
        r"10.0.0.0/8 dev eth0 table 102",
    ),
    "routes-that-lead-nowhere": (
        r"blackhole 10.0.0.0/8",
        r"unreachable 10.1.0.0/16 .*metric 5",
        r"prohibit 10.2.0.0/16 table 7",
        r"throw 10.3.0.0/16 table 7 .*metric 9",
        r"local 10.4.0.0/16 dev eth0 table local",
        r"blackhole 2001:db8:1::/48 .*metric 11",
        r"unreachable 2001:db8:2::/48 dev lo table 7",
    ),
    "options-of-routes": (
        r"10.0.0.0/8 via 203.0.113.1 dev eth0 .*src 203.0.113.10 .*mtu 1400 initcwnd 20 initrwnd 30",
        r"10.1.0.0/16 dev eth0 .*scope host .*metric 3",
        r"2001:db8:1::/48 via fe80::1 dev eth0 .*src 2001:db8::10 metric 9 onlink mtu 1300",
    ),
    "routes-without-addresses": (
        r"2001:db8:1::/48 dev eth0",
        r"2001:db8:2::/48 via fe80::1 dev eth0",
        r"10.0.0.0/8 dev eth1",
        r"blackhole 10.9.0.0/16",
        r"99:\s+from 10.0.0.0/8 lookup 7",
    ),
}


@pytest.mark.parametrize("case", _RARE_LINES)
def test_ifupdown_makes_rare_routes_and_takes_them_away(ifupdown_tree: Path, case: str) -> None:
    root = ifupdown_tree / "cases/rare" / case
    _put(root, "ifupdown", RARE[case][:2])
    file = f"/cases/rare/{case}/etc/network/interfaces"
    (root / "etc/network/interfaces").write_text(f"source {file}.d/*\n")
    fresh = "rm -rf /run/network; mkdir -p /run/network"
    said, status = _run(ifupdown_tree, fresh + _PLAYED.format(script=_IFUPDOWN.format(file=file)))
    up, _, down = said.partition("==")
    assert status == 0, said
    assert [line for line in _RARE_LINES[case] if not re.search(line, up, re.MULTILINE)] == [], up
    assert [line for line in _RARE_LINES[case] if re.search(line, down, re.MULTILINE)] == [], down


def _named() -> tuple[Link, ...]:
    """Return the document with two gateways for NICs by name: the test's NICs have other MACs."""
    nics = [replace(link.nic, name=link.name) for link in CASES["two-gateways"]]
    return plan(nics, dict(enumerate(INTERFACES)), slaac=False)


def test_networkd_makes_several_ways_out(networkd_tree: Path) -> None:
    for path in (networkd_tree / "etc/systemd/network").iterdir():
        path.unlink()
    _put(networkd_tree, "networkd", _named())
    script = _DAEMON.format(daemon="/usr/lib/systemd/systemd-networkd")
    said, status = _run(networkd_tree, _MACHINE_ID + _RUN_FOLDER + _PLAYED.format(script=script))
    assert status == 0, said
    assert [line for line in _WAYS if not re.search(line, said)] == [], said


def test_networkmanager_makes_several_ways_out(networkmanager_tree: Path) -> None:
    _put(networkmanager_tree, "networkmanager", _named())
    script = _DAEMON.format(daemon="NetworkManager --no-daemon")
    said, status = _run(networkmanager_tree, _MACHINE_ID + _BUS + _PLAYED.format(script=script))
    assert status == 0, said
    assert [line for line in _WAYS if not re.search(line, said)] == [], said


@pytest.mark.parametrize("case", _RARE_LINES)
def test_networkmanager_makes_rare_routes(networkmanager_tree: Path, case: str) -> None:
    nics = [replace(link.nic, name=link.name) for link in RARE[case][:2]]
    for path in (networkmanager_tree / "etc/NetworkManager/system-connections").iterdir():
        path.unlink()
    links = plan(nics, dict(enumerate(INTERFACES)), slaac=False)
    _put(networkmanager_tree, "networkmanager", links)
    # It marks its routes and rules.
    count = sum(len(link.all_routes) + len(link.all_rules) for link in links)
    script = f"""
  timeout 30 NetworkManager --no-daemon &
  tries=0
  until test $(state 2>&1 | grep -c "proto static") -ge {count}
  do tries=$((tries + 1)); test $tries -lt 250; sleep 0.1; done
  state; kill $!; wait"""
    said, status = _run(networkmanager_tree, _MACHINE_ID + _BUS + _PLAYED.format(script=script))
    assert status == 0, said
    assert [line for line in _RARE_LINES[case] if not re.search(line, said, re.MULTILINE)] == [], said
