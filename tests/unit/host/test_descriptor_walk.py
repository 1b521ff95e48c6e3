"""A name is changed in the folder that was walked to, whatever users do; only root's links are followed."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.host import atomic_write
from agent.host.descriptor_walk import walk
from agent.host.host import Host
from agent.lib.errors import HostError

ME = (os.geteuid(), os.getegid())
SECRET = "root:secret\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a machine with a file that must not change, and a folder that a user may write to."""
    for name in ("etc", "run", "home/user", "var/lib"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "etc/shadow").write_text(SECRET)
    (tmp_path / "etc/shadow").chmod(0o600)
    (tmp_path / "home/user").chmod(0o777)
    return tmp_path


@pytest.fixture
def host(root: Path) -> Host:
    return Host(root)


def unharmed(root: Path) -> bool:
    """Return whether the file and its folder are unchanged."""
    shadow = root / "etc/shadow"
    mode = stat.S_IMODE(shadow.stat().st_mode)
    return (shadow.read_text(), mode, os.listdir(root / "etc")) == (SECRET, 0o600, ["shadow"])


#: Each way to change a name, or to read a file that is rewritten.
EFFECTS: dict[str, Callable[[Host, str], object]] = {
    "write": lambda host, name: host.write(name, "x", owner=ME),
    "chunks": lambda host, name: host.write_chunks(name, [b"x"]),
    "as it is": lambda host, name: host.read_file(name),
    "mkdir": lambda host, name: host.mkdir(f"{name}/below"),
    "remove": lambda host, name: host.remove(f"{name}/below"),
    "symlink": lambda host, name: host.symlink(f"{name}/below", "x"),
    "device": lambda host, name: _open(host, name, os.O_RDWR),
    "new": lambda host, name: _open(host, name, os.O_RDWR | os.O_CREAT),
    "emptied": lambda host, name: _open(host, name, os.O_RDONLY | os.O_TRUNC),
    "folder": lambda host, name: _open(host, name, os.O_RDONLY | os.O_NOFOLLOW),
    "kernel": lambda host, name: host.sysfs_write(name, "1"),
}


def _open(host: Host, name: str, flags: int) -> None:
    with host.opened(name, flags):
        pass


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize(
    "where", ["/etc/shadow", "../../etc/shadow", "/etc/absent", "/etc", "/nowhere/at-all"]
)
def test_a_link_in_a_users_folder_is_not_followed(root: Path, host: Host, effect: str, where: str) -> None:
    (root / "home/user/name").symlink_to(where)
    with pytest.raises(HostError, match="a user may have put there; not followed") as caught:
        EFFECTS[effect](host, "/home/user/name")
    assert caught.value.hint
    assert unharmed(root)
    assert os.listdir(root / "home/user") == ["name"]
    assert not (root / "nowhere").exists()


@pytest.mark.parametrize("effect", EFFECTS)
def test_nor_one_on_the_way(root: Path, host: Host, effect: str) -> None:
    (root / "home/user/folder").symlink_to("/etc")
    with pytest.raises(
        HostError, match="/home/user/folder is a symbolic link that a user may have put there"
    ):
        EFFECTS[effect](host, "/home/user/folder/shadow")
    assert unharmed(root)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757, 0o1777])
def test_who_may_write_a_folder_decides(root: Path, host: Host, mode: int) -> None:
    """In a folder with an ACL the group's bits are the mask; a sticky folder like /tmp is no better."""
    (root / "var/lib").chmod(mode)
    (root / "var/lib/link").symlink_to("/etc/shadow")
    with pytest.raises(HostError, match="not followed"):
        host.write("/var/lib/link", "x", owner=ME)
    assert unharmed(root)


def test_what_is_roots_in_a_users_folder_may_have_been_moved_there(root: Path, host: Host) -> None:
    inner = root / "home/user/roots"
    inner.mkdir(mode=0o755)
    (inner / "link").symlink_to("/etc")
    with pytest.raises(HostError, match="not followed"):
        host.write("/home/user/roots/link/shadow", "x", owner=ME)
    assert unharmed(root)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give things away")
@pytest.mark.parametrize("given", ["link", "folder"])
def test_what_belongs_to_a_user_is_a_users(root: Path, host: Host, given: str) -> None:
    (root / "var/lib/link").symlink_to("/etc/shadow")
    os.chown(root / ("var/lib/link" if given == "link" else "var/lib"), 1000, 1000, follow_symlinks=False)
    with pytest.raises(HostError, match="not followed"):
        host.write("/var/lib/link", "x", owner=ME)
    assert unharmed(root)


