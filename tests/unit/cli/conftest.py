"""A machine in a temporary tree that was set up from a document, for the verbs that compare it with that."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import stages
from agent.cli import comparison
from agent.config.model import File, User
from agent.config.nics import Nic
from agent.report import StageReport
from tests.unit.network.test_interfaces import add_nic
from tests.unit.steps.conftest import Machine

MAC, OTHER_MAC = "52:54:00:00:00:10", "52:54:00:00:00:11"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB me@laptop"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine that was set up: its document is stored, and its stages have ended."""
    machine = Machine(tmp_path)
    machine.put("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\n")
    machine.put("/etc/group", "root:x:0:\n")
    machine.put("/etc/shadow", "root:$6$x$y:1::::::\n").chmod(0o600)
    machine.put("/etc/update-motd.d/00-header")
    machine.put("/usr/share/zoneinfo/Europe/Paris")
    machine.put("/bin/bash")
    (tmp_path / "root").mkdir(mode=0o700)
    wants = tmp_path / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "systemd-networkd.service").symlink_to("/usr/lib/systemd/system/systemd-networkd.service")
    for number, mac in enumerate((MAC, OTHER_MAC)):
        add_nic(tmp_path, f"ens{number}", mac, device=f"pci0000:00/0000:00:0{number}.0", index=number + 2)
    content = b"of the platform\n"
    machine.deliver(
        hostname="vm1",
        nics=(Nic(0, mac=MAC, addresses=("203.0.113.10/24",)),),
        timezone="Europe/Paris",
        nameservers=("203.0.113.3",),
        users=(User("root", keys=(KEY,)),),
        files=(File("/etc/issue.net", "file-0", "d1"),),
    )
    ctx = machine.context()
    ctx.state.store_config(machine.config, {"file-0": content})
    set_up(machine)
    return machine


def set_up(machine: Machine) -> None:
    """Run each step that gives items to reconcile, as a boot does, and report the stages as done."""
    ctx = machine.context()
    for stage, steps in stages.STAGES.items():
        for step in steps:
            if step.name in comparison.STEPS and stages.is_due(ctx, step):
                report = stages.run_step(ctx, step)
                assert not report.failed, report
        ctx.status.stage_ended(StageReport(stage, (), 0.1))
