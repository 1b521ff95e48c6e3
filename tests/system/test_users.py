"""Accounts by the real useradd, usermod and chpasswd, in a temporary overlay of this machine's tree."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.accounts import passwd
from agent.config.model import Identity, InstanceConfig, User
from agent.context import Context, context
from agent.host.host import Host
from agent.lib import text
from agent.lib.records import replace
from agent.steps import users
from tests.unit.lib.test_text import NO_END

IDENTITY = Identity("gandi", "4c4c4544-0000-1000-8000-000000000001")
HASH = "$6$saltsalt$" + "x" * 86
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHdf2mNDYbbiLMAH/3rdNZmPnmVcRdhNWxbWdsCbXvYF me@home"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO8v1o1N3pG0vJ9y3zvGUdnM1hAx5cZ2mP1oXAYGK9mF you@home"
#: Bytes for the accounts and their homes.
SPACE = "size=48m,nr_inodes=10000"
ROOT, ADMIN = User("root", HASH, (KEY,)), User("gandi1", HASH, (KEY, OTHER), admin=True)


class Machine:
    """The chroot, and runs of the step in it as at several boots."""

    def __init__(self, root: Path) -> None:
        self.host = Host(root)
        self.config = InstanceConfig(IDENTITY, users=(ROOT, ADMIN))

    def context(self) -> Context:
        ctx = context(self.host)
        ctx.state.set_instance(IDENTITY)
        ctx.config = self.config
        return ctx

    def boot(self, *who: User) -> dict[str, str]:
        """Run the step; return each item's outcome with its detail."""
        if who:
            self.config = replace(self.config, users=who)
        found = users.apply(self.context())
        return {i.name: f"{i.outcome} {i.detail}".strip() for i in found}

    def file(self, name: str) -> Path:
        return Path(self.host.root) / name.lstrip("/")

    def keys(self, home: str) -> list[str]:
        return text.lines(self.file(f"{home}/.ssh/authorized_keys").read_text())

    def command(self, *argv: str) -> None:
        subprocess.run(["chroot", self.host.root, *argv], check=True, capture_output=True)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    space, root = tmp_path / "space", tmp_path / "root"
    with contextlib.ExitStack() as mounted:

        def mount(at: Path, *what: str) -> None:
            at.mkdir()
            subprocess.run(["mount", *what, at], check=True)
            mounted.callback(lambda: subprocess.run(["umount", "--lazy", at], check=True))

        # An overlay cannot have its upper folder within its lower one: a tmpfs holds it, which a test may
        # fill.
        mount(space, "-t", "tmpfs", "-o", SPACE, "tmpfs")
        for name in ("upper", "work"):
            (space / name).mkdir()
        options = f"lowerdir=/,upperdir={space}/upper,workdir={space}/work"
        mount(root, "-t", "overlay", "-o", options, "overlay")
        machine = Machine(root)
        # This machine's own accounts must not count.
        machine.command("groupadd", "--force", "sudo")
        for home in ("root/.ssh/authorized_keys", "var/lib/gandi"):
            subprocess.run(["rm", "-rf", machine.file(home)], check=True)
        yield machine


def _shadow(machine: Machine, name: str) -> str | None:
    return passwd.password(machine.host, name)


def test_a_first_boot_makes_the_accounts(machine: Machine) -> None:
    outcomes = machine.boot()
    assert set(outcomes.values()) <= {"changed", "unchanged"}, outcomes
    made = passwd.account(machine.host, "gandi1")
    assert made is not None
    assert made.is_regular_user
    assert passwd.is_in_group(machine.host, "gandi1", "sudo")
    assert [_shadow(machine, name) for name in ("root", "gandi1")] == [HASH, HASH]
    assert machine.keys("/home/gandi1") == [KEY, OTHER]
    assert machine.keys("/root") == [KEY]
    home = machine.file("/home/gandi1")
    for path, mode in ((home / ".ssh", 0o700), (home / ".ssh/authorized_keys", 0o600)):
        info = path.stat()
        assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (made.uid, made.gid, mode)


