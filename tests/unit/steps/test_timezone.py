"""The timezone: a link, and Debian's text where there is one."""

from __future__ import annotations

import os

import pytest

from agent.errors import ConfigError
from agent.steps import timezone
from tests.unit.steps.conftest import Machine


@pytest.fixture(autouse=True)
def _zones(machine: Machine) -> None:
    for zone in ("Europe/Paris", "Etc/UTC"):
        machine.put(f"/usr/share/zoneinfo/{zone}", "TZif")


def test_it_is_linked_and_then_left(machine: Machine) -> None:
    machine.put("/etc/timezone", "Etc/UTC\n")
    machine.deliver(timezone="Europe/Paris")
    assert machine.run(timezone.apply) == {"timezone": "changed: Europe/Paris"}
    assert os.readlink(machine.root / "etc/localtime") == "/usr/share/zoneinfo/Europe/Paris"
    assert machine.text("/etc/timezone") == "Europe/Paris\n"
    assert machine.run(timezone.apply) == {"timezone": "unchanged: Europe/Paris"}
    link = machine.root / "etc/localtime"
    link.unlink()
    link.symlink_to("../usr/share/zoneinfo/Etc/UTC")
    assert machine.run(timezone.apply) == {"timezone": "kept: changed by admin"}


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "../../../etc/shadow"])
def test_one_that_is_not_there_is_named(machine: Machine, zone: str) -> None:
    machine.deliver(timezone=zone)
    with pytest.raises(ConfigError, match=r"not known"):
        machine.run(timezone.apply)
    assert not (machine.root / "etc/localtime").exists()
