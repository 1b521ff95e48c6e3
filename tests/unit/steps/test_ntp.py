"""Time servers, for systemd-timesyncd and chrony."""

from __future__ import annotations

import pytest

from agent.config.system import Ntp, System
from agent.lib.errors import ConfigError
from agent.steps import ntp
from tests.unit.steps.conftest import Machine

SERVERS = Ntp(("192.0.2.1", "2001:db8::1"), ("pool.example.org",))
CHRONY_CONF = "# chrony\npool 2.debian.pool.ntp.org iburst\nkeyfile /etc/chrony/chrony.keys\n"


@pytest.fixture
def timesyncd(machine: Machine) -> Machine:
    machine.put("/usr/lib/systemd/systemd-timesyncd")
    machine.deliver(system=System(ntp=SERVERS))
    return machine


def test_timesyncd(timesyncd: Machine) -> None:
    detail = "systemd-timesyncd: 192.0.2.1, 2001:db8::1, pool.example.org"
    assert timesyncd.run(ntp.apply) == {"ntp": f"changed: {detail}"}
    text = timesyncd.text(ntp.DROP_IN)
    assert text.endswith("[Time]\nNTP=\nNTP=192.0.2.1 2001:db8::1 pool.example.org\n")
    assert timesyncd.run(ntp.apply) == {"ntp": f"unchanged: {detail}"}
    timesyncd.put(ntp.DROP_IN, "[Time]\nNTP=192.0.2.9\n")
    assert timesyncd.run(ntp.apply) == {"ntp": "kept: changed by admin"}
    timesyncd.deliver(system=System(ntp=Ntp(("192.0.2.2",))))
    assert timesyncd.run(ntp.apply) == {"ntp": "changed: systemd-timesyncd: 192.0.2.2"}


@pytest.mark.parametrize("path", ["/etc/chrony/chrony.conf", "/etc/chrony.conf"])
def test_chrony_is_the_one_in_use_if_it_is_installed(timesyncd: Machine, path: str) -> None:
    timesyncd.put("/usr/sbin/chronyd")
    timesyncd.put(path, CHRONY_CONF)
    assert timesyncd.run(ntp.apply)["ntp"].startswith("changed: chrony: ")
    assert timesyncd.text(path) == (
        "# chrony\nkeyfile /etc/chrony/chrony.keys\n"
        "server 192.0.2.1 iburst\nserver 2001:db8::1 iburst\npool pool.example.org iburst\n"
    )
    assert timesyncd.run(ntp.apply)["ntp"].startswith("unchanged")
    timesyncd.put(path, timesyncd.text(path) + "server 192.0.2.9\n")
    assert timesyncd.run(ntp.apply) == {"ntp": "kept: changed by admin"}
    assert not (timesyncd.root / ntp.DROP_IN[1:]).exists()


def test_a_client_without_servers_keeps_its_own(timesyncd: Machine) -> None:
    timesyncd.put("/usr/sbin/chronyd")
    timesyncd.put("/etc/chrony/chrony.conf", CHRONY_CONF)
    timesyncd.deliver(system=System(ntp=Ntp(client="chrony")))
    assert timesyncd.run(ntp.apply) == {"ntp": "unchanged: chrony: its own servers"}
    assert timesyncd.text("/etc/chrony/chrony.conf") == CHRONY_CONF


def test_a_client_that_is_not_installed(timesyncd: Machine) -> None:
    timesyncd.deliver(system=System(ntp=Ntp(("192.0.2.1",), client="chrony")))
    with pytest.raises(ConfigError, match="chrony is not installed"):
        timesyncd.run(ntp.apply)
