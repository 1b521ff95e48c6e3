"""When the wait for network-online.target can be skipped: in doubt it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.host.host import Host
from agent.network import online

WAIT = "/etc/systemd/system/network-online.target.wants/systemd-networkd-wait-online.service"
STATE = "/run/systemd/netif/state"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Make a machine where only networkd's wait is in the target, and networkd is online."""
    host = Host(tmp_path)
    host.write(WAIT, "")
    host.write(STATE, "OPER_STATE=routable\nONLINE_STATE=online\nADDRESS_STATE=routable\n")
    return host


def test_networkd_that_is_online_is_not_waited_for(host: Host) -> None:
    assert online.is_online(host)


@pytest.mark.parametrize(
    "state", ["ONLINE_STATE=partial\n", "ONLINE_STATE=offline\n", "OPER_STATE=routable\n", ""]
)
def test_any_other_state_is_no_answer(host: Host, state: str) -> None:
    host.write(STATE, state)
    assert not online.is_online(host)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/systemd/system/network-online.target.wants/networking.service",
        "/usr/lib/systemd/system/network-online.target.wants/NetworkManager-wait-online.service",
        "/run/systemd/system/network-online.target.wants/ifupdown-wait-online.service",
        "/etc/systemd/system/network-online.target.d/more.conf",
        "/etc/systemd/system/network-online.target.requires/vpn.service",
    ],
)
def test_whoever_else_waits_in_the_target_is_waited_for(host: Host, path: str) -> None:
    host.write(path, "")
    assert not online.is_online(host)


def test_a_machine_without_networkd_is_waited_for(host: Host) -> None:
    host.remove(WAIT)
    assert not online.is_online(host)
