"""What systemd is asked for, word by word; whether it does it is seen in the guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent import transient
from agent.errors import HostError
from agent.host import Completed, Host

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Asked(Host):
    """A machine in a folder that notes what is run and answers as told."""

    __slots__ = ("answers", "argvs")

    def __init__(self, root: Path, **answers: Completed) -> None:
        super().__init__(root)
        self.argvs, self.answers = list[tuple[str, ...]](), answers

    def run(self, argv: Sequence[str], *, check: bool = True, **_how: object) -> Completed:
        self.argvs.append(tuple(argv))
        done = self.answers.get(argv[1], Completed(tuple(argv), 0, "", ""))
        if check and done.returncode:
            raise HostError("exit status")
        return done

    def knows(self, unit: str) -> None:
        """PID 1 has loaded the unit."""
        self.write(f"/run/systemd/transient/{unit}.service", "")


def test_a_unit_that_pid_1_does_not_know_is_not_asked_about(tmp_path: Path) -> None:
    host = Asked(tmp_path)
    transient.run(host, "gandi-grow-vdb", ("resize2fs", "/dev/vdb"), timeout=5)
    assert [argv[0] for argv in host.argvs] == ["systemd-run"]


@pytest.mark.parametrize(("state", "joins"), [("activating\n", True), ("failed\n", False)])
def test_one_that_runs_is_joined(tmp_path: Path, state: str, joins: bool) -> None:
    host = Asked(tmp_path, show=Completed((), 0, state, ""))
    host.knows("gandi-grow-vdb")
    transient.run(host, "gandi-grow-vdb", ("resize2fs", "/dev/vdb"), timeout=5)
    last = host.argvs[-1][:2]
    assert last == (("systemctl", "start") if joins else ("systemd-run", "--quiet"))


def test_one_that_ended_before_it_could_be_joined_is_no_error(tmp_path: Path) -> None:
    running, gone = Completed((), 0, "activating\n", ""), Completed((), 5, "", "Unit not found.")
    host = Asked(tmp_path, show=running, start=gone)
    host.knows("gandi-grow-vdb")
    transient.run(host, "gandi-grow-vdb", ("resize2fs", "/dev/vdb"), timeout=5)
    assert host.argvs[-1][:2] == ("systemctl", "start")


def test_a_command_that_fails_is_named(tmp_path: Path) -> None:
    failed = Completed((), 1, "", "Job failed.")
    host = Asked(tmp_path, **{"--quiet": failed})
    with pytest.raises(
        HostError, match=r"resize2fs /dev/vdb: failed in gandi-grow-vdb\.service: Job failed"
    ):
        transient.run(host, "gandi-grow-vdb", ("resize2fs", "/dev/vdb"), timeout=5)


def test_no_unit_waits_for_basic_target_and_a_mount_goes_after_the_services(tmp_path: Path) -> None:
    host = Asked(tmp_path)
    transient.run(host, "a", ("true",), timeout=5)
    transient.start(host, "b", ("true",))
    transient.mount(host, "/dev/vdb", "/srv/data", fstype="ext4", options="rw", timeout=5)
    for argv in host.argvs:
        assert {"--property=DefaultDependencies=no", "--property=Conflicts=shutdown.target"} <= set(argv)
    assert {"--property=LazyUnmount=yes", "--property=Before=local-fs.target"} <= set(host.argvs[-1])
