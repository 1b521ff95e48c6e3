"""A user who may write to a folder that the agent writes to tries to make the agent write elsewhere.

The attempts are a real process of another uid that exchanges the folder with a link, as fast as the kernel
can.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import random
import shutil
import signal
import stat
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.accounts import authorized_keys, passwd
from agent.config.model import File, Identity, InstanceConfig, User
from agent.context import Context, context
from agent.host import trees
from agent.host.host import Host
from agent.lib.errors import HostError
from agent.steps import files, users

IDENTITY = Identity("gandi", "4c4c4544-0000-1000-8000-000000000001")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHdf2mNDYbbiLMAH/3rdNZmPnmVcRdhNWxbWdsCbXvYF me@home"
SECRET = "root:$6$secret:1::::::\n"
USER = 12345
_EXCHANGE, _HERE = 2, -100  # linux/fs.h: RENAME_EXCHANGE; linux/fcntl.h: AT_FDCWD
#: A race: attempts at most, those that must succeed and be refused before it ends, seconds at most.
_TRIES, _EACH, _SECONDS = 1000, 200, 60.0


@pytest.fixture
def root() -> Iterator[Path]:
    """A machine in a folder that all users can reach, with files of root and of the user."""
    made = Path(tempfile.mkdtemp(dir="/var/tmp"))
    try:
        made.chmod(0o755)
        for name in (
            "etc/ssh",
            "etc/sudoers.d",
            "run/gandi",
            "var/lib",
            "var/keys",
            "home/ann",
            "home/disks",
        ):
            (made / name).mkdir(parents=True)
        (made / "etc/passwd").write_text(
            f"root:x:0:0::/root:/bin/sh\nann:x:{USER}:{USER}::/home/ann:/bin/sh\n"
        )
        (made / "etc/group").write_text(f"root:x:0:\nann:x:{USER}:\n")
        (made / "etc/ssh/sshd_config").write_text("AuthorizedKeysFile /var/keys/%u\n")
        (made / "etc/shadow").write_text(SECRET)
        (made / "etc/shadow").chmod(0o600)
        for name in ("var/keys", "home/ann", "home/disks"):
            os.chown(made / name, USER, USER)
        yield made
    finally:
        shutil.rmtree(made)


def ctx(root: Path, **what: object) -> Context:
    found = context(Host(root))
    found.state.set_instance(IDENTITY)
    found.config = InstanceConfig(IDENTITY, **what)  # type: ignore[arg-type]  # fields by name
    return found


def unharmed(root: Path) -> None:
    """Check that none of root's files has changed."""
    shadow = root / "etc/shadow"
    info = shadow.stat()
    assert shadow.read_text() == SECRET
    assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o600, 0, 0)
    assert sorted(os.listdir(root / "etc")) == ["group", "passwd", "shadow", "ssh", "sudoers.d"]
    assert os.listdir(root / "etc/sudoers.d") == []


def as_user(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, user=USER, group=USER, extra_groups=())


# -- (a): keys outside the home ------------------------------------------------------


@pytest.mark.parametrize("how", ["link", "hard link", "dangling", "loop", "folder", "FIFO"])
def test_keys_in_a_folder_of_the_users(root: Path, how: str) -> None:
    keys = root / "var/keys/ann"
    match how:
        case "link":
            as_user("ln", "-s", "../../etc/shadow", keys)
        case "hard link":
            os.link(root / "etc/shadow", keys)  # fs.protected_hardlinks=0 would let the user
        case "dangling":
            as_user("ln", "-s", "/etc/sudoers.d/ann", keys)
        case "loop":
            as_user("ln", "-s", "ann", keys)
        case "folder":
            as_user("mkdir", keys)
        case "FIFO":
            as_user("mkfifo", keys)
    began = time.monotonic()
    outcomes = {i.name: str(i) for i in users.apply(ctx(root, users=(User("ann", None, (KEY,)),)))}
    assert time.monotonic() - began < 5
    assert outcomes["key:ann:me@home"].startswith("failed: "), outcomes
    unharmed(root)