def test_a_second_boot_changes_nothing(machine: Machine) -> None:
    machine.boot()
    watched = [
        machine.file(name) for name in ("/etc/passwd", "/etc/shadow", "/home/gandi1/.ssh/authorized_keys")
    ]
    before = [path.stat().st_mtime_ns for path in watched]
    assert set(machine.boot().values()) == {"unchanged"}
    assert [path.stat().st_mtime_ns for path in watched] == before


def test_what_the_administrator_changed_stays(machine: Machine) -> None:
    machine.boot()
    machine.host.run(("chpasswd", "--encrypted"), stdin=b"gandi1:$6$mine$own\n")
    machine.file("/home/gandi1/.ssh/authorized_keys").write_text(f"{OTHER}\n# mine\n")
    machine.command("gpasswd", "-d", "gandi1", "sudo")
    outcomes = machine.boot()
    kept = {name for name, said in outcomes.items() if said == "kept changed by admin"}
    assert kept == {"password:gandi1", "group:gandi1", "key:gandi1:me@home"}
    assert _shadow(machine, "gandi1") == "$6$mine$own"
    assert machine.keys("/home/gandi1") == [OTHER, "# mine"]


def test_an_account_that_was_removed_stays_removed(machine: Machine) -> None:
    machine.boot()
    machine.command("userdel", "--remove", "gandi1")
    outcomes = machine.boot()
    assert {k: v for k, v in outcomes.items() if "gandi1" in k} == {"user:gandi1": "kept changed by admin"}
    assert passwd.account(machine.host, "gandi1") is None


def test_only_the_field_that_changed_moves(machine: Machine) -> None:
    machine.boot()
    machine.host.run(("chpasswd", "--encrypted"), stdin=b"root:$6$mine$own\n")
    new = "$6$saltsalt$" + "y" * 86
    outcomes = machine.boot(ROOT, replace(ADMIN, password=new))
    assert {name for name, said in outcomes.items() if said == "changed"} == {"password:gandi1"}
    assert (_shadow(machine, "root"), _shadow(machine, "gandi1")) == ("$6$mine$own", new)


def test_a_key_that_is_delivered_no_longer_goes_if_it_was_ours(machine: Machine) -> None:
    machine.boot()
    path = machine.file("/home/gandi1/.ssh/authorized_keys")
    path.write_text(path.read_text() + "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7 admin's\n")
    outcomes = machine.boot(ROOT, replace(ADMIN, keys=(KEY,)))
    assert outcomes["key:gandi1:you@home"] == "changed no longer delivered, removed"
    assert machine.keys("/home/gandi1") == [KEY, "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7 admin's"]


def test_a_comment_with_another_end_of_line_stays_in_its_line(machine: Machine) -> None:
    """sshd ends a line at a newline alone: as two lines, it would be a key without its restriction."""
    machine.boot(ROOT, replace(ADMIN, keys=()))
    path = machine.file("/home/gandi1/.ssh/authorized_keys")
    path.parent.mkdir(exist_ok=True)
    line = 'command="/bin/true" ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7 a{}ssh-rsa AAAAB3NzaC1yc2E \xff'
    theirs = b"\r\n".join(line.format(odd).encode("latin-1" if odd == "\x85" else "utf-8") for odd in NO_END)
    path.write_bytes(theirs)
    machine.boot(ROOT, replace(ADMIN, keys=(OTHER, KEY)))
    assert path.read_bytes() == theirs + f"\n{OTHER}\n{KEY}\n".encode()
    assert machine.boot(ROOT, replace(ADMIN, keys=(KEY,)))["key:gandi1:you@home"].startswith("changed")
    assert path.read_bytes() == theirs + f"\n{KEY}\n".encode()


