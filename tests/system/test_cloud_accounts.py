"""Accounts and files of #cloud-config, by the real programs of the passwd package, at several boots."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from agent.accounts import passwd
from agent.config.model import User
from agent.context import Context
from agent.lib.records import replace
from agent.reader.common.merge import Draft
from agent.reader.formats import user_data, yaml_events
from agent.steps import files, users
from tests.system.test_users import IDENTITY, KEY, Machine, machine

__all__ = ["machine"]  # a fixture
HASH = "$6$saltsalt$" + "x" * 86
OTHER_HASH = "$6$saltsalt$" + "y" * 86


def boot(machine: Machine, text: str) -> dict[str, str]:
    """Deliver a #cloud-config and run the steps; return each item's outcome with its detail."""
    yaml_events.load()
    draft = Draft("nocloud")
    user_data.read(f"#cloud-config\n{text}".encode(), "user-data", draft)
    reading = draft.reading()
    assert reading.config is not None
    machine.config = replace(reading.config, identity=IDENTITY)
    ctx = machine.context()
    ctx.secrets = reading.secrets
    ctx.state.store_config(machine.config, reading.files)
    return _items(ctx)


def _items(ctx: Context) -> dict[str, str]:
    steps = (users.apply, files.apply, files.apply_deferred)
    return {i.name: f"{i.outcome} {i.detail}".strip() for step in steps for i in step(ctx)}


def line(machine: Machine, file: str, name: str) -> list[str]:
    """Return the fields of a line, [] without it."""
    found = machine.file(f"/etc/{file}").read_text().split("\n")
    return next((fields for one in found if (fields := one.split(":"))[0] == name), [])


ACCOUNT = """users:
- name: carol
  uid: 1500
  homedir: /srv/people/carol
  primary_group: people
  groups: [adm, people2]
  gecos: Carol Roe
  inactive: 5
  expiredate: 2032-09-01
"""


def test_an_account_with_each_option(machine: Machine) -> None:
    made = boot(machine, ACCOUNT)
    assert not [outcome for outcome in made.values() if outcome.startswith("failed")], made
    gid = line(machine, "group", "people")[2]
    assert line(machine, "passwd", "carol")[2:6] == ["1500", gid, "Carol Roe", "/srv/people/carol"]
    # 2032-09-01 is day 22889.
    assert line(machine, "shadow", "carol")[6:8] == ["5", "22889"]
    assert "carol" in line(machine, "group", "adm")[3].split(",")
    assert line(machine, "group", "people2")[3] == "carol"
    assert not line(machine, "group", "carol")
    home = machine.file("/srv/people/carol").stat()
    assert (home.st_uid, home.st_gid) == (1500, int(gid))
    assert set(boot(machine, ACCOUNT).values()) == {"unchanged"}


def test_what_the_administrator_changed_of_an_account_stays(machine: Machine) -> None:
    boot(machine, ACCOUNT)
    machine.command("usermod", "--comment", "Mine", "--expiredate", "", "--gid", "users", "carol")
    kept = boot(machine, ACCOUNT)
    for what in ("comment", "expires", "primary group"):
        assert kept[f"account:carol:{what}"] == "kept changed by admin"
    changed = boot(machine, ACCOUNT.replace("Carol Roe", "C. Roe").replace("2032-09", "2033-09"))
    assert changed["account:carol:comment"] == changed["account:carol:expires"] == "changed"
    assert changed["account:carol:primary group"] == "kept changed by admin"
    assert line(machine, "passwd", "carol")[4] == "C. Roe"


def test_the_uid_of_an_existing_account_is_not_changed(machine: Machine) -> None:
    machine.command("useradd", "--uid", "1400", "carol")
    made = boot(machine, ACCOUNT)
    assert made["account:carol:uid"].startswith("failed"), made
    assert line(machine, "passwd", "carol")[2] == "1400"
    assert line(machine, "passwd", "carol")[4] == "Carol Roe", "the other items are applied"