def test_keys_there_keep_owner_and_mode(root: Path) -> None:
    """A file of root that the user may move but not read must not become readable when a key is added."""
    keys = root / "var/keys/ann"
    keys.write_text("secret\n")
    keys.chmod(0o600)
    config = ctx(root, users=(User("ann", None, (KEY,)),))
    assert "changed: key:ann:me@home" in [str(item) for item in users.apply(config)]
    assert keys.read_text() == f"secret\n{KEY}\n"
    assert (stat.S_IMODE(keys.stat().st_mode), keys.stat().st_uid) == (0o600, 0)
    keys.unlink()
    owner = passwd.account(config.host, "ann")
    assert owner is not None
    authorized_keys.add(config.host, owner, KEY)
    assert (stat.S_IMODE(keys.stat().st_mode), keys.stat().st_uid) == (0o644, 0)


def test_a_home_whose_keys_lie_above_it_is_not_closed(root: Path) -> None:
    """With ``%h/../keys`` the folders between belong to root."""
    (root / "etc/ssh/sshd_config").write_text("AuthorizedKeysFile %h/../keys/%u\n")
    (root / "home/keys").mkdir()
    (root / "home").chmod(0o755)
    assert "changed: key:ann:me@home" in [
        str(item) for item in users.apply(ctx(root, users=(User("ann", None, (KEY,)),)))
    ]
    assert (root / "home/keys/ann").read_text() == f"{KEY}\n"
    assert stat.S_IMODE((root / "home").stat().st_mode) == 0o755


# -- (b): a folder that is swapped ---------------------------------------------------


@contextmanager
def swapping(root: Path, chance: random.Random) -> Iterator[None]:
    """Have the user exchange the folder ``home/ann/in`` with a link to root's, until the block ends."""
    folder, link = root / "home/ann/in", root / "home/ann/link"
    as_user("mkdir", folder)
    as_user("ln", "-s", "../../etc", link)
    exchange = ctypes.CDLL(None, use_errno=True).renameat2
    names = [os.fsencode(name) for name in (folder, link)]
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(USER)
        os.setuid(USER)
        while exchange(_HERE, names[0], _HERE, names[1], _EXCHANGE) == 0:
            time.sleep(chance.random() / 2000)  # about as long as the moment to hit
        os._exit(1)
    try:
        yield
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the user still swaps"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _deliver(root: Path, number: int, *, append: bool) -> None:
    content = f"{number}\n".encode()
    file = File(
        "/home/ann/in/shadow", "f", hashlib.sha256(content).hexdigest(), "root", "root", append=append
    )
    found = ctx(root, files=(file,))
    found.files = {"f": content}
    for item in files.apply(found):
        if item.outcome == "failed":
            raise HostError(item.detail)


def test_a_folder_that_is_swapped_while_it_is_written_to(root: Path) -> None:
    seed = int(os.environ.get("SEED") or random.randrange(1 << 32))
    print(f"seed: {seed} (once more with SEED={seed})")
    chance, host = random.Random(seed), Host(root)
    tries: list[Callable[[int], object]] = [
        lambda number: _deliver(root, number, append=False),
        lambda number: _deliver(root, number, append=True),
        lambda number: host.write("/home/ann/in/shadow", str(number), mode=0o644),
        lambda number: host.write("/home/ann/in/new/deep/file", str(number)),
        lambda number: host.mkdir(f"/home/ann/in/made{number}/below"),
        lambda _: host.remove("/home/ann/in/shadow"),
        lambda _: host.remove("/home/ann/in/sudoers.d"),
        lambda number: host.symlink("/home/ann/in/shadow", str(number)),
        lambda _: trees.remove(host, "/home/ann/in/new"),
        lambda number: host.write_chunks("/home/ann/in/group", [str(number).encode()]),
    ]
    done = refused = number = 0
    with swapping(root, chance):
        until = time.monotonic() + _SECONDS
        while (number < _TRIES or min(done, refused) < _EACH) and time.monotonic() < until:
            number += 1
            try:
                chance.choice(tries)(number)
                done += 1
            except HostError:
                refused += 1
    print(f"{done} done, {refused} refused")
    unharmed(root)
    assert min(done, refused) >= _EACH
    assert not [name for name in root.rglob("*") if ".gandi-" in name.name]


def test_the_user_would_win_against_a_path(root: Path) -> None:
    """The control for the test above: with a check of the path and then a write to it, the user wins."""
    decoy = root / "etc/decoy"
    with swapping(root, random.Random()):
        until = time.monotonic() + _SECONDS
        while not decoy.exists() and time.monotonic() < until:
            if not (root / "home/ann/in").is_symlink():
                (root / "home/ann/in/decoy").write_text("x")
    assert decoy.exists()