def test_a_key_within_a_comment_or_an_option_is_none(machine: Machine) -> None:
    machine.boot(ROOT, replace(ADMIN, keys=()))
    path = machine.file("/home/gandi1/.ssh/authorized_keys")
    path.parent.mkdir(exist_ok=True)
    theirs = f'command="x {KEY} y" {OTHER}\nssh-rsa AAAAB3NzaC1yc2E {KEY}\n'
    path.write_text(theirs)
    machine.boot(ROOT, replace(ADMIN, keys=(KEY,)))
    assert path.read_text() == f"{theirs}{KEY}\n"
    machine.boot(ROOT, replace(ADMIN, keys=()))
    assert path.read_text() == theirs


@pytest.mark.parametrize("odd", ["\u2028", "\u2029"], ids=ascii)
def test_what_a_user_says_of_itself_keeps_nothing_away(machine: Machine, odd: str) -> None:
    """Through chfn, which accepts these characters in a UTF-8 locale, or in any."""
    machine.boot()
    machine.command("chfn", "--room", f"a{odd}b", "gandi1")
    assert f"a{odd}b" in machine.file("/etc/passwd").read_text()
    outcomes = machine.boot(ROOT, replace(ADMIN, keys=(KEY,), locked=True))
    assert outcomes["password:gandi1"] == "changed"
    assert outcomes["key:gandi1:you@home"] == "changed no longer delivered, removed"
    assert _shadow(machine, "gandi1") == f"!{HASH}"
    assert machine.keys("/home/gandi1") == [KEY]


def test_a_mistake_in_the_document_locks_nobody_out(machine: Machine) -> None:
    machine.boot()
    machine.config = replace(machine.config, partial=True)
    machine.boot(replace(ROOT, keys=()), replace(ADMIN, keys=()))
    assert machine.keys("/root") == [KEY]
    machine.config = replace(machine.config, partial=False)
    outcomes = machine.boot(replace(ROOT, keys=()), replace(ADMIN, keys=()))
    assert outcomes["key:root:me@home"] == "changed no longer delivered, removed"
    assert machine.keys("/root") == []


def test_a_key_without_a_comment_is_known_by_its_fingerprint(machine: Machine) -> None:
    bare = KEY.removesuffix(" me@home")
    name = f"key:root:{passwd.fingerprint(bare)[:15]}"
    assert machine.boot(replace(ROOT, keys=(bare,)))[name] == "changed"


def test_a_key_that_was_there_before_us_is_not_written_twice_and_never_removed(machine: Machine) -> None:
    folder = machine.file("/root/.ssh")
    folder.mkdir(exist_ok=True)
    line = f'from="10.0.0.0/8" {KEY}'
    (folder / "authorized_keys").write_text(f"{line}\n")
    machine.boot()
    assert machine.keys("/root") == [line]
    machine.boot(replace(ROOT, keys=()), ADMIN)
    assert machine.keys("/root") == [line]


def test_systemds_keys_of_root_are_there_before_and_after_ours(machine: Machine) -> None:
    """systemd-tmpfiles writes them only to a file that is missing, and may come after this step."""
    passed = machine.file("/run/credentials/@system/ssh.authorized_keys.root")
    passed.parent.mkdir(parents=True, exist_ok=True)
    passed.write_text(f"# theirs\n{OTHER}\n")
    outcomes = machine.boot(ROOT)
    assert (
        outcomes["ssh.authorized_keys.root"] == "changed written as systemd would: 1 key of its credential"
    )
    assert machine.keys("/root") == [OTHER, KEY]
    machine.boot(replace(ROOT, keys=(KEY, OTHER)))
    outcomes = machine.boot(replace(ROOT, keys=()))
    assert machine.keys("/root") == [OTHER], "a key of the document's goes, unless it is systemd's too"
    said = "unchanged root has {} of the 1 key of systemd's credential"
    assert outcomes["ssh.authorized_keys.root"] == said.format(1)
    machine.file("/root/.ssh/authorized_keys").write_text("")
    outcomes = machine.boot(replace(ROOT, keys=()))
    assert outcomes["ssh.authorized_keys.root"] == said.format(0)
    assert machine.keys("/root") == [], "the administrator's removal stays"


