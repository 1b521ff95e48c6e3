"""Gateways are found in the kernel's routes and asked by it, in network namespaces of the test."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator

import pytest

from agent.host.host import Host
from agent.network import gateways
from agent.network.gateways import Gateway


def _ip(*words: str) -> None:
    subprocess.run(("ip", *words), check=True, capture_output=True)


@pytest.fixture
def host(own_network: None) -> Iterator[Host]:
    """A machine with one NIC in a namespace, and a router behind it in another one."""
    del own_network
    outside = os.readlink("/proc/self/ns/net")
    with subprocess.Popen(("unshare", "--net", "sleep", "infinity")) as router:
        try:
            deadline = time.monotonic() + 10
            while os.readlink(f"/proc/{router.pid}/ns/net") == outside:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            _ip("link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(router.pid))
            for address in ("192.0.2.254/24", "2001:db8::ff/64"):
                _router(router.pid, "addr", "add", address, "dev", "far", *_nodad(address))
            _router(router.pid, "link", "set", "far", "up")
            for address in ("192.0.2.1/24", "2001:db8::1/64"):
                _ip("addr", "add", address, "dev", "near", *_nodad(address))
            _ip("link", "set", "near", "up")
            yield Host()
        finally:
            router.kill()


def _router(pid: int, *words: str) -> None:
    subprocess.run(("nsenter", f"--net=/proc/{pid}/ns/net", "ip", *words), check=True, capture_output=True)


def _nodad(address: str) -> tuple[str, ...]:
    return ("nodad",) if ":" in address else ()


def test_gateways_of_both_versions_are_found_and_asked(host: Host) -> None:
    assert gateways.defaults(host) == ()
    _ip("route", "add", "default", "via", "192.0.2.254")
    _ip("-6", "route", "add", "default", "via", "2001:db8::ff", "dev", "near")
    found = gateways.defaults(host)
    assert found == (Gateway(4, "192.0.2.254", "near"), Gateway(6, "2001:db8::ff", "near"))
    assert tuple(gateways.answering(host, found)) == found


@pytest.mark.parametrize("address", ["192.0.2.77", "2001:db8::77"])
def test_one_that_is_not_there_does_not_answer(host: Host, address: str) -> None:
    assert gateways.answers(host, Gateway(4, address, "near")) is False


def test_an_answer_of_before_does_not_count(host: Host) -> None:
    gateway = Gateway(4, "192.0.2.254", "near")
    assert gateways.answers(host, gateway)
    _ip("link", "set", "near", "down")
    assert gateways.answers(host, gateway) is False


def test_an_entry_that_was_made_by_hand_stays_and_says_nothing(host: Host) -> None:
    _ip("neigh", "add", "192.0.2.9", "lladdr", "02:00:00:00:00:09", "dev", "near", "nud", "permanent")
    assert gateways.answers(host, Gateway(4, "192.0.2.9", "near")) is None
    shown = subprocess.run(("ip", "neigh", "show", "192.0.2.9"), check=True, capture_output=True, text=True)
    assert "PERMANENT" in shown.stdout


def test_several_next_hops_of_a_route_are_each_a_gateway(host: Host) -> None:
    _ip("route", "add", "default", "nexthop", "via", "192.0.2.254", "nexthop", "via", "192.0.2.9")
    assert [one.address for one in gateways.defaults(host)] == ["192.0.2.254", "192.0.2.9"]


def test_they_are_asked_again_until_one_answers_or_the_time_is_over(host: Host) -> None:
    begun = time.monotonic()
    assert not gateways.wait(lambda: False, 5.0, 0.2)
    assert 1.0 <= time.monotonic() - begun < 5
    answers = iter((False, True))
    assert gateways.wait(lambda: next(answers), 9.0, 0.1)


def test_the_answer_to_a_question_during_which_the_network_changed_does_not_count(host: Host) -> None:
    asked = 0

    def changes_once() -> bool:
        nonlocal asked
        asked += 1
        if asked == 1:
            _ip("addr", "add", "192.0.2.50/24", "dev", "near")
        return True

    assert gateways.wait(changes_once, 14.0, 0.1)
    assert asked == 2
