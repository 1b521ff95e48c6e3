"""Sealed passwords and files: opened once, to be applied; stored and recorded sealed; refused by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from agent.accounts import passwords
from agent.config.model import File, User, dump, load
from agent.context import Context
from agent.host.host import Completed, Host
from agent.report import Item
from agent.steps import files, users
from agent.systemd import sealed
from tests.unit.steps.conftest import Machine

SEALED, OTHER, OPEN = "Whxqht+dQJax", "k6iUCUH0RK2l", "s3cr3t open text"
SHADOW = "/etc/shadow"
USER, GROUP = str(os.getuid()), str(os.getgid())


class Programs:
    """systemd-creds with one key, which a build host has not, and the programs that set a password."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.values = {SEALED: OPEN, OTHER: OPEN}
        self.argvs = list[tuple[str, ...]]()

    def run(self, host: Host, argv: tuple[str, ...], *, stdin: bytes = b"", **_how: object) -> Completed:
        self.argvs.append(argv)
        match argv[0]:
            case "systemd-creds":
                text = self.values.get(stdin.decode())
                if text is None:
                    return Completed(argv, 1, OPEN, "Failed to decrypt: Bad message\n")
                return Completed(argv, 0, text, "")
            case "chpasswd":
                self.machine.put(SHADOW, f"alice:$6${len(self.argvs)}:1::::::\n")
            case "usermod":
                text = self.machine.text(SHADOW)
                self.machine.put(SHADOW, text.replace("alice:", "alice:!"))
        return Completed(argv, 0, "", "")

    @property
    def opened(self) -> int:
        """How often the program was run."""
        return sum(argv[0] == "systemd-creds" for argv in self.argvs)


