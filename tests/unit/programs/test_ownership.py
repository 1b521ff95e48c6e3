"""Who besides root may write a file, by owner, mode and ACL, with real ACLs of the kernel."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest

from agent.programs.ownership import why_untrusted, why_writable, writers

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="ownership is root's to give")
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
ANYONE = 0xFFFFFFFF
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


def acl(*named: tuple[int, int, int], group: int = 5, mask: int | None = 7, other: int = 5) -> bytes:
    """Return the xattr of an ACL with these entries (tag, rights, id)."""
    entries = [(USER_OBJ, 7, ANYONE), *named, (GROUP_OBJ, group, ANYONE), (OTHER, other, ANYONE)]
    entries += [(MASK, mask, ANYONE)] if mask is not None else []
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in sorted(entries))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with etc/hooks/hook, which only root can write."""
    (tmp_path / "etc/hooks").mkdir(parents=True)
    (tmp_path / "etc/hooks/hook").write_text("#!/bin/sh\n")
    (tmp_path / "etc/hooks/hook").chmod(0o755)
    return tmp_path


def judged(tree: Path) -> tuple[str, str]:
    return why_untrusted(str(tree), "/etc/hooks/hook")


@pytest.mark.parametrize("place", ["etc/hooks/hook", "etc/hooks", "etc"])
@pytest.mark.parametrize(
    ("given", "named"),
    [
        (acl((USER, 7, 1001)), "uid 1001"),
        (acl((USER, 2, 1001), (USER, 5, 1002)), "uid 1001"),
        (acl((GROUP, 6, 50)), "gid 50"),
        (acl((USER, 6, 1001), (GROUP, 6, 50)), "uid 1001, gid 50"),
    ],
)
def test_an_acl_that_lets_others_write(tree: Path, place: str, given: bytes, named: str) -> None:
    assert judged(tree) == ("", "")
    os.setxattr(tree / place, ACCESS, given)
    assert judged(tree) == (f"/{place} has an ACL that lets {named} write it", f"setfacl -b /{place}")


@pytest.mark.parametrize(
    "given",
    [
        acl((USER, 5, 1001)),
        acl((USER, 7, 1001), mask=5),
        acl((USER, 7, 0), (GROUP, 7, 0)),
        acl((GROUP, 5, 50), group=7),
        acl(group=5, mask=None),
    ],
    ids=["reads", "masked", "root", "root's group", "minimal"],
)
def test_an_acl_that_lets_nobody_else_write(tree: Path, given: bytes) -> None:
    os.setxattr(tree / "etc/hooks/hook", ACCESS, given)
    assert judged(tree) == ("", "")


def test_of_a_file_with_an_acl_the_groups_own_entry_counts_and_not_the_mask(tree: Path) -> None:
    hook = tree / "etc/hooks/hook"
    os.chown(hook, 0, 50)
    os.setxattr(hook, ACCESS, acl((USER, 5, 1001), group=5, mask=7))
    assert hook.stat().st_mode & 0o020, "what the mode shows is the mask"
    assert judged(tree) == ("", "")
    os.setxattr(hook, ACCESS, acl((USER, 5, 1001), group=7, mask=7))
    assert judged(tree)[0] == "/etc/hooks/hook can be written by others than root"


def test_a_default_acl_gives_no_right_to_the_folder_and_is_seen_in_what_is_made_there(tree: Path) -> None:
    os.setxattr(tree / "etc/hooks", DEFAULT, acl((USER, 7, 1001)))
    assert judged(tree) == ("", "")
    (tree / "etc/hooks/hook").unlink()
    os.close(os.open(tree / "etc/hooks/hook", os.O_CREAT | os.O_WRONLY, 0o775))
    assert "uid 1001" in judged(tree)[0]


@pytest.mark.parametrize("link", ["/home/user/link", "/tmp/link"])
def test_a_link_on_the_way_that_its_owner_can_replace(tree: Path, link: str) -> None:
    """The link's target is root's now, but the owner of the link can change that."""
    (tree / "home/user").mkdir(parents=True)
    (tree / "tmp").mkdir()
    (tree / "tmp").chmod(0o1777)
    (tree / "safe").write_text("#!/bin/sh\n")
    (tree / link[1:]).symlink_to("/safe")
    (tree / "etc/hooks/hook").unlink()
    (tree / "etc/hooks/hook").symlink_to(link)
    assert judged(tree) == ("", "")
    os.chown(tree / "home/user", 1001, 0)
    os.chown(tree / link[1:], 1001, 0, follow_symlinks=False)
    assert judged(tree)[0].endswith("does not belong to root")


def test_in_a_folder_like_tmp_the_file_alone_counts(tree: Path) -> None:
    (tree / "etc/hooks").chmod(0o1777)
    assert judged(tree) == ("", "")
    assert why_writable(str(tree / "etc/hooks"), sticky=False)[0]


def test_a_loop_of_links_and_what_is_missing_are_refused(tree: Path) -> None:
    (tree / "etc/hooks/hook").unlink()
    assert "cannot be examined" in judged(tree)[0]
    (tree / "etc/hooks/hook").symlink_to("hook")
    assert "symbolic links" in judged(tree)[0]


@pytest.mark.parametrize("data", [b"", b"\2\0\0", struct.pack("<I", 1), acl() + b"x"])
def test_what_is_no_acl_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a POSIX ACL"):
        writers(data)
