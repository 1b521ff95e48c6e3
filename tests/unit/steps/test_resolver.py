"""Which resolvers are chosen, and which program's file they are written to."""

from __future__ import annotations

from collections import Counter

import pytest

from agent.config.model import Identity, InstanceConfig
from agent.config.nics import Nic
from agent.lib.records import replace
from agent.network import dhcp_leases
from agent.steps import resolver

from .conftest import IDENTITY, Machine

OLD = ("217.70.186.193", "217.70.186.194", "217.70.186.195")
NEW = ("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4")
IPV4 = Nic(0, addresses=("203.0.113.10/24",))
IPV6 = Nic(0, addresses=("2001:db8::10/64",))


def _config(*nics: Nic, servers: tuple[str, ...] = OLD + NEW, id: str = IDENTITY.id) -> InstanceConfig:
    return InstanceConfig(Identity("gandi", id), nameservers=servers, nics=nics)


@pytest.mark.parametrize(
    ("nics", "servers", "old", "new"),
    [
        ((IPV4,), OLD + NEW, 2, 1),
        ((IPV6, Nic(1, addresses=("192.168.1.5/24",))), OLD + NEW, 2, 1),
        ((Nic(0, dhcp4=True),), OLD + NEW, 2, 1),
        ((), OLD + NEW, 2, 1),
        ((IPV6,), OLD + NEW, 0, 3),
        ((IPV6,), NEW[:2], 0, 2),
        ((IPV6,), OLD, 0, 0),
        ((IPV4,), OLD[:1], 1, 0),
    ],
)
def test_the_choice_follows_what_the_machine_can_reach(
    nics: tuple[Nic, ...], servers: tuple[str, ...], old: int, new: int
) -> None:
    chosen = resolver.choose(_config(*nics, servers=servers))
    assert [":" in server for server in chosen] == [False] * old + [True] * new
    assert len(set(chosen)) == len(chosen)


def test_the_choice_is_spread_over_machines_and_stable_for_one() -> None:
    first = Counter(resolver.choose(_config(IPV4, id=str(n)))[0] for n in range(300))
    assert set(first) == set(OLD)
    assert min(first.values()) > 60
    shuffled = _config(IPV4, servers=(*reversed(NEW), *reversed(OLD)))
    assert resolver.choose(shuffled) == resolver.choose(_config(IPV4))


@pytest.fixture
def asking(machine: Machine) -> Machine:
    """A machine with resolvers in its document, one of each family so that the order is fixed."""
    machine.put("/etc/.exists")
    machine.deliver(nameservers=(OLD[0], NEW[0]), nics=(IPV4,))
    return machine


TEXT = f"nameserver {OLD[0]}\nnameserver {NEW[0]}\noptions timeout:1 attempts:3 rotate\n"


def test_a_plain_file_keeps_its_search_list(asking: Machine) -> None:
    asking.put("/etc/resolv.conf", "# mine\nsearch example.com\nnameserver 10.0.0.1\noptions ndots:2\n")
    assert asking.run(resolver.apply)["resolvers"].startswith("changed")
    assert asking.text("/etc/resolv.conf") == "# mine\nsearch example.com\n" + TEXT
    before = asking.stamps()
    assert asking.run(resolver.apply)["resolvers"].startswith("unchanged")
    assert asking.stamps() == before


def test_the_administrators_resolver_stays_until_the_platform_has_another(asking: Machine) -> None:
    asking.run(resolver.apply)
    asking.put("/etc/resolv.conf", "nameserver 9.9.9.9\n")
    assert asking.run(resolver.apply) == {"resolvers": "kept: changed by admin"}
    assert asking.text("/etc/resolv.conf") == "nameserver 9.9.9.9\n"
    asking.deliver(nameservers=(OLD[1],))
    asking.run(resolver.apply)
    assert asking.text("/etc/resolv.conf").startswith(f"nameserver {OLD[1]}\n")


def test_a_link_elsewhere_is_written_through(asking: Machine) -> None:
    asking.put("/srv/resolv.conf")
    (asking.root / "etc/resolv.conf").symlink_to("../srv/resolv.conf")
    asking.run(resolver.apply)
    assert (asking.root / "etc/resolv.conf").is_symlink()
    assert asking.text("/srv/resolv.conf") == TEXT