@pytest.fixture
def programs(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Programs:
    fake = Programs(machine)
    monkeypatch.setattr(Host, "run", lambda self, argv, **how: fake.run(self, tuple(argv), **how))
    monkeypatch.setattr(Host, "which", lambda _self, program: f"/usr/bin/{program}")
    machine.put("/etc/passwd", "alice:x:1000:1000::/home/alice:/bin/sh\n")
    machine.put(SHADOW, "alice:!:1::::::\n")
    return fake


def deliver(machine: Machine, text: str = SEALED, encoding: str = "text", mode: int = 0o600) -> None:
    file = File(
        "/srv/token", "file-token", f"digest of {text}", mode=mode, sealed=encoding, owner=USER, group=GROUP
    )
    machine.deliver(files=(file,))
    machine.context().state.store_config(machine.config, {file.name: text.encode()})


def _password(user: User) -> Callable[[Context], Iterator[Item]]:
    def step(ctx: Context) -> Iterator[Item]:
        yield from passwords.reconcile(ctx.state, user, None)

    return step


def _is_nowhere_in_the_records(machine: Machine) -> None:
    for path in (machine.root / "var").rglob("*"):
        assert not path.is_file() or OPEN.encode() not in path.read_bytes(), path


def test_a_file_is_opened_once_and_stored_sealed(machine: Machine, programs: Programs) -> None:
    deliver(machine)
    assert machine.run(files.apply) == {"file:/srv/token": "changed"}
    assert machine.text("/srv/token") == OPEN
    assert (machine.root / "srv/token").stat().st_mode & 0o777 == 0o600
    assert machine.run(files.apply) == {"file:/srv/token": "unchanged"}
    assert programs.argvs == [("systemd-creds", "decrypt", "--name=gandi-agent", "-", "-")]
    _is_nowhere_in_the_records(machine)


@pytest.mark.parametrize("change", ["content", "gone"])
def test_a_file_that_the_administrator_changed_is_kept_unopened(
    machine: Machine, programs: Programs, change: str
) -> None:
    deliver(machine)
    machine.run(files.apply)
    path = machine.root / "srv/token"
    path.unlink() if change == "gone" else path.write_text("mine")
    assert machine.run(files.apply) == {"file:/srv/token": "kept: changed by admin"}
    assert programs.opened == 1
    deliver(machine, OTHER)
    assert machine.run(files.apply) == {"file:/srv/token": "changed"}
    assert machine.text("/srv/token") == OPEN


def test_a_file_of_bytes_is_sealed_in_base64(machine: Machine, programs: Programs) -> None:
    programs.values[SEALED] = "/wB0\nZXh0\n"
    deliver(machine, encoding="base64")
    assert machine.run(files.apply) == {"file:/srv/token": "changed"}
    assert (machine.root / "srv/token").read_bytes() == b"\xff\x00text"


@pytest.mark.parametrize(
    ("values", "encoding", "why"),
    [
        (
            {},
            "text",
            "the content of /srv/token is sealed, and this machine cannot open it: Failed to decrypt",
        ),
        ({SEALED: "\ufffd"}, "text", "the content of /srv/token is sealed, and what is in it is not UTF-8"),
        ({SEALED: "not base64!"}, "base64", "the sealed text is not base64"),
    ],
)
def test_what_cannot_be_opened_costs_its_file_and_no_other(
    machine: Machine, programs: Programs, values: dict[str, str], encoding: str, why: str
) -> None:
    programs.values = values
    deliver(machine, encoding=encoding)
    other = File("/srv/open", "file-open", "digest", owner=USER, group=GROUP)
    machine.deliver(files=(*machine.config.files, other))
    machine.context().state.store_config(machine.config, {"file-token": SEALED.encode(), "file-open": b"x"})
    (wrong, right) = machine.run(files.apply).items()
    assert wrong[0] == "file:/srv/token"
    assert wrong[1].startswith(f"failed: {why}")
    assert OPEN not in wrong[1]
    assert right == ("file:/srv/open", "changed")
    assert not (machine.root / "srv/token").exists()


def test_without_the_program_the_remedy_is_named(
    machine: Machine, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Host, "which", lambda _self, _program: "")
    deliver(machine)
    (item,) = files.apply(machine.context())
    assert item.detail == "the content of /srv/token is sealed, and systemd-creds is not installed"
    assert item.hint.startswith("install ")


def test_in_an_image_nothing_is_opened(machine: Machine, programs: Programs) -> None:
    deliver(machine)
    ctx = machine.context()
    ctx.host.offline = True
    (item,) = files.apply(ctx)
    assert str(item) == f"skipped: file:/srv/token: {sealed.LEFT}"
    items = list(passwords.reconcile(ctx.state, User("alice", sealed=SEALED, locked=True), None))
    assert [str(item) for item in items] == [
        f"skipped: password:alice: {sealed.LEFT}",
        "unchanged: lock:alice",
    ]
    assert programs.opened == 0


def test_a_password_is_opened_once_and_set_again_when_it_is_sealed_again(
    machine: Machine, programs: Programs
) -> None:
    step = _password(User("alice", sealed=SEALED))
    assert machine.run(step) == {"password:alice": "changed"}
    assert machine.run(step) == {"password:alice": "unchanged"}
    assert programs.opened == 1
    machine.put(SHADOW, "alice:$6$mine:1::::::\n")
    assert machine.run(step) == {"password:alice": "kept: changed by admin"}
    assert machine.run(_password(User("alice", sealed=OTHER))) == {"password:alice": "changed"}
    assert programs.opened == 2
    _is_nowhere_in_the_records(machine)


@pytest.mark.parametrize("text", [None, "", "two\nlines", "at the end\n", "a" * 513])
def test_a_password_that_cannot_be_used_leaves_the_account_locked(
    machine: Machine, programs: Programs, text: str | None
) -> None:
    programs.values = {} if text is None else {SEALED: text}
    found = machine.run(_password(User("alice", sealed=SEALED)))
    assert found["password:alice"].startswith("failed: the ")
    assert machine.text(SHADOW) == "alice:!:1::::::\n"


def test_an_account_to_be_locked_is_locked_though_its_password_cannot_be_opened(
    machine: Machine, programs: Programs
) -> None:
    programs.values = {}
    machine.put(SHADOW, "alice:$6$image:1::::::\n")
    found = machine.run(_password(User("alice", sealed=SEALED, locked=True)))
    assert [text.partition(":")[0] for text in found.values()] == ["failed", "changed"]
    assert machine.text(SHADOW) == "alice:!$6$image:1::::::\n"


def test_of_two_entries_for_an_account_the_first_password_counts() -> None:
    one, other = User("alice", sealed=SEALED), User("alice", password="$6$x$y")
    assert users._merge(one, other).password is None
    assert users._merge(other, one).sealed == ""
    assert users._merge(User("alice"), one).sealed == SEALED


def test_a_document_without_a_sealed_value_is_stored_as_before(machine: Machine) -> None:
    machine.deliver(files=(File("/a", "file-a", "d"),), users=(User("alice"),))
    assert b"sealed" not in dump(machine.config)
    machine.deliver(users=(User("alice", sealed=SEALED),))
    assert load(dump(machine.config)) == machine.config
