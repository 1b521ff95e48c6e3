"""sshd's drop-in: its content, for which machines, and every case in which it is removed. A function that
reads the same files stands in for sshd; the real one is tested in the guest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from agent.config import model
from agent.config.model import Identity, User
from agent.host.host import Completed, Host
from agent.lib.errors import ConfigError, HostError
from agent.lib.records import replace
from agent.network import sshd_options
from agent.network.sshd import CONFIG, DELIVERED, SSHD
from agent.steps import ssh
from tests.unit.steps.conftest import Machine

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB me"
BOTH = ["PermitEmptyPasswords no", "PermitRootLogin prohibit-password"]
Sshd = Callable[[Machine], tuple[int, str]]


def heeds(machine: Machine) -> tuple[int, str]:
    """Return the values as ``sshd -T`` prints them."""
    text = machine.text(ssh.DROP_IN) if (machine.root / ssh.DROP_IN[1:]).exists() else ""
    root = "without-password" if "PermitRootLogin" in text else "yes"
    return 0, f"port 22\npermitrootlogin {root}\npermitemptypasswords no\n"


@pytest.fixture
def sshd(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> list[Sshd]:
    """Functions that stand in for sshd; the last one is called."""
    machine.put(SSHD)
    machine.put("/etc/ssh/ssh_host_rsa_key")
    machine.put(CONFIG, "#PermitRootLogin no\nInclude /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n")
    machine.put("/etc/passwd", "root:x:0:0::/root:/bin/sh\nadmin1:x:1000:1000::/home/admin1:/bin/sh\n")
    machine.deliver(users=(User("root", keys=(KEY,)),))
    answers: list[Sshd] = [heeds]

    def run(_host: Host, argv: Sequence[str], **_how: Any) -> Completed:
        assert tuple(argv) == (SSHD, "-T")
        assert (machine.root / "run/sshd").is_dir()
        status, said = answers[-1](machine)
        return Completed(tuple(argv), status, "" if status else said, said if status else "")

    monkeypatch.setattr(Host, "run", run)
    return answers


def written(machine: Machine) -> list[str]:
    path = machine.root / ssh.DROP_IN[1:]
    return [line for line in path.read_text().splitlines() if line[0] != "#"] if path.exists() else []


def test_written_once_for_an_instance(machine: Machine, sshd: list[Sshd]) -> None:
    assert machine.run(ssh.apply) == {"ssh": f"changed: {', '.join(BOTH)}"}
    assert written(machine) == BOTH
    sshd.append(lambda _machine: pytest.fail("sshd is not run at a later boot"))
    before = machine.stamps()
    assert machine.run(ssh.apply)["ssh"].startswith("unchanged")
    assert machine.stamps() == before
    (machine.root / ssh.DROP_IN[1:]).unlink()
    assert machine.run(ssh.apply)["ssh"].startswith("unchanged")
    assert written(machine) == []


@pytest.mark.parametrize(
    ("users", "by_key_only"),
    [
        ((User("root", keys=(KEY,)),), True),
        ((User("", keys=(KEY,)),), True),
        ((User("root", password="$6$a$b"), User("admin1", password="$6$a$b")), True),
        ((User("root", password="$6$a$b"), User("admin1", keys=(KEY,))), True),
        ((User("root", password="$6$a$b"),), False),
        ((User("", password="$6$a$b"),), False),
        ((User("admin1", password="$6$a$b", locked=True),), False),
        ((User("admin1"),), False),
        ((User("nobody-here", keys=(KEY,)),), False),
        ((), False),
    ],
)
def test_root_by_key_only_where_somebody_gets_in(
    machine: Machine, sshd: list[Sshd], users: tuple[User, ...], by_key_only: bool
) -> None:
    machine.deliver(users=users)
    machine.run(ssh.apply)
    assert written(machine) == (BOTH if by_key_only else BOTH[:1])


@pytest.mark.parametrize(
    "place", ["sshd_config", "sshd_config.d/10-mine.conf", "sshd_config.d/99.conf", "else"]
)
@pytest.mark.parametrize(
    "line", ["PermitRootLogin yes", "\tpermitrootlogin=yes", "Match User x\n PermitRootLogin yes"]
)
def test_only_what_no_file_says(machine: Machine, sshd: list[Sshd], place: str, line: str) -> None:
    machine.put("/etc/ssh/sshd_config.d/50.conf", 'Include "else"\n')
    path = machine.root / "etc/ssh" / place
    machine.put(f"/etc/ssh/{place}", (path.read_text() if path.exists() else "") + f"{line}\n")
    machine.run(ssh.apply)
    assert written(machine) == BOTH[:1]


def test_a_copy_has_its_own_and_leaves_an_edited_one(machine: Machine, sshd: list[Sshd]) -> None:
    machine.run(ssh.apply)
    ctx = machine.context()
    ctx.state.set_instance(Identity("gandi", "another"))
    ctx.config = replace(machine.config, users=(User("root", password="$6$a$b"),))
    assert [item.outcome for item in ssh.apply(ctx)] == ["changed"]
    assert written(machine) == BOTH[:1]
    with (machine.root / ssh.DROP_IN[1:]).open("a") as file:
        file.write("PermitRootLogin yes\n")
    ctx.state.set_instance(Identity("gandi", "a third"))
    assert [item.outcome for item in ssh.apply(ctx)] == ["kept"]
    assert written(machine) == [BOTH[0], "PermitRootLogin yes"]


def test_nothing_where_every_option_is_the_administrators(machine: Machine, sshd: list[Sshd]) -> None:
    machine.put("/etc/ssh/sshd_config.d/a.conf", "PermitRootLogin yes\nPermitEmptyPasswords yes\n")
    assert machine.run(ssh.apply)["ssh"].startswith("unchanged")
    assert written(machine) == []


def test_a_file_without_the_folder_is_not_edited(machine: Machine, sshd: list[Sshd]) -> None:
    machine.put(CONFIG, "UsePAM yes\n")
    assert machine.run(ssh.apply)["ssh"].startswith("skipped")
    assert written(machine) == []


def test_what_was_refused_before_is_named_and_nothing_changes(machine: Machine, sshd: list[Sshd]) -> None:
    sshd.append(
        lambda _machine: (255, "/etc/ssh/sshd_config.d/50.conf: line 1: Bad configuration option: X\n")
    )
    with pytest.raises(ConfigError, match=r"50\.conf: line 1: Bad.*nothing changed"):
        machine.run(ssh.apply)
    assert written(machine) == []
    sshd.pop()
    assert machine.run(ssh.apply)["ssh"].startswith("changed")


def test_ours_is_taken_back_when_it_is_refused(machine: Machine, sshd: list[Sshd]) -> None:
    def refuses(machine: Machine) -> tuple[int, str]:
        return (255, f"{ssh.DROP_IN}: line 2: Bad") if written(machine) else heeds(machine)

    sshd.append(refuses)
    with pytest.raises(HostError, match=r"which was removed.*00-gandi\.conf: line 2: Bad"):
        machine.run(ssh.apply)
    assert written(machine) == []


def test_ours_is_taken_back_when_it_has_no_effect(machine: Machine, sshd: list[Sshd]) -> None:
    sshd.append(lambda _machine: (0, "permitrootlogin yes\npermitemptypasswords no\n"))
    with pytest.raises(HostError, match=r"no effect, PermitRootLogin is yes"):
        machine.run(ssh.apply)
    assert written(machine) == []


def test_ours_is_taken_back_when_sshd_does_not_answer(machine: Machine, sshd: list[Sshd]) -> None:
    def hangs(machine: Machine) -> tuple[int, str]:
        if written(machine):
            raise HostError("sshd -T: still running after 60 s, killed")
        return heeds(machine)

    sshd.append(hangs)
    with pytest.raises(HostError, match="still running"):
        machine.run(ssh.apply)
    assert written(machine) == []


def test_the_configuration_that_the_distribution_ships_is_not_asked_about(
    machine: Machine, sshd: list[Sshd]
) -> None:
    machine.put(ssh.SHIPPED, machine.text(CONFIG))
    sshd.append(lambda _machine: pytest.fail("sshd -T costs more than the stage"))
    assert machine.run(ssh.apply)["ssh"].startswith("changed")
    assert written(machine) == BOTH


def test_before_there_are_host_keys_the_next_boot_asks(machine: Machine, sshd: list[Sshd]) -> None:
    (machine.root / "etc/ssh/ssh_host_rsa_key").unlink()
    sshd.append(lambda _machine: pytest.fail("it would say that there are none"))
    assert machine.run(ssh.apply)["ssh"].startswith("changed")
    assert written(machine) == BOTH
    machine.put("/etc/ssh/ssh_host_rsa_key")
    sshd.append(
        lambda _machine: (255, f"{ssh.DROP_IN}: line 2: Bad") if written(_machine) else heeds(_machine)
    )
    with pytest.raises(HostError, match="refuses"):
        machine.run(ssh.apply)


@pytest.mark.parametrize("place", [CONFIG, "/etc/ssh/sshd_config.d/50-more.conf"])
def test_a_configuration_with_more_in_it_is_asked_about(
    machine: Machine, sshd: list[Sshd], place: str
) -> None:
    machine.put(ssh.SHIPPED, machine.text(CONFIG))
    before = machine.text(place) if place == CONFIG else ""
    machine.put(place, f"{before}X11Forwarding no\n")
    sshd.append(lambda _machine: (255, f"{place}: line 9: Bad configuration option"))
    with pytest.raises(ConfigError, match="Bad configuration option"):
        machine.run(ssh.apply)


def test_without_sshd(machine: Machine) -> None:
    assert machine.run(ssh.apply) == {"ssh": "skipped: sshd is not installed"}


def delivered(machine: Machine) -> list[str]:
    path = machine.root / DELIVERED[1:]
    return (
        [line for line in path.read_text().split("\n") if line[:1] not in ("", "#")] if path.exists() else []
    )


def test_the_documents_options(machine: Machine, sshd: list[Sshd]) -> None:
    options = model.Sshd(passwords=False, certificates=("/etc/ssh/ssh_host_rsa_key-cert.pub",))
    machine.deliver(sshd=options)
    assert machine.run(ssh.apply)["sshd:options"].startswith("changed: PasswordAuthentication no")
    lines = ["PasswordAuthentication no", "HostCertificate /etc/ssh/ssh_host_rsa_key-cert.pub"]
    assert delivered(machine) == lines
    assert sorted([DELIVERED, ssh.DROP_IN])[0] == DELIVERED, "sshd uses the first value"
    before = machine.stamps()
    assert machine.run(ssh.apply)["sshd:options"].startswith("unchanged")
    assert machine.stamps() == before
    machine.put(DELIVERED, "PasswordAuthentication yes\n")
    assert machine.run(ssh.apply)["sshd:options"] == "kept: changed by admin"
    machine.deliver(sshd=model.Sshd(passwords=True))
    machine.run(ssh.apply)
    assert delivered(machine) == ["PasswordAuthentication yes"]
    machine.deliver(sshd=None)
    assert machine.run(ssh.apply)["sshd:options"].startswith("changed: no longer delivered")
    assert delivered(machine) == []


def test_an_option_that_is_lost_by_a_mistake_stays(machine: Machine, sshd: list[Sshd]) -> None:
    machine.deliver(sshd=model.Sshd(passwords=False))
    machine.run(ssh.apply)
    machine.deliver(sshd=None, partial=True)
    assert "sshd:options" not in machine.run(ssh.apply)
    assert delivered(machine) == ["PasswordAuthentication no"]


def test_root_is_refused_only_if_another_account_can_log_in(machine: Machine, sshd: list[Sshd]) -> None:
    machine.deliver(sshd=model.Sshd(disable_root=True), users=(User("root", keys=(KEY,)),))
    outcomes = machine.run(ssh.apply)
    assert outcomes["disable_root"].startswith("failed: not done")
    assert delivered(machine) == []
    machine.deliver(users=(User("root", keys=(KEY,)), User("admin1", keys=(KEY,))))
    machine.run(ssh.apply)
    assert delivered(machine) == ["PermitRootLogin no"]


def test_a_configuration_that_does_not_read_the_options(machine: Machine, sshd: list[Sshd]) -> None:
    machine.put(CONFIG, "UsePAM yes\n")
    machine.deliver(sshd=model.Sshd(passwords=False))
    assert machine.run(ssh.apply)["sshd options"].startswith(f"failed: {CONFIG} does not include")


# -- options that lock out ---------------------------------------------------------------


class Listener:
    """sshd on a running machine: where it answers, why it does not with the options, what it was given."""

    def __init__(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.machine, self.why, self.refuses, self.dies = machine, "", "", False
        self.places: tuple[tuple[str, int], ...] = (("127.0.0.1", 22),)
        self.tried: list[list[str]] = []
        monkeypatch.setattr(sshd_options, "_answering", lambda _host: self.places)
        monkeypatch.setattr(sshd_options, "_why_silent", lambda *_: self._tried())
        monkeypatch.setattr(Host, "run", lambda _host, argv, **_how: self._run(tuple(argv)))

    def _tried(self) -> str:
        self.tried.append(delivered(self.machine))
        if self.dies:
            raise KeyboardInterrupt
        return self.why

    def _run(self, argv: tuple[str, ...]) -> Completed:
        if self.refuses and self.refuses in argv:
            assert argv[:3] == (SSHD, "-T", "-o")
            return Completed(argv, 255, "", "AuthenticationMethods cannot be satisfied\r\n")
        return Completed(argv, *heeds(self.machine), "")


@pytest.fixture
def listener(machine: Machine, sshd: list[Sshd], monkeypatch: pytest.MonkeyPatch) -> Listener:
    """A running machine with passwords refused by the document, and sshd that answers."""
    found = Listener(machine, monkeypatch)
    machine.deliver(sshd=model.Sshd(passwords=True))
    machine.run(ssh.apply)
    assert found.tried == [["PasswordAuthentication yes"]]
    return found


def note(machine: Machine) -> str | None:
    found = machine.context(same_boot=True).status.read()["notes"].get("sshd")
    return None if found is None else str(found)


def refusals(machine: Machine) -> list[str]:
    return [path.name for path in machine.root.rglob("sshd.json")]


def test_options_with_which_sshd_answers_stay(machine: Machine, listener: Listener) -> None:
    machine.deliver(sshd=model.Sshd(passwords=False))
    assert machine.run(ssh.apply)["sshd:options"].startswith("changed")
    assert delivered(machine) == ["PasswordAuthentication no"]
    assert refusals(machine) == []


@pytest.mark.parametrize("how", ["silent", "refused"])
def test_options_that_lock_out_are_taken_back_and_not_tried_again(
    machine: Machine, listener: Listener, how: str
) -> None:
    former = machine.text(DELIVERED)
    machine.deliver(sshd=model.Sshd(passwords=False))
    if how == "silent":
        listener.why = "sshd did not answer"
    else:
        listener.refuses = "PasswordAuthentication no"
    found = machine.run(ssh.apply, same_boot=True)["sshd options"]
    assert found.startswith("failed: taken back: sshd")
    assert found.endswith("the former options are in force")
    assert machine.text(DELIVERED) == former
    assert "sshd" in (note(machine) or "")
    tried = len(listener.tried)
    assert tried == (2 if how == "silent" else 1), "one that it refuses was never in its files"
    for same_boot in (True, False):
        found = machine.run(ssh.apply, same_boot=same_boot)["sshd:options"]
        assert found.startswith("kept: taken back: sshd")
        assert "document" in (note(machine) or "")
        assert machine.text(DELIVERED) == former
    assert len(listener.tried) == tried


def test_other_options_are_tried_and_end_it(machine: Machine, listener: Listener) -> None:
    listener.why = "sshd did not answer"
    machine.deliver(sshd=model.Sshd(passwords=False))
    machine.run(ssh.apply, same_boot=True)
    listener.why = ""
    machine.deliver(sshd=model.Sshd(passwords=False, certificates=("/etc/ssh/a-cert.pub",)))
    assert machine.run(ssh.apply, same_boot=True)["sshd:options"].startswith("changed")
    assert refusals(machine) == []
    assert note(machine) is None


@pytest.mark.parametrize("options", [model.Sshd(passwords=True), None])
def test_the_former_options_or_none_delivered_again_end_it(
    machine: Machine, listener: Listener, options: model.Sshd | None
) -> None:
    listener.why = "sshd did not answer"
    machine.deliver(sshd=model.Sshd(passwords=False))
    machine.run(ssh.apply, same_boot=True)
    machine.deliver(sshd=options)
    outcome = "unchanged" if options else "changed: no longer delivered"
    assert machine.run(ssh.apply, same_boot=True)["sshd:options"].startswith(outcome)
    assert refusals(machine) == []


@pytest.mark.parametrize("others", [False, True])
def test_a_run_that_was_cut_short_is_taken_back(machine: Machine, listener: Listener, others: bool) -> None:
    """The agent, or the machine, was stopped before sshd had answered; no boot uses what was not judged."""
    former = machine.text(DELIVERED)
    listener.dies = True
    machine.deliver(sshd=model.Sshd(passwords=False))
    with pytest.raises(KeyboardInterrupt):
        machine.run(ssh.apply, same_boot=True)
    assert delivered(machine) == ["PasswordAuthentication no"]
    listener.dies, listener.places = False, ()
    if others:
        listener.places, listener.why = (("127.0.0.1", 22),), "sshd did not answer"
        machine.deliver(sshd=model.Sshd(passwords=False, certificates=("/etc/ssh/a-cert.pub",)))
        assert machine.run(ssh.apply)["sshd options"].startswith("failed: taken back")
    else:
        assert machine.run(ssh.apply)["sshd:options"].startswith("kept: taken back: the agent was stopped")
    assert machine.text(DELIVERED) == former


def test_options_are_not_judged_with_the_setting_off(machine: Machine, listener: Listener) -> None:
    listener.why = "sshd did not answer"
    machine.deliver(sshd=model.Sshd(passwords=False))
    machine.run(ssh.apply, same_boot=True)
    machine.put("/etc/default/gandi", "CONFIG_NETWORK_ROLLBACK=0\n")
    assert machine.run(ssh.apply, same_boot=True)["sshd:options"].startswith("changed")
    assert delivered(machine) == ["PasswordAuthentication no"]
    assert refusals(machine) == []


def test_a_plan_tries_no_options(machine: Machine, listener: Listener) -> None:
    machine.deliver(sshd=model.Sshd(passwords=False))
    listener.places = ()
    before = machine.stamps()
    list(ssh.apply(machine.context(same_boot=True, dry_run=True)))
    assert machine.stamps() == before