def test_a_system_account(machine: Machine) -> None:
    machine.file("/usr/sbin/nologin").unlink(missing_ok=True)
    text = "users: [{name: robot, system: true, shell: /usr/sbin/nologin}]"
    assert boot(machine, text)["user:robot"] == "changed"
    account = passwd.account(machine.host, "robot")
    assert account is not None
    assert account.uid < 1000
    assert account.shell == "/usr/sbin/nologin"
    assert not machine.file("/home/robot").exists()
    assert not line(machine, "subuid", "robot")
    assert set(boot(machine, text).values()) == {"unchanged"}


def test_an_account_without_a_home_and_a_group_of_its_own(machine: Machine) -> None:
    boot(machine, "users: [{name: carol, no_create_home: true, no_user_group: true, no_log_init: true}]")
    assert line(machine, "passwd", "carol")[3] == line(machine, "group", "users")[2]
    assert not machine.file("/home/carol").exists()


def test_groups_that_are_not_to_be_made(machine: Machine) -> None:
    made = boot(machine, "users: [{name: carol, create_groups: false, groups: [adm, nothere]}]")
    assert made["group:carol:adm"] == "changed"
    assert made["group:carol:nothere"].startswith("failed there is no group")
    assert not line(machine, "group", "nothere")


@pytest.mark.parametrize("name", ["jane.roe", "Jroe", "JROE"])
def test_names_that_are_no_posix_names(machine: Machine, name: str) -> None:
    text = f"users: [{{name: {name}, sudo: 'ALL=(ALL) NOPASSWD:ALL', ssh_authorized_keys: ['{KEY}']}}]"
    made = boot(machine, text)
    assert set(made.values()) <= {"changed", "unchanged"}, made
    assert machine.keys(f"/home/{name}") == [KEY]
    subprocess.run(["chroot", machine.host.root, "visudo", "--strict", "--check"], check=True)
    listed = ["chroot", machine.host.root, "sudo", "--list", "--other-user", name]
    assert b"NOPASSWD: ALL" in subprocess.run(listed, check=True, capture_output=True).stdout
    assert set(boot(machine, text).values()) == {"unchanged"}


def test_the_rules_of_two_similar_names(machine: Machine) -> None:
    boot(machine, "users: [{name: jane.roe, sudo: ALL=ALL}, {name: jane_roe, sudo: ALL=NOPASSWD:ALL}]")
    rules = sorted(path.read_text() for path in machine.file("/etc/sudoers.d").glob("90-gandi-agent-*"))
    assert rules == ["jane.roe ALL=ALL\n", "jane_roe ALL=NOPASSWD:ALL\n"]


def test_the_documents_user_is_the_administrator(machine: Machine) -> None:
    before = _shadow(machine, "root")
    text = f"user: carol\npassword: {HASH}\nchpasswd: {{expire: false}}\nssh_authorized_keys: ['{KEY}']\n"
    boot(machine, text)
    assert passwd.is_in_group(machine.host, "carol", "sudo")
    assert (_shadow(machine, "carol"), _shadow(machine, "root")) == (HASH, before)
    assert machine.keys("/home/carol") == [KEY]
    assert not machine.file("/root/.ssh/authorized_keys").exists()


def _shadow(machine: Machine, name: str) -> str | None:
    return passwd.password(machine.host, name)


def test_groups_and_their_members(machine: Machine) -> None:
    text = "users: [carol]\ngroups: [dev: [carol, root, nothere], ops]\n"
    made = boot(machine, text)
    assert line(machine, "group", "dev")[3] == "carol,root"
    assert line(machine, "gshadow", "ops")[1] == "!"
    assert made["group:nothere:dev"].startswith("failed nothere: no such account")
    machine.command("gpasswd", "--delete", "root", "dev")
    machine.command("groupdel", "ops")
    later = boot(machine, text)
    assert later["group:root:dev"] == later["groups:ops"] == "kept changed by admin"
    assert line(machine, "group", "dev")[3] == "carol"
    assert not line(machine, "group", "ops")


