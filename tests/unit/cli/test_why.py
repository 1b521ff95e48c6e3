"""``why``: the source, the place in the document, the step, and whether it was changed since."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from agent.__main__ import main
from agent.accounts import passwd
from agent.cli import why
from agent.host.host import Host
from agent.network import networkd
from tests.unit.cli.conftest import KEY, MAC, OTHER_MAC
from tests.unit.steps.conftest import Machine

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

PRINT = passwd.fingerprint(KEY)


def asked(machine: Machine, what: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return the answers."""
    assert main(["why", "--json", what], Host(machine.root)) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["what"] == what
    answers: list[dict[str, Any]] = said["answers"]
    return answers


@root_only
@pytest.mark.parametrize(
    ("what", "name", "place", "step"),
    [
        ("hostname", "hostname", ["hostname"], "hostname"),
        ("/etc/hostname", "hostname", ["hostname"], "hostname"),
        ("/etc/issue.net", "file:/etc/issue.net", ["files[0]"], "files"),
        ("203.0.113.10", "nic:0", ["nics[0]"], "network"),
        ("203.0.113.10/24", "nic:0", ["nics[0]"], "network"),
        ("ens0", "nic:0", ["nics[0]"], "network"),
        (MAC.upper(), "nic:0", ["nics[0]"], "network"),
        (networkd.paths("nic0")[-1], "nic:0", ["nics[0]"], "network"),
        ("ens1", f"dhcp:{OTHER_MAC}", [], "network"),
        ("203.0.113.3", "resolvers", ["nameservers"], "resolver"),
        (PRINT, f"key:root:{PRINT}", ["users[root].keys[0]"], "users"),
        (KEY, f"key:root:{PRINT}", ["users[root].keys[0]"], "users"),
        ("me@laptop", f"key:root:{PRINT}", ["users[root].keys[0]"], "users"),
        ("root", f"key:root:{PRINT}", ["users[root].keys[0]"], "users"),
        ("/root/.ssh/authorized_keys", f"key:root:{PRINT}", ["users[root].keys[0]"], "users"),
        ("/etc/localtime", "timezone", ["timezone"], "timezone"),
        ("/etc/sysctl.d/10-gandi.conf", "sysctl", [], "sysctl"),
        ("motd", "motd", [], "motd"),
    ],
)
def test_what_may_be_asked(
    machine: Machine,
    capsys: pytest.CaptureFixture[str],
    what: str,
    name: str,
    place: list[str],
    step: str,
) -> None:
    before = machine.stamps()
    (one,) = asked(machine, what, capsys)
    assert (one["name"], one["document"], one["step"], one["change"]) == (name, place, step, "")
    assert one["applied"] > 1_700_000_000
    assert (one["source"] or {}).get("name") == ("gandi" if place else None)
    assert machine.stamps() == before, "nothing was written"


@root_only
def test_the_text(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    (machine.root / "etc/hostname").write_text("mine\n")
    assert main(["why", "hostname"], Host(machine.root)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("source: gandi 4c4c4544-0000-1000-8000-000000000001, stored 20")
    assert lines[1] == "hostname: changed"
    assert lines[2:6] == [
        "  in the document: hostname",
        "  step: hostname of stage bootstrap",
        "  by: CONFIG_NETWORK, CONFIG_HOSTNAME",
        "  in: /etc/hostname",
    ]
    assert lines[6].startswith("  applied: 20")
    assert main(["why", "/etc/sysctl.d/10-gandi.conf"], Host(machine.root)) == 0
    assert "  in no document: the agent itself\n" in capsys.readouterr().out


def test_a_setting_is_answered_for_every_user(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.put("/etc/default/gandi", "# mine\nCONFIG_SYSCTL=0\nCONFIG_IDLE_EXIT=soon\n")
    (one,) = asked(machine, "CONFIG_SYSCTL", capsys)
    assert (one["value"], one["origin"], one["steps"]) == ("0", "/etc/default/gandi:2", ["sysctl"])
    (one,) = asked(machine, "CONFIG_MOTD", capsys)
    assert (one["value"], one["origin"]) == ("1", "default")
    assert main(["why", "CONFIG_IDLE_EXIT"], Host(machine.root)) == 0
    said = capsys.readouterr().out
    assert said.startswith("CONFIG_IDLE_EXIT=60  (default)\n  /etc/default/gandi:3: CONFIG_IDLE_EXIT: ")
    assert main(["why", "CONFIG_SYSCTLS"], Host(machine.root)) == why.UNKNOWN
    assert "did you mean CONFIG_SYSCTL?" in capsys.readouterr().err


@root_only
@pytest.mark.parametrize("what", ["/etc/motd", "", "nobody", "203.0.113.99", "vdz", "-", "\033[2J"])
def test_what_is_nothing_of_the_agents(
    machine: Machine, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    assert main(["why", what], Host(machine.root)) == why.UNKNOWN == 2
    said = capsys.readouterr()
    assert not said.out
    assert "Ask about a path, a mountpoint, an address" in said.err
    assert "\033" not in said.err


@root_only
def test_what_could_not_be_compared_and_what_is_made_once(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.put("/etc/default/gandi", "CONFIG_SYSCTL=0\n")
    (one,) = asked(machine, "sysctl", capsys)
    assert (one["note"], one["step"]) == ("not compared: CONFIG_SYSCTL=0", "sysctl")
    machine.put("/etc/machine-id", "0123\n")
    (one,) = asked(machine, "/etc/machine-id", capsys)
    assert one["step"] == "machine-id"
    assert one["note"].startswith("made once for each instance")
