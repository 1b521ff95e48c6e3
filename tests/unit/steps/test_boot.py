"""Programs for each boot: their commands, once per boot, and never in an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.model import InstanceConfig, Script
from agent.context import Context, context
from agent.host.host import Host
from agent.lib.errors import HostError
from agent.steps import boot
from agent.systemd import transient
from tests.unit.steps.conftest import IDENTITY, Machine

SCRIPTS = (Script("bootcmd-1", "a" * 64), Script("bootcmd-2", "b" * 64))


class Live(Host):
    """A tree that counts as the running system."""

    @property
    def live(self) -> bool:
        return True

    def path(self, name: str) -> str:
        return f"{self.root}/{name.lstrip('/')}"


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The units that PID 1 was asked to run; the first one with "2" in its name fails."""
    asked: list[tuple[str, ...]] = []

    def run(
        _host: Host, unit: str, argv: tuple[str, ...], *, environment: dict[str, str], **_more: object
    ) -> None:
        assert environment == {"INSTANCE_ID": IDENTITY.id}
        asked.append((unit, *argv))
        if unit.endswith("2"):
            raise HostError("it failed")

    monkeypatch.setattr(transient, "run", run)
    return asked


def _context(root: Path) -> Context:
    ctx = context(Live(root))
    ctx.state.set_instance(IDENTITY)
    ctx.config = InstanceConfig(IDENTITY, boot=SCRIPTS)
    ctx.state.store_config(ctx.config, {"bootcmd-1": b"echo one", "bootcmd-2": b"#!/bin/sh\nfalse\n"})
    return ctx


def test_each_runs_once_a_boot(tmp_path: Path, ran: list[tuple[str, ...]]) -> None:
    ctx = _context(tmp_path)
    folder = ctx.state.folder()
    assert [str(i) for i in boot.apply(ctx)] == [
        "changed: bootcmd-1: run",
        "failed: bootcmd-2: it failed",
    ]
    assert ran == [
        ("gandi-boot-bootcmd-1", "/bin/sh", f"{folder}/scripts/bootcmd-1"),
        ("gandi-boot-bootcmd-2", f"{folder}/scripts/bootcmd-2"),
    ]
    assert {str(i.outcome) for i in boot.apply(_context(tmp_path))} == {"unchanged"}
    assert len(ran) == 2


def test_in_an_image_they_wait_for_its_boot(machine: Machine, ran: list[tuple[str, ...]]) -> None:
    machine.deliver(boot=SCRIPTS)
    assert set(machine.run(boot.apply).values()) == {"skipped: it runs when this machine boots"}
    assert not ran