def test_a_system_account_is_refused_and_the_rest_is_applied(machine: Machine) -> None:
    outcomes = machine.boot(User("daemon", HASH, (KEY,), admin=True), ROOT, ADMIN)
    assert outcomes["user:daemon"] == "failed daemon is a system account (uid 1)"
    assert _shadow(machine, "daemon") != HASH
    assert _shadow(machine, "root") == _shadow(machine, "gandi1") == HASH


def test_a_group_of_the_users_name_is_no_obstacle(machine: Machine) -> None:
    machine.command("groupadd", "gandi1")
    assert machine.boot()["user:gandi1"] == "changed"


def test_a_link_that_the_user_put_costs_only_its_keys(machine: Machine) -> None:
    machine.boot(ROOT, replace(ADMIN, keys=()))
    machine.file("/home/gandi1/.ssh").symlink_to("/etc")
    outcomes = machine.boot(ROOT, ADMIN)
    failed = {name for name, said in outcomes.items() if said.startswith("failed")}
    assert failed == {"key:gandi1:me@home", "key:gandi1:you@home"}
    assert not machine.file("/etc/authorized_keys").exists()


def test_no_secret_is_in_an_argument_or_a_world_readable_file(machine: Machine) -> None:
    machine.boot()
    for path in machine.file("/var/lib/gandi").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        assert path.is_dir() or HASH not in path.read_text()
    dry = Host(machine.host.root, dry_run=True)
    ctx = context(dry)
    ctx.config = replace(
        machine.config, users=(replace(ROOT, password="$6$other$hash"), User("new", HASH, (KEY,)))
    )
    assert [str(item.outcome) for item in users.apply(ctx)][-1] == "changed"
    assert any("chpasswd" in line for line in dry.planned)
    assert not any("$6$" in line for line in dry.planned)


# -- plain passwords, locks ----------------------------------------------------------

PLAIN = "s3kr:t/pass word"


def _log_in(machine: Machine, name: str, plain: str) -> bool:
    """Return whether this is the account's password, by crypt(3)."""
    stored = _shadow(machine, name) or ""
    libcrypt = ctypes.CDLL("libcrypt.so.1")
    libcrypt.crypt.restype = ctypes.c_char_p
    return bool(libcrypt.crypt(plain.encode(), stored.encode()) == stored.encode())


def _deliver(machine: Machine, secrets: dict[str, str], *who: User) -> dict[str, str]:
    machine.config = replace(machine.config, users=who)
    ctx = machine.context()
    ctx.secrets = secrets
    return {i.name: f"{i.outcome} {i.detail}".strip() for i in users.apply(ctx)}


def test_a_plain_password_is_set_and_kept_nowhere(machine: Machine) -> None:
    assert _deliver(machine, {"": PLAIN}, User("", keys=(KEY,)))["password:root"] == "changed"
    assert _log_in(machine, "root", PLAIN)
    assert machine.keys("/root") == [KEY]
    words = (PLAIN.encode(), hashlib.sha256(PLAIN.encode()).hexdigest().encode())
    for path in machine.file("/var/lib/gandi").rglob("*"):
        assert path.is_dir() or not any(word in path.read_bytes() for word in words)
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_a_plain_password_that_comes_again_is_known(machine: Machine) -> None:
    _deliver(machine, {"root": PLAIN})
    before = _shadow(machine, "root")
    assert _deliver(machine, {"root": PLAIN})["password:root"] == "unchanged"
    assert _shadow(machine, "root") == before
    machine.host.run(("chpasswd", "--encrypted"), stdin=b"root:$6$mine$own\n")
    assert _deliver(machine, {"root": PLAIN})["password:root"] == "kept changed by admin"
    assert _shadow(machine, "root") == "$6$mine$own"
    assert _deliver(machine, {"root": "another"})["password:root"] == "changed"
    assert _log_in(machine, "root", "another")


def test_a_plain_password_with_a_second_line_sets_nothing(machine: Machine) -> None:
    before = _shadow(machine, "daemon"), _shadow(machine, "root")
    said = _deliver(machine, {"root": "x\ndaemon:y"})
    assert said["password:root"].startswith("failed")
    assert (_shadow(machine, "daemon"), _shadow(machine, "root")) == before