def test_the_administrators_links_go_on_working(root: Path, host: Host) -> None:
    for link, where in (("etc/resolv.conf", "../run/resolve/stub"), ("srv", "/data"), ("etc/tz", "tz2")):
        (root / link).symlink_to(where)
    (root / "etc/tz2").symlink_to("/run/tz")
    (root / "data").mkdir()
    host.write("/etc/resolv.conf", "one", owner=ME)
    host.write("/etc/tz", "two", owner=ME)
    assert host.mkdir("/srv/disk")
    assert not host.mkdir("/srv/disk")
    assert (root / "run/resolve/stub").read_text() == "one"
    assert (root / "run/tz").read_text() == "two"
    assert (root / "data/disk").is_dir()
    assert host.remove("/srv/disk")
    assert not (root / "data/disk").exists()
    assert all((root / link).is_symlink() for link in ("etc/resolv.conf", "srv", "etc/tz", "etc/tz2"))
    assert host.remove("/srv"), "the link itself"
    assert (root / "data").is_dir()


def test_a_users_folder_behind_an_administrators_link_is_a_users(root: Path, host: Host) -> None:
    (root / "srv").symlink_to("/home/user")
    host.write("/srv/file", "x", owner=ME)
    assert (root / "home/user/file").read_text() == "x"
    (root / "home/user/link").symlink_to("/etc")
    with pytest.raises(HostError, match="/home/user/link is a symbolic link"):
        host.write("/srv/link/shadow", "x", owner=ME)
    # After "..", all folders of the path belong to root again.
    (root / "etc/back").symlink_to("/home/user/../../run/file")
    host.write("/etc/back", "x", owner=ME)
    assert (root / "run/file").read_text() == "x"


@pytest.mark.parametrize("name", ["/../../etc/x", "/etc/../../../etc/x", "/etc/./x", "//etc//x", "/up/x"])
def test_nothing_leads_out_of_the_root(root: Path, host: Host, name: str) -> None:
    (root / "up").symlink_to("../../../../etc")
    host.write(name, "x", owner=ME)
    assert (root / "etc/x").read_text() == "x"


@pytest.mark.parametrize("effect", EFFECTS)
def test_a_loop_ends(root: Path, host: Host, effect: str) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with pytest.raises(HostError, match="too many symbolic links"):
        EFFECTS[effect](host, "/a")


@pytest.mark.parametrize("effect", ["write", "chunks", "mkdir", "symlink"])
def test_a_file_in_the_way_is_named(root: Path, host: Host, effect: str) -> None:
    with pytest.raises(HostError, match="Not a directory"):
        EFFECTS[effect](host, "/etc/shadow/x")
    assert not host.remove("/etc/shadow/x")
    assert unharmed(root)


def test_nothing_can_be_done_to_the_root_itself(host: Host) -> None:
    for name in ("/", "/etc/.."):
        assert not host.mkdir(name)
        with pytest.raises(HostError, match="cannot be written"):
            host.write(name, "x", owner=ME)


@pytest.mark.parametrize("kind", ["FIFO", "folder"])
def test_what_is_no_file_is_not_read(root: Path, host: Host, kind: str) -> None:
    target = root / "home/user/name"
    os.mkfifo(target) if kind == "FIFO" else target.mkdir()
    with pytest.raises(HostError, match="not a regular file"):
        host.read_file("/home/user/name")
    if kind == "FIFO":
        assert host.write("/home/user/name", "x", owner=ME)
        assert target.read_text() == "x"


def test_a_second_name_of_another_file_is_neither_read_nor_written_to(root: Path, host: Host) -> None:
    os.link(root / "etc/shadow", root / "home/user/name")
    with pytest.raises(HostError, match="several hard links"):
        host.read_file("/home/user/name")
    host.write("/home/user/name", "x", owner=ME)
    assert unharmed(root)
    os.link(root / "etc/shadow", root / "var/lib/name")
    there = host.read_file("/var/lib/name")
    assert there is not None, "in a folder of root's it is the administrator's doing"
    assert (there.content, there.mode, there.owner) == (SECRET.encode(), 0o600, ME)


def test_too_much_is_not_read(root: Path, host: Host) -> None:
    (root / "etc/large").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(HostError, match="larger than 1 MiB"):
        host.read_file("/etc/large", limit=1 << 20)


