"""What is in force, compared with the files that the agent left: parameters, links and addresses."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from agent.cli import running_system
from agent.cli.comparison import Finding
from agent.config.nics import Nic, NicOptions

CAT_CONFIG = """\
# /usr/lib/sysctl.d/10-default.conf
-vm.swappiness = 60
# /proc/sys is where they are
net.ipv4.conf.*.rp_filter = 2

# /etc/sysctl.d/10-gandi.conf
# The reason.
-vm.swappiness = 10
-net/ipv4/conf/eth0.5/rp_filter = 2
; a comment = 1
# /etc/sysctl.d/99-sysctl.conf
kernel.core_uses_pid=1
"""


def test_the_last_file_that_sets_a_parameter_counts() -> None:
    assert running_system.last_assignments(CAT_CONFIG) == {
        "vm/swappiness": ("/etc/sysctl.d/10-gandi.conf", "10"),
        "net/ipv4/conf/*/rp_filter": ("/usr/lib/sysctl.d/10-default.conf", "2"),
        "net/ipv4/conf/eth0.5/rp_filter": ("/etc/sysctl.d/10-gandi.conf", "2"),
        "kernel/core_uses_pid": ("/etc/sysctl.d/99-sysctl.conf", "1"),
    }


def test_a_dot_in_an_interfaces_name_is_a_slash() -> None:
    assert running_system.assignments("net.ipv4.conf.eth0/5.rp_filter = 1\n") == {
        "net/ipv4/conf/eth0.5/rp_filter": "1"
    }


NIC = Nic(0, addresses=("203.0.113.10/24", "2001:db8::10/64"))


def link(*addresses: tuple[str, int], flags: tuple[str, ...] = ("UP", "LOWER_UP")) -> dict[str, Any]:
    """Return a link as ip(8) prints it."""
    found = [{"local": address, "prefixlen": length} for address, length in addresses]
    return {"ifname": "eth0", "flags": list(flags), "addr_info": found}


@pytest.mark.parametrize(
    ("there", "changes"),
    [
        (link(("203.0.113.10", 24), ("2001:db8::10", 64), ("fe80::1", 64)), {}),
        (link(("203.0.113.10", 24)), {"address:2001:db8::10/64": "is not on eth0"}),
        (
            link(("203.0.113.10", 32), ("2001:db8:0::10", 64)),
            {"address:203.0.113.10/24": "is not on eth0"},
        ),
        (link(flags=()), {"state of eth0": "is down"}),
        # Without carrier, a manager may not have given it any.
        (link(flags=("UP", "NO-CARRIER")), {}),
    ],
)
def test_links_and_addresses(there: dict[str, Any], changes: dict[str, str]) -> None:
    make = partial(Finding, stage="bootstrap", step="network")
    found = running_system._links_items(NIC, "eth0", there, make)
    assert {one.name: one.change for one in found if one.change} == changes


def test_a_nic_that_the_document_leaves_down_is_as_it_was_left() -> None:
    nic = Nic(0, options=NicOptions(activation_mode="manual"))
    make = partial(Finding, stage="bootstrap", step="network")
    assert not list(running_system._links_items(nic, "eth0", link(flags=()), make))
