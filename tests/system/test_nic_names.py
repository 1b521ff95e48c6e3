"""Renaming NICs in a network namespace: one that is down, two that exchange names, one that is up."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from agent.host.host import Host
from agent.network import link_files
from agent.network.interfaces import Interface
from agent.report import Item


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], capture_output=True, text=True, timeout=10, check=True).stdout


def _add(name: str, number: int) -> Interface:
    mac = f"02:00:00:00:00:0{number}"
    _ip("link", "add", name, "address", mac, "type", "veth", "peer", "name", f"far-{name}")
    return Interface(name, mac, number)


def _macs(*names: str) -> list[str]:
    return [
        line.split()[2] for name in names for line in _ip("-br", "link", "show", "dev", name).splitlines()
    ]


@pytest.fixture
def sysfs(own_network: None) -> Iterator[None]:
    """The sysfs of the namespace: that of the host has no flags of its NICs."""
    subprocess.run(["mount", "-t", "sysfs", "-o", "ro", "sysfs", "/sys"], check=True, timeout=10)
    yield
    subprocess.run(["umount", "/sys"], check=True, timeout=10)


def _rename(names: dict[Interface, str]) -> tuple[link_files.Renamed, list[Item]]:
    done: list[Item] = []
    asked = {one: (f"nic:{one.index} set_name", name) for one, name in names.items()}
    return link_files._rename(Host(), asked, done), done


@pytest.mark.usefixtures("sysfs")
def test_nics_that_are_down_get_their_names_also_each_other_s() -> None:
    one, two, three = (_add(f"nic{number}", number) for number in (1, 2, 3))
    now, done = _rename({one: "nic2", two: "nic1", three: "lan0"})
    assert _macs("nic1", "nic2", "lan0") == [two.mac, one.mac, three.mac]
    assert {was.name: is_now.name for was, is_now in now.items()} == {
        "nic1": "nic2",
        "nic2": "nic1",
        "nic3": "lan0",
    }
    assert [str(item) for item in done] == [
        "changed: nic:1 set_name: nic1 is named nic2",
        "changed: nic:2 set_name: nic2 is named nic1",
        "changed: nic:3 set_name: nic3 is named lan0",
    ]


@pytest.mark.usefixtures("sysfs")
def test_a_nic_that_is_up_or_the_name_of_another_one_is_left() -> None:
    up, other = _add("nic4", 4), _add("nic5", 5)
    _ip("link", "set", "dev", "nic4", "up")
    now, (item,) = _rename({up: "lan0"})
    assert (now, str(item)) == ({}, "skipped: nic:4 set_name: nic4 is up: it is named lan0 at the next boot")
    now, (item,) = _rename({other: "nic4"})
    assert now == {}
    assert item.outcome == "failed"
    assert "File exists" in item.detail
    assert _macs("nic4", "nic5") == [up.mac, other.mac]
