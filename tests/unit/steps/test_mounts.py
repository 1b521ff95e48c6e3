"""The document's entries of fstab, each by three values."""

from __future__ import annotations

from typing import Any

import pytest

from agent.config.system import Mount, System
from agent.host.host import Completed, Host
from agent.steps import mounts
from tests.unit.steps.conftest import Machine

DATA = Mount("UUID=1-2", "/data", "ext4", "defaults,nofail", 0, 2)


def test_entries(machine: Machine) -> None:
    machine.put("/etc/fstab", "UUID=9 / ext4 defaults 0 1\n")
    machine.deliver(system=System(mounts=(DATA, Mount("/dev/vdc", "none", "swap", "sw"))))
    assert machine.run(mounts.apply) == {
        "mount:/data": "changed: UUID=1-2",
        "mount:/dev/vdc": "changed: /dev/vdc",
    }
    text = machine.text("/etc/fstab")
    assert text == (
        "UUID=9 / ext4 defaults 0 1\nUUID=1-2 /data ext4 defaults,nofail 0 2\n/dev/vdc none swap sw 0 0\n"
    )
    assert set(machine.run(mounts.apply).values()) == {"unchanged: UUID=1-2", "unchanged: /dev/vdc"}
    machine.put("/etc/fstab", text.replace("nofail 0 2", "nofail,ro 0 2"))
    assert machine.run(mounts.apply)["mount:/data"] == "kept: changed by admin"
    machine.deliver(system=System(mounts=(Mount("UUID=1-2", "/data", "xfs"),)))
    assert machine.run(mounts.apply) == {"mount:/data": "changed: UUID=1-2"}
    assert "UUID=1-2 /data xfs defaults,nofail 0 0\n" in machine.text("/etc/fstab")


def test_what_is_new_is_started(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, ...]] = []

    def run(_host: Host, argv: tuple[str, ...], **_how: Any) -> Completed:
        ran.append(argv)
        return Completed(argv, 0, "", "")

    monkeypatch.setattr(Host, "run", run)
    monkeypatch.setattr(Host, "live", property(lambda _host: True))
    monkeypatch.setattr(Host, "path", lambda host, name: f"{host.root}/{name.lstrip('/')}")
    swap = Mount("LABEL=swap-1", "none", "swap", "sw")
    later = Mount("/dev/vdd", "/later", options="noauto")
    machine.deliver(system=System(mounts=(DATA, swap, later)))
    machine.run(mounts.apply)
    units = ("data.mount", "dev-disk-by\\x2dlabel-swap\\x2d1.swap")
    assert ran == [("systemctl", "daemon-reload"), ("systemctl", "--no-block", "start", *units)]
    ran.clear()
    machine.run(mounts.apply)
    assert ran == []
