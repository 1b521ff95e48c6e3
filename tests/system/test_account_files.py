"""An image's accounts, changed by its own programs and by the agent in the files: with the same result."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.accounts import sudoers
from agent.accounts.changes import Changes, NewAccount, changes
from agent.accounts.file_changes import FileChanges
from agent.accounts.hashing import hashed
from agent.host.host import Host
from agent.lib.errors import AgentError, NeedsProgram
from tests.vm.rig import ImageSpec
from tests.vm.rig.tree import merged

FILES = ("passwd", "shadow", "group", "gshadow", "subuid", "subgid")
#: What varies: the salt and the hash of a password, and the day of the last change in shadow(5).
HASHED, DAY = re.compile(rb"\$y\$[^:]*"), re.compile(rb"(?m)^([^:\n]*:[^:\n]*):[0-9]{5}:")
HASH = "$6$salt$hash"
AnyChanges = Changes | FileChanges


@pytest.fixture(scope="module")
def images() -> Iterator[tuple[Host, Host]]:
    """Two images with the same content; of the second one no program is run."""
    with merged(ImageSpec()) as one, merged(ImageSpec()) as other:
        for tree in (one, other):
            skeleton = tree / "etc/skel"
            (skeleton / "a folder/in it").mkdir(parents=True, mode=0o750)
            (skeleton / "a folder/in it/file").write_text("text")
            (skeleton / "a folder/in it/file").chmod(0o4711)
            (skeleton / "link").symlink_to("/etc/shadow")
            shutil.copytree(tree / "etc", tree / "etc.before", symlinks=True)
        yield Host(one, offline=True), Host(other, offline=True, runs_programs=False)


@pytest.fixture
def both(images: tuple[Host, Host]) -> tuple[Host, Host]:
    """The images with /etc as at first, and no homes."""
    for host in images:
        for name in (*FILES, "login.defs", "default/useradd"):
            shutil.copy2(f"{host.root}/etc.before/{name}", f"{host.root}/etc/{name}")
            for rest in Path(f"{host.root}/etc").glob(f"{name}[-.+]*"):
                rest.unlink()
        for name in FILES:
            info = os.stat(f"{host.root}/etc.before/{name}")
            os.chown(f"{host.root}/etc/{name}", info.st_uid, info.st_gid)
        shutil.rmtree(f"{host.root}/home")
        os.mkdir(f"{host.root}/home")
    return images


def files(host: Host) -> dict[str, tuple[bytes, int, int, int]]:
    """Return content, mode and owner of each account file, and of locks of one; without what varies."""
    found = {}
    for name in sorted(os.listdir(f"{host.root}/etc")):
        if name in FILES or name.startswith(tuple(f"{one}." for one in FILES)):
            path = Path(f"{host.root}/etc/{name}")
            info = path.stat()
            content = DAY.sub(rb"\1:DAY:", HASHED.sub(b"HASH", path.read_bytes()))
            found[name] = (content, stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)
    return found


def homes(host: Host) -> dict[str, tuple[int, int, int, bytes]]:
    """Return mode, owner, and content or target of everything below /home."""
    top = Path(f"{host.root}/home")
    found = {}
    for path in sorted(top.rglob("*")):
        info = path.lstat()
        content = os.readlink(path).encode() if path.is_symlink() else b""
        content = path.read_bytes() if stat.S_ISREG(info.st_mode) else content
        found[str(path.relative_to(top))] = (info.st_mode, info.st_uid, info.st_gid, content)
    return found


def same(both: tuple[Host, Host], *works: Callable[[AnyChanges], None]) -> None:
    """Do each on both images, and compare what is there after it, or that both refuse it."""
    for number, work in enumerate(works):
        refused = []
        for host in both:
            try:
                work(changes(host))
            except AgentError as error:
                refused.append(str(error))
        assert len(refused) in (0, 2), (number, refused)
        assert files(both[1]) == files(both[0]), number
        assert homes(both[1]) == homes(both[0]), number


def edit(both: tuple[Host, Host], name: str, change: Callable[[str], str]) -> None:
    for host in both:
        path = Path(f"{host.root}/etc/{name}")
        path.write_text(change(path.read_text()), errors="surrogateescape")


def test_the_life_of_an_account(both: tuple[Host, Host]) -> None:
    same(
        both,
        lambda c: c.add(NewAccount("admin1", own_group=True, member_of="sudo", shell="/bin/bash")),
        lambda c: c.add(NewAccount("second", own_group=True)),
        lambda c: c.add_group("staff1"),
        lambda c: c.join("admin1", "staff1"),
        lambda c: c.join("admin1", "staff1"),
        lambda c: c.join("second", "staff1"),
        lambda c: c.set_shell("second", "/bin/sh"),
        lambda c: c.set_comment("second", "Zoë, room 1"),
        lambda c: c.set_hash("admin1", HASH),
        lambda c: c.lock("admin1"),
        lambda c: c.lock("admin1"),
        lambda c: c.set_hash("admin1", "*"),
        lambda c: c.set_inactive("second", "7"),
        lambda c: c.set_inactive("second", "-1"),
        lambda c: c.set_expiry("second", "20000"),
        lambda c: c.expire_password("second"),
        lambda c: c.set_hash("second", HASH),
        lambda c: c.add_group("named", 2345),
        lambda c: c.add(NewAccount("member", group="named", uid=3456, home="/home/elsewhere")),
        lambda c: c.add_subuids("member", 500000, 500999),
        lambda c: c.add_subgids("member", 500000, 500999),
        lambda c: c.add(NewAccount("third", own_group=True, create_home=False)),
        lambda c: c.add(NewAccount("fourth", own_group=True, create_home=False, log_init=False)),
        lambda c: c.restrict_group("named"),
    )


def test_accounts_of_the_system(both: tuple[Host, Host]) -> None:
    same(
        both,
        lambda c: c.add(NewAccount("daemon1", own_group=True, system=True, create_home=False)),
        lambda c: c.add(NewAccount("daemon2", own_group=True, system=True)),
        lambda c: c.add(NewAccount("daemon3", system=True, create_home=False)),
        lambda c: c.add(NewAccount("daemon4", own_group=True, system=True, uid=150, create_home=False)),
        lambda c: c.add(NewAccount("grouped", own_group=False)),
        lambda c: c.add(NewAccount("low", uid=500, own_group=True)),
        lambda c: c.add(NewAccount("high", uid=70000, own_group=True)),
        lambda c: c.add(NewAccount("next", own_group=True)),
    )


def test_a_plain_password(both: tuple[Host, Host]) -> None:
    same(
        both,
        lambda c: c.add(NewAccount("admin1", own_group=True)),
        lambda c: c.expire_password("admin1"),
        lambda c: c.set_password("admin1", "pass wörd:with a colon"),
        lambda c: c.lock("admin1"),
    )
    assert "\nadmin1:!$y$" in Path(f"{both[1].root}/etc/shadow").read_text()
    edit(both, "pam.d/common-password", lambda text: text.replace("yescrypt", "sha512"))
    assert hashed(both[1], "x").startswith("$6$")
    edit(both, "pam.d/common-password", lambda text: text.replace("sha512", "yescrypt"))


def test_other_defaults(both: tuple[Host, Host]) -> None:
    settings = "UID_MIN 0x7d0\nUID_MAX 2010\nGID_MIN 3000\nUMASK 027\nHOME_MODE 0711\nPASS_MAX_DAYS 90\n"
    settings += "SUB_UID_COUNT 1000\nSUB_GID_COUNT 0\nPASS_WARN_AGE -1\nSYS_UID_MIN 200\nSYS_UID_MAX 220\n"
    edit(both, "login.defs", lambda _: settings)
    edit(
        both,
        "default/useradd",
        lambda _: (
            "GROUP=50\nHOME=/home/all\nINACTIVE=30\nEXPIRE=2030-01-02\nSHELL=/bin/dash\n"
            "SKEL=/etc/skel/a folder\n"
        ),
    )
    same(
        both,
        lambda c: c.add(NewAccount("admin1", own_group=True)),
        lambda c: c.add(NewAccount("second")),
        lambda c: c.add(NewAccount("system1", own_group=True, system=True)),
        lambda c: c.add(NewAccount("system2", own_group=True, system=True)),
        lambda c: c.add(NewAccount("far", own_group=True, uid=5000)),
        lambda c: c.add(NewAccount("last", own_group=True, uid=2010)),
        lambda c: c.add(NewAccount("wrapped", own_group=True)),
        lambda c: c.add_group("group1"),
    )


def test_no_defaults(both: tuple[Host, Host]) -> None:
    edit(both, "login.defs", lambda _: "")
    edit(both, "default/useradd", lambda _: "")
    same(
        both,
        lambda c: c.add(NewAccount("admin1", own_group=True)),
        lambda c: c.add(NewAccount("second")),
        lambda c: c.add(NewAccount("system1", own_group=True, system=True)),
        lambda c: c.set_hash("admin1", HASH),
    )


def test_subordinate_ids_between_others(both: tuple[Host, Host]) -> None:
    for name in ("subuid", "subgid"):
        edit(both, name, lambda _: "zoe:300000:65536\nold:100000:65536\n1007:231072:10\n")
    same(
        both,
        lambda c: c.add(NewAccount("admin1", own_group=True)),
        lambda c: c.add(NewAccount("second", own_group=True)),
    )


@pytest.mark.parametrize("missing", ["gshadow", "subuid", "shadow"])
def test_a_file_that_is_missing(both: tuple[Host, Host], missing: str) -> None:
    for host in both:
        os.unlink(f"{host.root}/etc/{missing}")
    same(
        both,
        lambda c: c.add(NewAccount("admin1", own_group=True, member_of="sudo")),
        lambda c: c.add_group("group1"),
        lambda c: c.join("admin1", "group1"),
        lambda c: c.set_hash("admin1", HASH),
        lambda c: c.lock("admin1"),
    )


def test_lines_that_an_interrupted_program_has_left(both: tuple[Host, Host]) -> None:
    edit(both, "passwd", lambda text: f"{text}half:x:1000:1000::/home/half:/bin/sh\n")
    edit(both, "group", lambda text: f"{text}half:x:1000:\nmembers:x:1001:half\n")
    same(
        both,
        lambda c: c.set_hash("half", "!"),
        lambda c: c.restrict_group("half"),
        lambda c: c.restrict_group("members"),
        lambda c: c.join("half", "members"),
    )


def test_lines_that_are_not_understood_stay(both: tuple[Host, Host]) -> None:
    edit(both, "passwd", lambda text: f"{text}# a comment\n\nshort:x:1\n+nis::::::\n\udcff:x")
    edit(both, "shadow", lambda text: f"{text}no colon")
    same(
        both,
        lambda c: c.add(NewAccount("admin1", own_group=True, member_of="sudo")),
        lambda c: c.set_shell("admin1", "/bin/dash"),
    )


def test_what_is_refused(both: tuple[Host, Host]) -> None:
    edit(both, "passwd", lambda text: f"{text}twice:x:2000:100::/:/bin/sh\ntwice:x:2001:100::/:/bin/sh\n")
    same(
        both,
        lambda c: c.add(NewAccount("root", own_group=True)),
        lambda c: c.add(NewAccount("admin1", own_group=True, uid=1)),
        lambda c: c.add(NewAccount("admin1", group="no-such-group")),
        lambda c: c.add(NewAccount("admin1", own_group=True, home="relative")),
        lambda c: c.add(NewAccount("admin1", own_group=True, member_of="no-such-group")),
        lambda c: c.add(NewAccount("sudo", own_group=True)),
        lambda c: c.add(NewAccount("-x", own_group=True)),
        lambda c: c.add(NewAccount("a:b", own_group=True)),
        lambda c: c.add(NewAccount("a/b", own_group=True)),
        lambda c: c.add_group("sudo"),
        lambda c: c.add_group("a,b"),
        lambda c: c.add_group("group1", 0),
        lambda c: c.join("nobody-there", "sudo"),
        lambda c: c.join("root", "no-such-group"),
        lambda c: c.set_shell("twice", "/bin/dash"),
        lambda c: c.set_comment("root", "a:b"),
        lambda c: c.set_comment("root", "a\nb"),
        lambda c: c.lock("no-one"),
        lambda c: c.set_hash("no-one", HASH),
    )


@pytest.mark.parametrize(
    "rule",
    [
        "ALL=(ALL) NOPASSWD:ALL",
        "ALL=(ALL:ALL) ALL",
        "ALL = (root) NOPASSWD: /usr/bin/apt-get update, /usr/bin/id",
        "ALL=(www-data : www-data) NOPASSWD:SETENV: /usr/bin/systemctl restart site@1.service",
        "ALL=/usr/bin/id",
        "ALL=NOPASSWD:/usr/bin/../bin/id",
    ],
)
def test_a_plain_sudo_rule_is_one_that_visudo_accepts(images: tuple[Host, Host], rule: str) -> None:
    for host in images:
        sudoers._check(host, (rule,), f"admin1 {rule}\n")


@pytest.mark.parametrize(
    "rule",
    [
        "ALL=(ALL) NOPASSWD:ALL, !/usr/bin/su",
        "ALL=(OPERATORS) ALL",
        "host1=(ALL) ALL",
        "ALL=(%wheel) ALL",
        "ALL=(ALL) /usr/bin/*",
        "ALL=(ALL) sudoedit /etc/hosts",
        "ALL=(ALL) NOPASSWD",
        "ALL=(ALL) ALL\nsecond ALL=(ALL) ALL",
        "ALL=(ALL) ALL\n",
        "ALL=(ALL) /usr/bin/id # a comment",
        "ALL",
        "",
    ],
)
def test_another_sudo_rule_is_left_to_the_first_boot(images: tuple[Host, Host], rule: str) -> None:
    with pytest.raises(NeedsProgram, match="visudo"):
        sudoers._check(images[1], ("ALL=(ALL) ALL", rule), "")
