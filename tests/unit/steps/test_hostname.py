"""The name is set in all its places, other lines are kept, and so are the administrator's changes."""

from __future__ import annotations

import pytest

from agent.config.model import Naming
from agent.config.nics import Nic
from agent.steps import hostname

from .conftest import Machine

HOSTS = "127.0.0.1\tlocalhost\n127.0.1.1\tdebian\n\n# The following lines\n::1 localhost ip6-localhost\n"
NIC = Nic(0, addresses=("2001:db8::10/64", "203.0.113.10/24"))


@pytest.fixture
def named(machine: Machine) -> Machine:
    """A machine made from an image, with a document."""
    machine.put("/etc/hostname", "debian\n")
    machine.put("/etc/hosts", HOSTS)
    machine.deliver(hostname="vm1.example.com", nics=(NIC,))
    return machine


def test_a_first_boot_names_the_machine_everywhere(named: Machine) -> None:
    named.put("/etc/mailname", "debian\n")
    outcomes = named.run(hostname.apply)
    assert outcomes == {"hostname": "changed: vm1.example.com", "hosts": "changed", "mailname": "changed"}
    assert named.text("/etc/hostname") == "vm1.example.com\n"
    assert named.text("/etc/mailname") == "vm1.example.com\n"
    assert named.text("/etc/hosts") == HOSTS.replace(
        "127.0.1.1\tdebian", "203.0.113.10\tvm1.example.com vm1"
    )


def test_a_second_boot_rewrites_nothing(named: Machine) -> None:
    named.run(hostname.apply)
    before = named.stamps()
    assert set(named.run(hostname.apply).values()) == {"unchanged", "unchanged: vm1.example.com"}
    assert named.stamps() == before


def test_no_mailname_is_invented(named: Machine) -> None:
    assert "mailname" not in named.run(hostname.apply)
    assert not (named.root / "etc/mailname").exists()


def test_the_administrators_name_stays_until_the_platform_has_another(named: Machine) -> None:
    named.run(hostname.apply)
    named.put("/etc/hostname", "mine\n")
    assert named.run(hostname.apply)["hostname"] == "kept: changed by admin"
    assert named.text("/etc/hostname") == "mine\n"
    named.deliver(hostname="vm2")
    assert named.run(hostname.apply)["hostname"] == "changed: vm2"
    assert named.text("/etc/hostname") == "vm2\n"


def test_a_new_name_takes_the_place_of_the_old_line(named: Machine) -> None:
    named.run(hostname.apply)
    named.deliver(hostname="vm2")
    named.run(hostname.apply)
    assert named.text("/etc/hosts") == HOSTS.replace("127.0.1.1\tdebian", "203.0.113.10\tvm2")


def test_a_removed_or_changed_hosts_line_stays_so(named: Machine) -> None:
    named.run(hostname.apply)
    named.put("/etc/hosts", "127.0.0.1 localhost\n")
    assert named.run(hostname.apply)["hosts"] == "kept: changed by admin"
    named.put("/etc/hosts", "127.0.0.1 localhost\n10.0.0.1 vm1\n")
    assert named.run(hostname.apply)["hosts"] == "kept: changed by admin"
    assert named.text("/etc/hosts") == "127.0.0.1 localhost\n10.0.0.1 vm1\n"


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("127.0.0.1 localhost vm1\n", "127.0.0.1 localhost vm1\n127.0.1.1\tvm1\n"),
        ("10.0.0.1 other\n", "10.0.0.1 other\n127.0.1.1\tvm1\n"),
        ("# vm1\n10.0.0.9 vm1 # old\n", "# vm1\n127.0.1.1\tvm1\n"),
    ],
)
def test_only_this_machines_own_line_is_replaced(machine: Machine, hosts: str, expected: str) -> None:
    machine.put("/etc/hosts", hosts)
    machine.deliver(hostname="vm1")
    machine.run(hostname.apply)
    assert machine.text("/etc/hosts") == expected


def test_an_image_without_a_hosts_file_gets_localhost_too(machine: Machine) -> None:
    machine.deliver(hostname="vm1")
    machine.run(hostname.apply)
    assert machine.text("/etc/hosts").splitlines()[0] == "127.0.0.1\tlocalhost"


def test_no_name_is_no_change(machine: Machine) -> None:
    assert machine.run(hostname.apply) == {}


def test_a_name_that_the_kernel_cannot_take_is_cut_to_its_first_label(named: Machine) -> None:
    name = f"vm1.{'x' * 60}.example.com"
    named.deliver(hostname=name)
    assert named.run(hostname.apply)["hostname"] == "changed: vm1"
    assert named.text("/etc/hostname") == "vm1\n"
    assert f"\t{name} vm1\n" in named.text("/etc/hosts")


def test_hostname_and_fqdn(named: Machine) -> None:
    named.put("/etc/mailname", "debian\n")
    named.deliver(hostname="vm7", naming=Naming("vm7.lab.example"))
    named.run(hostname.apply)
    assert named.text("/etc/hostname") == "vm7\n"
    assert named.text("/etc/mailname") == "vm7.lab.example\n"
    assert named.text("/etc/hosts") == HOSTS.replace(
        "127.0.1.1\tdebian", "203.0.113.10\tvm7.lab.example vm7"
    )
    before = named.stamps()
    assert set(named.run(hostname.apply).values()) == {"unchanged", "unchanged: vm7"}
    assert named.stamps() == before
    named.deliver(naming=Naming("vm7.other.example"))
    named.run(hostname.apply)
    assert "vm7.other.example vm7\n" in named.text("/etc/hosts")
    assert "lab" not in named.text("/etc/hosts")


def test_the_fqdn_as_the_hostname(named: Machine) -> None:
    named.deliver(hostname="alias", naming=Naming("vm7.lab.example", prefer_fqdn=True))
    named.run(hostname.apply)
    assert named.text("/etc/hostname") == "vm7.lab.example\n"
    assert "203.0.113.10\tvm7.lab.example alias\n" in named.text("/etc/hosts")


@pytest.mark.parametrize(
    ("naming", "name", "line"),
    [
        (Naming(hosts="off"), "vm7", "127.0.1.1\tdebian"),
        (Naming(hosts="template"), "vm7", "203.0.113.10\tvm7"),
        (Naming(hosts="localhost"), "vm7", "127.0.1.1\tvm7"),
        (Naming(preserve=True), "debian", "127.0.1.1\tdebian"),
        (Naming(preserve=True, hosts="template"), "debian", "203.0.113.10\tvm7"),
    ],
)
def test_what_is_left_to_the_machine(named: Machine, naming: Naming, name: str, line: str) -> None:
    named.deliver(hostname="vm7", naming=naming)
    outcomes = named.run(hostname.apply)
    assert named.text("/etc/hostname") == f"{name}\n"
    assert line in named.text("/etc/hosts").split("\n")
    assert outcomes["hostname"].startswith("skipped" if naming.preserve else "changed")


def test_no_hostname_file_is_made(machine: Machine) -> None:
    machine.deliver(hostname="vm7", naming=Naming(create_file=False))
    machine.run(hostname.apply)
    assert not (machine.root / "etc/hostname").exists()
    machine.put("/etc/hostname", "debian\n")
    machine.run(hostname.apply)
    assert machine.text("/etc/hostname") == "vm7\n", "one that exists is written"