def test_a_blank_password_is_not_taken_for_what_was_delivered(machine: Machine) -> None:
    machine.command("passwd", "-d", "root")
    assert _deliver(machine, {"root": PLAIN})["password:root"] == "changed"


def test_an_account_is_locked(machine: Machine) -> None:
    machine.command("passwd", "-d", "root")
    outcomes = machine.boot(User("root", locked=True), User("gandi1", HASH, locked=True))
    assert (outcomes["lock:root"], outcomes["password:gandi1"]) == ("changed", "changed")
    assert (_shadow(machine, "root"), _shadow(machine, "gandi1")) == ("*", f"!{HASH}")
    assert set(machine.boot().values()) == {"unchanged"}
    machine.command("usermod", "--unlock", "gandi1")
    assert machine.boot()["password:gandi1"] == "kept changed by admin"


# -- groups, shells, sudo ------------------------------------------------------------


def test_groups_and_a_shell(machine: Machine) -> None:
    user = User("gandi1", groups=("users", "newgroup"), shell="/bin/sh")
    outcomes = machine.boot(user)
    assert set(outcomes.values()) <= {"changed"}, outcomes
    made = passwd.account(machine.host, "gandi1")
    assert made is not None
    assert made.shell == "/bin/sh"
    assert all(passwd.is_in_group(machine.host, "gandi1", group) for group in user.groups)
    machine.command("usermod", "--shell", "/bin/bash", "gandi1")
    assert machine.boot()["shell:gandi1"] == "kept changed by admin"


def test_a_shell_that_is_not_there_costs_only_itself(machine: Machine) -> None:
    outcomes = machine.boot(replace(ADMIN, shell="/bin/none"))
    assert outcomes["shell:gandi1"] == "failed /bin/none is not on this machine"
    assert outcomes["password:gandi1"] == "changed"


def test_sudo_rules_are_checked_written_and_withdrawn(machine: Machine) -> None:
    rules = "/etc/sudoers.d/90-gandi-agent-gandi1"
    assert machine.boot(replace(ADMIN, sudo=("ALL=(ALL) NOPASSWD:ALL",)))["sudo:gandi1"] == "changed"
    path = machine.file(rules)
    assert path.read_text() == "gandi1 ALL=(ALL) NOPASSWD:ALL\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o440
    said = machine.boot(replace(ADMIN, sudo=("ALL=((",)))["sudo:gandi1"]
    assert said == "failed visudo refuses the rules"
    assert path.read_text() == "gandi1 ALL=(ALL) NOPASSWD:ALL\n"
    assert machine.boot(ADMIN)["sudo:gandi1"] == "changed no longer delivered, removed"
    assert not path.exists()


# -- the default account -------------------------------------------------------------


def test_what_names_no_account_goes_to_the_default_one(machine: Machine) -> None:
    machine.host.write("/etc/default/gandi", "CONFIG_DEFAULT_USER=debian\n")
    said = _deliver(machine, {"": PLAIN}, User("", keys=(KEY,)), User("debian", keys=(OTHER,)))
    assert said["user:debian"] == "changed"
    assert _log_in(machine, "debian", PLAIN)
    assert passwd.is_in_group(machine.host, "debian", "sudo")
    assert machine.keys("/home/debian") == [KEY, OTHER]
    assert set(_deliver(machine, {}, User("", keys=(KEY,))).values()) == {
        "unchanged",
        "changed no longer delivered, removed",
    }


def test_an_administrator_gets_no_group_that_is_not_named(machine: Machine) -> None:
    """Groups that are equivalent to root exist, and stay empty (CVE-2020-8903, -8907, -8933)."""
    for group in ("adm", "docker", "lxd", "disk"):
        machine.command("groupadd", "--force", group)
    machine.boot()
    lines = machine.file("/etc/group").read_text().split("\n")
    assert {line.split(":")[0] for line in lines if "gandi1" in line} == {"gandi1", "sudo"}