def test_resolved_gets_a_drop_in_before_it_has_started(asking: Machine) -> None:
    asking.put("/usr/lib/systemd/systemd-resolved")
    (asking.root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    asking.run(resolver.apply)
    assert f"\nDNS={OLD[0]} {NEW[0]}\n" in asking.text(resolver.RESOLVED_DROP_IN)
    assert not (asking.root / "run/systemd").exists()


def test_a_link_left_by_a_resolved_that_is_gone_becomes_a_file(asking: Machine) -> None:
    (asking.root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    asking.run(resolver.apply)
    assert not (asking.root / "etc/resolv.conf").is_symlink()
    assert asking.text("/etc/resolv.conf") == TEXT


def test_debians_resolvconf_gets_its_base_file(asking: Machine) -> None:
    asking.put("/etc/resolvconf/resolv.conf.d/base")
    (asking.root / "etc/resolv.conf").symlink_to("/run/resolvconf/resolv.conf")
    asking.run(resolver.apply)
    assert asking.text(resolver.RESOLVCONF_BASE) == TEXT
    assert (asking.root / "etc/resolv.conf").is_symlink()


def test_resolvers_that_cannot_be_reached_are_said_and_not_written(asking: Machine) -> None:
    asking.deliver(nameservers=OLD, nics=(IPV6,))
    assert asking.run(resolver.apply)["resolvers"].startswith("skipped: this machine has no IPv4")
    assert not (asking.root / "etc/resolv.conf").exists()


@pytest.fixture
def elsewhere(asking: Machine) -> Machine:
    """A machine of another platform, with resolvers for all NICs and for one."""
    asking.config = replace(asking.config, identity=Identity("openstack", "one"))
    nic = replace(IPV4, nameservers=("192.0.2.53",), search=("nic.example",))
    asking.deliver(nameservers=NEW + OLD, search=("a.example", "b.example"), nics=(nic,))
    return asking


def test_other_platforms_get_exactly_what_they_say(elsewhere: Machine) -> None:
    elsewhere.put("/etc/resolv.conf", "search mine\nnameserver 10.0.0.1\noptions ndots:2\n")
    elsewhere.run(resolver.apply)
    servers = "".join(f"nameserver {server}\n" for server in (*NEW, *OLD, "192.0.2.53"))
    expected = f"options ndots:2\nsearch a.example b.example nic.example\n{servers}"
    assert elsewhere.text("/etc/resolv.conf") == expected
    assert elsewhere.run(resolver.apply)["resolvers"].startswith("unchanged")


def test_what_a_nic_brings_is_left_to_who_knows_it(elsewhere: Machine) -> None:
    elsewhere.put("/usr/lib/systemd/systemd-resolved")
    (elsewhere.root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    elsewhere.run(resolver.apply)
    text = elsewhere.text(resolver.RESOLVED_DROP_IN)
    assert f"DNS={' '.join(NEW + OLD)}\nDomains=a.example b.example\n" in text
    elsewhere.deliver(nameservers=(), search=())
    assert elsewhere.run(resolver.apply) == {}


def test_resolvers_of_nics_alone_are_written_where_nobody_else_does(elsewhere: Machine) -> None:
    elsewhere.deliver(nameservers=(), search=())
    elsewhere.run(resolver.apply)
    assert elsewhere.text("/etc/resolv.conf") == "search nic.example\nnameserver 192.0.2.53\n"


def test_networkmanager_is_told_in_a_file_of_its_own(asking: Machine) -> None:
    wants = asking.root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "NetworkManager.service").symlink_to("/usr/lib/systemd/system/NetworkManager.service")
    asking.run(resolver.apply)
    assert not (asking.root / "etc/resolv.conf").exists()
    assert asking.text(resolver.NETWORKMANAGER_CONF).splitlines()[1:] == [
        "[global-dns]",
        "options=timeout:1,attempts:3,rotate",
        "",
        "[global-dns-domain-*]",
        f"servers={OLD[0]},{NEW[0]}",
    ]
    asking.config = replace(asking.config, identity=Identity("openstack", "one"))
    asking.deliver(nameservers=(), nics=(replace(IPV4, nameservers=OLD),))
    assert asking.run(resolver.apply) == {}, "it has them in the NIC's profile"


def _resolved(machine: Machine) -> None:
    machine.put("/usr/lib/systemd/systemd-resolved")
    (machine.root / "etc/resolv.conf").unlink(missing_ok=True)
    (machine.root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")


def test_who_keeps_the_resolvers_from_now_on_is_told_them(asking: Machine) -> None:
    """systemd-resolved is installed later."""
    asking.run(resolver.apply)
    _resolved(asking)
    assert asking.run(resolver.apply)["resolvers"].startswith("changed")
    assert OLD[0] in asking.text(resolver.RESOLVED_DROP_IN)
    before = asking.stamps()
    assert asking.run(resolver.apply)["resolvers"].startswith("unchanged")
    assert asking.stamps() == before


def test_a_resolv_conf_that_the_administrator_wrote_instead_of_the_link_stays(asking: Machine) -> None:
    _resolved(asking)
    asking.run(resolver.apply)
    (asking.root / "etc/resolv.conf").unlink()
    asking.put("/etc/resolv.conf", "nameserver 9.9.9.9\n")
    for _ in range(2):
        assert asking.run(resolver.apply) == {"resolvers": "kept: changed by admin"}
    assert asking.text("/etc/resolv.conf") == "nameserver 9.9.9.9\n"


@pytest.fixture
def leasing(asking: Machine) -> Machine:
    """A machine with ifupdown in charge, and both of its DHCP clients installed."""
    for program in ("ifup", "dhcpcd", "dhclient"):
        asking.put(f"/usr/sbin/{program}")
    wants = asking.root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "networking.service").symlink_to("/usr/lib/systemd/system/networking.service")
    return asking


ENTER, ENTERS = (hook.path for hook in dhcp_leases.HOOKS)


def test_a_lease_does_not_take_the_place_of_the_documents_resolvers(leasing: Machine) -> None:
    assert [word.split(":")[0] for word in leasing.run(resolver.apply).values()] == ["changed"] * 3
    assert leasing.text(ENTER).endswith('skip_hooks="$skip_hooks resolv.conf"\n')
    assert leasing.text(ENTERS).endswith("make_resolv_conf() { :; }\n")
    before = leasing.stamps()
    assert [word.split(":")[0] for word in leasing.run(resolver.apply).values()] == ["unchanged"] * 3
    assert leasing.stamps() == before


def test_a_hook_of_the_administrators_is_left_and_told_what_it_needs(leasing: Machine) -> None:
    leasing.put(ENTER, "echo mine\n")
    assert (
        "to ignore the resolvers of leases, add the line: skip_hooks="
        in leasing.run(resolver.apply)["resolvers of leases (dhcpcd)"]
    )
    assert leasing.text(ENTER) == "echo mine\n"


def test_resolvconf_gets_the_resolvers_of_leases_again(leasing: Machine) -> None:
    leasing.run(resolver.apply)
    leasing.put(ENTERS, "make_resolv_conf() { mine; }\n")
    leasing.put("/etc/resolvconf/resolv.conf.d/base")
    (leasing.root / "etc/resolv.conf").unlink()
    (leasing.root / "etc/resolv.conf").symlink_to("/run/resolvconf/resolv.conf")
    said = leasing.run(resolver.apply)
    assert said["resolvers of leases (dhcpcd)"].startswith("changed")
    assert said["resolvers of leases (dhclient)"].startswith("kept")
    assert not (leasing.root / ENTER[1:]).exists()
    assert leasing.text(ENTERS) == "make_resolv_conf() { mine; }\n"


def test_a_hook_of_which_a_power_cut_took_the_record_goes_as_well(leasing: Machine) -> None:
    leasing.run(resolver.apply)
    (record,) = leasing.root.glob("var/lib/gandi/instances/*/applied.json")
    record.unlink()
    leasing.run(resolver.apply)
    leasing.put("/etc/resolvconf/resolv.conf.d/base")
    (leasing.root / "etc/resolv.conf").unlink()
    (leasing.root / "etc/resolv.conf").symlink_to("/run/resolvconf/resolv.conf")
    leasing.run(resolver.apply)
    assert not [name for name in (ENTER, ENTERS) if (leasing.root / name[1:]).exists()]


def test_other_managers_have_no_such_hook(asking: Machine) -> None:
    asking.put("/usr/sbin/dhcpcd")
    asking.run(resolver.apply)
    assert not (asking.root / ENTER[1:]).exists()
