"""``status --drift``: what was changed by hand is named, the rest is not, and nothing is written."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

import pytest

from agent import stages
from agent.__main__ import main
from agent.accounts import passwd
from agent.cli import comparison, drift
from agent.context import context
from agent.host.host import Host
from agent.stages import Stage
from agent.steps import motd, sysctl
from tests.unit.cli.conftest import KEY, set_up
from tests.unit.steps.conftest import Machine

TREE = Path(__file__).parents[3]

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def host(machine: Machine) -> Host:
    return Host(machine.root)


def drifted(machine: Machine) -> dict[str, str]:
    """Return how each item that has drifted differs."""
    return {one.name: one.change for one in comparison.changes(drift.gather(host(machine)).findings)}


def status(machine: Machine, *words: str) -> int:
    return main(["status", "--drift", *words], host(machine))


@root_only
def test_a_machine_that_nobody_touched(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    before = machine.stamps()
    assert status(machine) == 0
    assert capsys.readouterr().out.endswith("items compared: each as the agent left it\n")
    assert machine.stamps() == before, "nothing was written"
    assert status(machine, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["drift"] == said["not_compared"] == []
    assert {"hostname", "nic:0", "sysctl", "timezone"} <= set(said["compared"])


@root_only
def test_what_cannot_be_read_costs_itself(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """Such as a kernel parameter's file, or systemd-sysctl in a smaller image: the rest is compared."""
    (machine.root / "proc/sys/kernel/hostname").mkdir(parents=True)
    assert status(machine, "--json") == 1
    said = json.loads(capsys.readouterr().out)
    (left_out,) = said["not_compared"]
    assert left_out["name"] == "kernel's hostname"
    assert "/proc/sys/kernel/hostname: cannot be read" in left_out["why"]
    assert said["drift"] == []
    assert {"hostname", "nic:0"} <= set(said["compared"])


@root_only
def test_planted_changes_are_named(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    etc = machine.root / "etc"
    (etc / "hostname").write_text("mine\n")
    (etc / "issue.net").chmod(0o600)
    (machine.root / "root/.ssh/authorized_keys").write_text("")
    (machine.root / motd.FILE[1:]).unlink()
    (etc / "localtime").unlink()
    (machine.root / sysctl.FILE[1:]).write_text("")
    (etc / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    before = machine.stamps()
    fingerprint = passwd.fingerprint(KEY)
    assert drifted(machine) == {
        "hostname": "changed",
        "file:/etc/issue.net": "mode 0600, left as 0644",
        f"key:root:{fingerprint}": "removed",
        "motd": "removed",
        "timezone": "removed",
        "sysctl": "changed",
        "resolvers": "changed",
    }
    assert status(machine) == drift.DRIFTED == 3
    out = capsys.readouterr().out
    assert "  hostname: changed (/etc/hostname; document: hostname; applied 20" in out
    assert (
        f"  key:root:{fingerprint}: removed (/root/.ssh/authorized_keys; document: users[root].keys[0];"
        in out
    )
    assert "file:/etc/issue.net: mode 0600, left as 0644 (/etc/issue.net; document: files[0];" in out
    assert "192.0.2.1" not in out, "values are not printed"
    assert machine.stamps() == before, "nothing was written"


@root_only
def test_what_was_kept_at_a_boot_is_still_named(machine: Machine) -> None:
    (machine.root / "etc/hostname").write_text("mine\n")
    set_up(machine)
    assert drifted(machine) == {"hostname": "changed"}
    (machine.root / "etc/hostname").write_text("vm1\n")
    assert drifted(machine) == {}, "as it was delivered again"


@root_only
def test_the_kernel_has_another_name_than_the_file(machine: Machine) -> None:
    machine.put("/proc/sys/kernel/hostname", "vm1\n")
    assert drifted(machine) == {}
    machine.put("/proc/sys/kernel/hostname", "other\n")
    assert drifted(machine) == {"kernel's hostname": "is other; /etc/hostname has vm1"}


@root_only
def test_a_parameter_that_was_set_by_hand(machine: Machine) -> None:
    machine.put("/proc/sys/vm/swappiness", "10\n")
    assert drifted(machine) == {}
    machine.put("/proc/sys/vm/swappiness", "60\n")
    assert drifted(machine) == {"sysctl:vm.swappiness": "is 60, left as 10"}


@root_only
def test_a_password_that_was_plain_text_is_compared_without_it(machine: Machine) -> None:
    ctx = machine.context()
    live = "$6$x$y"
    ctx.state.record_value("password:root", live)
    assert drifted(machine) == {}
    machine.put("/etc/shadow", "root:$6$other$z:1::::::\n")
    assert drifted(machine) == {"password:root": "changed"}


@root_only
def test_what_cannot_be_compared_is_named(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.put("/etc/default/gandi", "CONFIG_SYSCTL=0\n")
    assert status(machine) == 0
    assert "  not compared: sysctl: CONFIG_SYSCTL=0\n" in capsys.readouterr().out
    machine.put("/etc/default/gandi", "")
    stored = next(machine.root.glob("var/lib/gandi/instances/*/scripts/file-0"))
    stored.unlink()
    assert status(machine) == 1, "it may have changed, and that cannot be known"
    assert "not compared: file:/etc/issue.net: " in capsys.readouterr().out


@root_only
def test_nothing_is_compared_before_the_stages_have_ended(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    context(host(machine)).status.stage_started(Stage.CONFIG)
    assert status(machine) == 2
    said = capsys.readouterr()
    assert not said.out
    assert "stage config: running" in said.err


def test_it_does_not_wait(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(machine, "--wait") == 1
    assert "--drift does not wait" in capsys.readouterr().err


def test_each_step_that_reconciles_is_walked() -> None:
    """A step's module that calls reconcile, or one that calls a helper with it, is in STEPS."""
    every = {step.name: step.entry_point for steps in stages.STAGES.values() for step in steps}
    assert every.keys() >= comparison.STEPS
    for name, entry in every.items():
        path = TREE / (entry.partition(":")[0].replace(".", "/") + ".py")
        calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
        direct = any(isinstance(call, ast.Attribute) and call.attr == "reconcile" for call in calls)
        assert not direct or name in comparison.STEPS, f"{name} reconciles: add it to comparison.STEPS"