# -- other members -------------------------------------------------------------------


def test_a_mount_folder_below_a_users(root: Path) -> None:
    host = Host(root)
    as_user("ln", "-s", "/etc", root / "home/disks/data")
    for effect in (host.mkdir, host.remove):
        with pytest.raises(HostError, match="a user may have put there"):
            effect("/home/disks/data/shadow.d")
    assert host.mkdir("/home/disks/disk")
    assert host.remove("/home/disks/disk")
    unharmed(root)


def test_rules_of_sudo_through_no_link_but_roots(root: Path) -> None:
    host, rules = Host(root), "/etc/sudoers.d/90-gandi-agent-ann"
    (root / rules.lstrip("/")).symlink_to("/home/ann/rules")
    host.write(rules, "ann ALL=(ALL) ALL\n", mode=0o440)
    made = root / "home/ann/rules"
    assert (stat.S_IMODE(made.stat().st_mode), made.stat().st_uid) == (0o440, 0)
    os.chown(root / rules.lstrip("/"), USER, USER, follow_symlinks=False)
    with pytest.raises(HostError, match="not followed"):
        host.write(rules, "x", mode=0o440)
    (root / rules.lstrip("/")).unlink()
    unharmed(root)


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO])
def test_a_device_is_replaced_and_not_opened(root: Path, kind: int) -> None:
    os.mknod(root / "home/ann/file", kind | 0o666, os.makedev(1, 3))
    host = Host(root)
    with pytest.raises(HostError, match="not a regular file"):
        host.read_file("/home/ann/file")
    assert host.write("/home/ann/file", "x")
    assert (root / "home/ann/file").read_text() == "x"


def test_what_cannot_be_changed_is_named_and_leaves_nothing(root: Path) -> None:
    file = root / "etc/ssh/fixed"
    file.write_text("before")
    subprocess.run(["chattr", "+i", file], check=True)
    try:
        with pytest.raises(HostError, match="/etc/ssh/fixed: cannot be written: Operation not permitted"):
            Host(root).write("/etc/ssh/fixed", "x")
        with pytest.raises(HostError, match="/etc/ssh/fixed: cannot be removed: Operation not permitted"):
            Host(root).remove("/etc/ssh/fixed")
    finally:
        subprocess.run(["chattr", "-i", file], check=True)
    assert file.read_text() == "before"
    assert sorted(os.listdir(root / "etc/ssh")) == ["fixed", "sshd_config"]


def test_a_users_acl_counts(root: Path) -> None:
    (root / "var/lib").chmod(0o755)
    (root / "var/lib/link").symlink_to("/etc/shadow")
    # linux/posix_acl_xattr.h: owner, the user, group, mask, others.
    entries = ((0x01, 7, -1), (0x02, 7, USER), (0x04, 5, -1), (0x10, 7, -1), (0x20, 5, -1))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(root / "var/lib", "system.posix_acl_access", acl)
    as_user("touch", root / "var/lib/file")
    with pytest.raises(HostError, match="not followed"):
        Host(root).write("/var/lib/link", "x")
    unharmed(root)


def test_a_filesystem_of_a_users_program_says_what_it_likes(root: Path) -> None:
    """FUSE can report any owner, so a mount is judged by its type. The kernel's own request to it would wait
    for an answer, so the folder is not walked through here: the function that decides gets its device
    number.
    """
    from agent.host import descriptor_walk

    device = os.open("/dev/fuse", os.O_RDWR)
    place = root / "var/keys"
    try:
        options = f"fd={device},rootmode=40000,user_id={USER},group_id={USER},allow_other"
        subprocess.run(
            ["mount", "-i", "-t", "fuse", "-o", options, "x", place],
            check=True,
            pass_fds=(device,),
            timeout=20,
        )
        try:
            line = next(
                line for line in Path("/proc/self/mountinfo").read_text().split("\n") if str(place) in line
            )
            major, minor = map(int, line.split(" ")[2].split(":"))
            assert descriptor_walk._by_fuse({os.makedev(major, minor)})
            assert not descriptor_walk._by_fuse({root.stat().st_dev, os.stat("/proc").st_dev})
        finally:
            subprocess.run(["umount", "-l", place], check=True)
    finally:
        os.close(device)
