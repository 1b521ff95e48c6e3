"""Which services a detach stops: those that require the mountpoint and use it themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.disks.usage import holders, stop_services
from agent.host.host import Completed, Host

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PLACE, MOUNT = "/srv/data", "srv-data.mount"
FOUND = holders.Search((holders.Holder(7, "db", "/srv/data/log"),))
NO_LOGIN, OWN = "4294967295", "/system.slice/db.service"


class Machine(Host):
    """A machine with one unit; lists the units that are stopped."""

    __slots__ = ("stopped", "unit")

    def __init__(self, root: Path, **unit: str) -> None:
        super().__init__(root)
        self.stopped = list[str]()
        self.unit = {
            "Id": "db.service",
            "ActiveState": "active",
            "Requires": f"system.slice {MOUNT}",
            "BindsTo": "",
            "RequiresMountsFor": "",
            "ControlGroup": OWN,
        } | unit

    def run(self, argv: Sequence[str], **_how: object) -> Completed:
        if argv[0] == "systemd-escape":
            return Completed(tuple(argv), 0, f"{MOUNT}\n", "")
        if argv[1] == "stop":
            self.stopped.append(argv[2])
        shown = "".join(f"{name}={value}\n" for name, value in self.unit.items())
        return Completed(tuple(argv), 0, shown, "")

    def process(self, group: str, login: str | None = NO_LOGIN) -> None:
        """Create process 7, the user of the mountpoint."""
        folder = self.path("/proc/7")
        self.mkdir("/proc/7")
        with open(f"{folder}/cgroup", "w", encoding="ascii") as file:
            file.write(f"0::{group}\n")
        if login is not None:
            with open(f"{folder}/loginuid", "w", encoding="ascii") as file:
                file.write(login)


@pytest.fixture(autouse=True)
def _one_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders, "find_by_mountpoint", lambda _host, _place: FOUND)


@pytest.mark.parametrize(
    ("unit", "group", "login", "is_stopped"),
    [
        ({}, OWN, NO_LOGIN, True),
        ({}, "/system.slice/db.service/worker", NO_LOGIN, True),
        ({}, OWN, None, True),
        ({"Requires": "", "BindsTo": MOUNT}, OWN, NO_LOGIN, True),
        (
            {"Requires": "", "RequiresMountsFor": "/var /srv/data/db"},
            "/system.slice/db.service",
            NO_LOGIN,
            True,
        ),
        (
            {"Requires": "", "RequiresMountsFor": "/srv/database /srv"},
            "/system.slice/db.service",
            NO_LOGIN,
            False,
        ),
        ({"Requires": "system.slice"}, OWN, NO_LOGIN, False),
        ({}, "/system.slice/db.service2", NO_LOGIN, False),
        ({}, "/user.slice/user-1000.slice", NO_LOGIN, False),
        ({}, OWN, "1000", False),
        ({"ControlGroup": ""}, "", NO_LOGIN, False),
        ({"ActiveState": "inactive"}, OWN, NO_LOGIN, False),
        ({"Id": "ssh.service"}, OWN, NO_LOGIN, False),
    ],
    ids=[
        "needs and uses it",
        "a group below its own",
        "a kernel without login ids",
        "BindsTo",
        "RequiresMountsFor",
        "other paths",
        "does not say so",
        "another unit's process",
        "a user's process",
        "a job of a user's crontab",
        "no group",
        "does not run",
        "an alias of one that is never stopped",
    ],
)
def test_what_is_stopped(
    tmp_path: Path, unit: dict[str, str], group: str, login: str | None, is_stopped: bool
) -> None:
    machine = Machine(tmp_path, **unit)
    machine.process(group, login)
    expected = [machine.unit["Id"]] if is_stopped else []
    assert stop_services.stop(machine, ["db.service"], [PLACE]) == expected
    assert machine.stopped == expected