@pytest.mark.parametrize("effect", ["write", "chunks", "mkdir", "symlink"])
def test_a_folder_that_is_swapped_after_the_way_was_gone_changes_nothing(
    root: Path, host: Host, effect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment of an attack: the path has been checked, and the name is changed next."""
    folder = root / "home/user/folder"
    folder.mkdir()
    go = Host.place

    def swapped(self: Host, name: str, *, follow: bool = True, make: bool = False) -> object:
        place = go(self, name, follow=follow, make=make)
        if folder.is_symlink() or not name.startswith("/home/user/folder"):
            return place
        folder.rename(root / "home/user/before")
        folder.symlink_to("/etc")
        return place

    monkeypatch.setattr(Host, "place", swapped)
    doing: dict[str, Callable[[], object]] = {
        "write": lambda: host.write("/home/user/folder/shadow", "x", owner=ME),
        "chunks": lambda: host.write_chunks("/home/user/folder/shadow", [b"x"]),
        "mkdir": lambda: host.mkdir("/home/user/folder/made"),
        "symlink": lambda: host.symlink("/home/user/folder/shadow", "x"),
    }
    doing[effect]()
    assert unharmed(root)
    assert os.listdir(root / "home/user/before") == ["made" if effect == "mkdir" else "shadow"]


def test_folders_are_made_below_a_users_one_by_one(root: Path, host: Host) -> None:
    host.write("/home/user/one/two/file", "x", owner=ME)
    assert (root / "home/user/one/two/file").read_text() == "x"
    assert stat.S_IMODE((root / "home/user/one").stat().st_mode) == 0o755


def test_a_folder_has_its_mode_whatever_the_umask(root: Path, host: Host) -> None:
    before = os.umask(0o077)
    try:
        host.mkdir("/srv/disk")
        host.mkdir("/srv/closed", mode=0o700)
        host.write("/srv/on/the/way/file", "x")
        with host.opened("/srv/locks/lock", os.O_RDWR | os.O_CREAT, make=True):
            pass
    finally:
        os.umask(before)
    modes = {
        name: stat.S_IMODE((root / "srv" / name).stat().st_mode)
        for name in ("disk", "closed", "on", "on/the/way", "locks")
    }
    assert modes == {"disk": 0o755, "closed": 0o700, "on": 0o755, "on/the/way": 0o755, "locks": 0o755}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give things away")
def test_a_folder_has_its_owner(root: Path, host: Host) -> None:
    host.mkdir("/home/made", mode=0o750, owner=(1000, 1001))
    info = (root / "home/made").stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o750, 1000, 1001)


def test_a_long_name_of_many_bytes_has_room_for_its_temporary_one(root: Path, host: Host) -> None:
    name = "ü" * 127
    assert host.write(f"/etc/{name}", "x", owner=ME)
    assert (root / "etc" / name).read_text() == "x"


def test_a_path_of_the_running_system_may_be_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    host = Host()
    host.write("image", "x", owner=ME)
    with host.opened("new", os.O_RDWR | os.O_CREAT | os.O_EXCL):
        pass
    assert sorted(os.listdir(tmp_path)) == ["image", "new"]
    assert host.remove("image")


def test_no_descriptor_is_left_open(root: Path, host: Host) -> None:
    (root / "a").symlink_to("a")
    (root / "home/user/link").symlink_to("/etc")
    before = len(os.listdir("/proc/self/fd"))
    for name in ("/etc/new", "/a", "/home/user/link/x", "/etc/shadow/x"):
        for effect in EFFECTS.values():
            try:
                effect(host, name)
            except HostError:
                continue
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_write_costs_few_system_calls(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The most frequent write of a boot: a changed status. It opens the root, two folders and the new file,
    and makes no note: the next run lists this folder.
    """
    host = Host(root)
    host.mkdir("/run/gandi")
    host.write("/run/gandi/status.json", "before", owner=ME)
    calls: list[str] = []
    for name in ("open", "stat", "fstat", "readlink", "symlink", "unlink", "mkdir", "replace"):
        real = getattr(os, name)

        def counted(
            *what: object, name: str = name, real: Callable[..., object] = real, **how: object
        ) -> object:
            calls.append(name)
            return real(*what, **how)

        monkeypatch.setattr(os, name, counted)
    host.write("/run/gandi/status.json", "afterwards", owner=ME)
    assert calls == ["open", "open", "open", "stat", "open", "replace"]


def test_the_end_of_the_way_is_told(root: Path) -> None:
    (root / "srv").symlink_to("/home/user/../user")
    with walk(os.fspath(root), "/srv/x") as place:
        assert (place.folder_path, place.name, place.info) == ("/home/user", "x", None)
        assert not place.is_root_only()
    with walk(os.fspath(root), "/etc/shadow") as place:
        assert place.is_root_only()
        assert atomic_write.is_same(place, SECRET.encode(), 0o600, ME)