# -- passwords -----------------------------------------------------------------------


@pytest.mark.parametrize("lock", ["*", "!"])
def test_a_lock_is_put_into_shadow_as_it_is(machine: Machine, lock: str) -> None:
    machine.command("usermod", "--password", HASH, "root")
    text = f"chpasswd: {{users: [{{name: root, password: '{lock}', type: hash}}]}}"
    assert boot(machine, text) == {"lock:root": "changed"}
    assert _shadow(machine, "root") == lock
    assert boot(machine, text) == {"lock:root": "unchanged"}
    machine.command("usermod", "--password", HASH, "root")
    assert boot(machine, text) == {"lock:root": "kept changed by admin"}
    assert _shadow(machine, "root") == HASH


def test_a_lock_of_version_0_1_is_not_applied_again(machine: Machine) -> None:
    machine.command("usermod", "--password", f"!{HASH}", "root")
    state = machine.context().state
    state.reconcile("lock:root", delivered="locked", wanted="locked", live="open", apply=lambda: None)
    text = "chpasswd: {users: [{name: root, password: '*', type: hash}]}"
    assert boot(machine, text) == {"lock:root": "unchanged"}
    machine.command("usermod", "--password", HASH, "root")
    assert boot(machine, text) == {"lock:root": "kept changed by admin"}


@pytest.mark.parametrize("password", [HASH, "Swordfish-9"])
def test_a_password_to_change_at_the_first_login(machine: Machine, password: str) -> None:
    text = f"users: [carol]\nchpasswd: {{list: 'carol:{password}'}}"
    boot(machine, text)
    assert line(machine, "shadow", "carol")[2] == "0"
    machine.command("usermod", "--password", OTHER_HASH, "carol")
    machine.command("chage", "--lastday", "2026-01-01", "carol")
    assert boot(machine, text)["password:carol"] == "kept changed by admin"
    assert line(machine, "shadow", "carol")[1] == OTHER_HASH
    assert line(machine, "shadow", "carol")[2] != "0"


@pytest.mark.parametrize("password", [HASH, "Swordfish-9"])
def test_it_is_expired_after_a_cut_too(machine: Machine, password: str) -> None:
    text = f"users: [carol]\nchpasswd: {{list: 'carol:{password}'}}"
    chage = machine.file("/usr/bin/chage")
    real = chage.read_bytes()
    chage.unlink()
    chage.write_text("#!/bin/sh\nexit 1\n")
    chage.chmod(0o755)
    assert boot(machine, text)["password:carol"].startswith("failed")
    assert line(machine, "shadow", "carol")[2] != "0"
    chage.write_bytes(real)
    assert boot(machine, text)["password:carol"] == "changed"
    assert line(machine, "shadow", "carol")[2] == "0"
    assert boot(machine, text)["password:carol"] == "unchanged"


def test_a_password_of_version_0_1_is_not_expired(machine: Machine) -> None:
    machine.boot(User("carol", HASH))
    boot(machine, f"users: [{{name: carol, lock_passwd: false}}]\nchpasswd: {{list: 'carol:{HASH}'}}")
    assert line(machine, "shadow", "carol")[2] != "0"


# -- files ---------------------------------------------------------------------------


def _owner(path: Path) -> tuple[int, int, int]:
    info = path.stat()
    return info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)


def test_new_folders_below_a_home_are_the_owners(machine: Machine) -> None:
    machine.file("/srv/data").mkdir(parents=True, exist_ok=True)
    text = """users: [carol]
write_files:
- {path: /home/carol/.config/app/a.ini, owner: "carol:carol", content: a=1, defer: true}
- {path: /home/carol/b/c, content: root's}
- {path: /srv/data/carol/d, owner: carol, content: d}
"""
    machine.file("/home/carol").mkdir(parents=True, exist_ok=True)
    os.rmdir(machine.file("/home/carol"))
    made = boot(machine, text)
    assert list(made)[-1] == "file:/home/carol/.config/app/a.ini", "deferred to the end"
    account = passwd.account(machine.host, "carol")
    assert account is not None
    hers = (account.uid, account.gid, 0o755)
    assert _owner(machine.file("/home/carol/.config")) == hers
    assert _owner(machine.file("/home/carol/.config/app")) == hers
    assert _owner(machine.file("/home/carol/b")) == _owner(machine.file("/srv/data/carol")) == (0, 0, 0o755)
    assert _owner(machine.file("/srv/data/carol/d"))[:2] == hers[:2]
    machine.file("/home/carol/.config").chmod(0o700)
    assert set(boot(machine, text).values()) == {"unchanged"}
    assert _owner(machine.file("/home/carol/.config"))[2] == 0o700


def test_a_deferred_file_waits_for_its_owner_in_an_image(machine: Machine) -> None:
    text = "write_files: [{path: /srv/x, owner: 'postgres9:postgres9', content: x, defer: true}]"
    assert boot(machine, text)["file:/srv/x"].startswith("skipped left to the first boot")
    machine.command("useradd", "--user-group", "postgres9")
    assert boot(machine, text)["file:/srv/x"] == "changed"


def test_what_is_written_and_appended_is_one_file_that_the_administrator_may_change(
    machine: Machine,
) -> None:
    first = '{path: /etc/corpus, content: "x\\n", permissions: "0600"}'
    text = f'write_files: [{first}, {{path: /etc/corpus, content: "y\\n", append: true}}]'
    path = machine.file("/etc/corpus")
    assert boot(machine, text) == {"file:/etc/corpus": "changed"}
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("x\ny\n", 0o600)
    assert boot(machine, text) == {"file:/etc/corpus": "unchanged"}
    path.write_text("mine\n")
    assert boot(machine, text)["file:/etc/corpus"].startswith("kept")
    assert path.read_text() == "mine\n"


def test_the_mode_of_a_file_that_is_appended_to(machine: Machine) -> None:
    path = machine.file("/etc/corpus")
    path.write_text("old\n")
    path.chmod(0o644)
    text = 'write_files: [{path: /etc/corpus, content: "secret\\n", append: true%s}]'
    boot(machine, text % "")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("old\nsecret\n", 0o644)
    given = text % ', permissions: "0600", owner: "root:adm"'
    assert boot(machine, given) == {"file:/etc/corpus": "changed"}
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("old\nsecret\n", 0o600)
    assert path.stat().st_gid == passwd.group(machine.host, "adm")
    assert boot(machine, given) == {"file:/etc/corpus": "unchanged"}
    path.chmod(0o640)
    assert boot(machine, given)["file:/etc/corpus"].startswith("kept")


def test_a_key_gets_the_options_that_are_delivered(machine: Machine) -> None:
    """Also if it is there without them, and until they are no longer delivered; not against the
    administrator.
    """
    text = "users: [{name: carol, ssh_authorized_keys: ['%s']}]"
    boot(machine, text % KEY)
    keys = machine.file("/home/carol/.ssh/authorized_keys")
    keys.write_text(f"# mine\n{keys.read_text()}# also mine\n")
    restricted = f'from="192.0.2.0/24" {KEY}'
    assert boot(machine, text % restricted)["key:carol:me@home"] == "changed"
    assert keys.read_text() == f"# mine\n{restricted}\n# also mine\n"
    assert boot(machine, text % restricted)["key:carol:me@home"] == "unchanged"
    assert boot(machine, text % KEY)["key:carol:me@home"] == "changed"
    assert keys.read_text() == f"# mine\n{KEY}\n# also mine\n"
    boot(machine, text % restricted)
    keys.write_text(f"restrict {KEY}\n")
    assert boot(machine, text % restricted)["key:carol:me@home"].startswith("kept")
    keys.write_text("")
    assert boot(machine, text % f"no-pty {KEY}")["key:carol:me@home"].startswith("kept")
    assert keys.read_text() == ""
