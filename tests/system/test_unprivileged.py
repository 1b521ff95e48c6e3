"""``plan`` and ``apply`` for a user who is not root, on a tree and on an image of their own."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.disks.offline import image as image_disk
from agent.host.host import Host
from tests.contents import digest
from tests.system.imagedisks import made, opened, opened_volume, tree, with_volumes
from tests.system.ordinary import FIRST, UID, Ordinary, appliance, reachable
from tests.system.test_plan_image import hostile, is_planned, outside_of

FILES = [
    {"path": "/etc/injected", "content": "text\n"},
    {"path": "/home/own/text", "content": "text\n", "owner": "own", "group": "own", "mode": "0640"},
]
DOCUMENT = {
    "version": 1,
    "id": "image-1",
    "hostname": "vm1.example.org",
    "files": FILES,
}


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with reachable() as folder:
        yield folder


@pytest.fixture
def user(tmp_path: Path) -> Ordinary:
    return Ordinary(tmp_path / "user")


def given(root: Path, *, to: int, accounts: int) -> Path:
    """Make a tree with the account ``own`` (1), owned by ``to``; ``accounts`` is the owner of that one's
    home.
    """
    tree(root)
    for name, line in {"passwd": "own:x:1:1::/home/own:/bin/sh\n", "group": "own:x:1:\n"}.items():
        with (root / "etc" / name).open("a") as file:
            file.write(line)
    (root / "home/own").mkdir(parents=True)
    for folder, _, names in os.walk(root):
        for name in ("", *names):
            os.lchown(Path(folder, name), to, to)
    os.chown(root / "home/own", accounts, accounts)
    return root


def owner(path: Path) -> tuple[int, int, int]:
    info = path.lstat()
    return info.st_uid, info.st_gid, info.st_mode & 0o7777


@pytest.mark.parametrize(("to", "first"), [(UID, FIRST), (FIRST, FIRST + 1)], ids=["own", "subordinate"])
def test_a_tree_of_their_own_is_planned_and_configured(
    user: Ordinary, tmp_path: Path, to: int, first: int
) -> None:
    """Also one with a subordinate id as its root, as tools make it in a namespace."""
    root, document = given(tmp_path / "tree", to=to, accounts=first), json.dumps(DOCUMENT)
    said = user.run("plan", "--root", str(root), "--source", "-", stdin=document)
    assert is_planned(said), said
    assert not (root / "etc/hostname").exists()
    assert not (root / "var/lib/gandi").exists()
    user.run("apply", "--root", str(root), "--source", "-", stdin=document)
    assert (root / "etc/hostname").read_text() == "vm1.example.org\n"
    assert owner(root / "etc/injected") == (to, to, 0o644)
    assert owner(root / "home/own/text") == (first, first, 0o640)
    assert owner(root / "var/lib/gandi") == (to, to, 0o700)
    again = user.run("apply", "--root", str(root), "--source", "-", stdin=document)
    assert "hostname: unchanged" in again
    assert "files: unchanged" in again


def test_a_tree_of_roots_is_refused(user: Ordinary, tmp_path: Path) -> None:
    root = given(tmp_path / "tree", to=0, accounts=0)
    for verb in ("plan", "apply"):
        said = user.run(verb, "--root", str(root), "--source", "-", stdin=json.dumps(DOCUMENT), status=1)
        assert "belongs to uid 0, which is neither yours nor one of your subordinate ids" in said
        assert "try: work on a tree of your own, or run it as root" in said
    assert not (root / "var/lib/gandi").exists()


def test_without_subordinate_ids_the_remedy_is_named(tmp_path: Path) -> None:
    user = Ordinary(tmp_path / "user", ids="other:300000:65536\nordinary:200000:10\n")
    root = given(tmp_path / "tree", to=UID, accounts=UID)
    said = user.run("apply", "--root", str(root), "--source", "-", stdin=json.dumps(DOCUMENT), status=1)
    assert "ordinary has no 65534 subordinate ids in /etc/subuid" in said
    assert "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ordinary" in said
    assert not (root / "var/lib/gandi").exists()


@pytest.mark.parametrize("words", [("--repair",), ("--bootloader", "grub")])
def test_what_needs_the_disk_is_roots(user: Ordinary, tmp_path: Path, words: tuple[str, ...]) -> None:
    root = given(tmp_path / "tree", to=UID, accounts=FIRST)
    said = user.run("apply", "--root", str(root), *words, status=1)
    assert "must be run as root" in said


def test_a_hostile_tree_is_not_run_and_leads_nowhere(user: Ordinary, tmp_path: Path) -> None:
    """Also not to files that the user may write to."""
    root, outside = given(tmp_path / "tree", to=UID, accounts=FIRST), user.home / "outside"
    hostile(root, outside)
    own_accounts(root)
    for path in (outside, *outside.iterdir()):
        os.chown(path, UID, UID)
    there = outside_of(outside)
    user.run("plan", "--root", str(root), "--source", "-", stdin=json.dumps(DOCUMENT), status=1)
    user.run("apply", "--root", str(root), "--source", "-", stdin=json.dumps(DOCUMENT), status=1)
    assert outside_of(outside) == there


def test_an_image_needs_guestmount_and_swap_is_roots(user: Ordinary) -> None:
    image = user.home / "disk.raw"
    image.write_bytes(bytes(1 << 20))
    os.chown(image, UID, UID)
    words = ("apply", "--image", str(image), "--source", "-")
    said = user.run(*words, "--swap=64M:partition", stdin=json.dumps(DOCUMENT), status=1)
    assert "--swap: only root can add swap to an image" in said
    said = user.run(*words, stdin=json.dumps(DOCUMENT), status=1, hidden="/usr/bin/guestmount")
    assert "guestmount: not installed" in said
    assert "try: install the package guestmount, or run it as root" in said
    assert image.read_bytes() == bytes(1 << 20)


def in_a_partition(folder: Path, outside: Path) -> tuple[Path, str]:
    """Make an image with a hostile system in a partition; return it and how the system is named."""
    image = made(folder, "gpt", "ext4")
    with opened(image, 2) as at:
        hostile(at, outside)
        own_accounts(at)
    return image, "2"


def in_a_volume(folder: Path, outside: Path) -> tuple[Path, str]:
    """Make an image with a hostile system in a volume."""
    image = with_volumes(folder, "msdos", "root=80")
    with opened_volume(image, 2, "root") as at:
        hostile(at, outside)
        own_accounts(at)
    return image, "vg0/root"


def own_accounts(root: Path) -> None:
    """Replace the hostile link by a file: without accounts nothing would be tried."""
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "make", "outcome"),
    [("plan", in_a_volume, "would change: vm1.example.org"), ("apply", in_a_partition, "changed")],
    ids=["plan", "apply"],
)
def test_a_hostile_image_is_opened_by_a_throw_away_machine(
    user: Ordinary,
    tmp_path: Path,
    verb: str,
    make: Callable[[Path, Path], tuple[Path, str]],
    outcome: str,
) -> None:
    """Only that reads its bytes; nothing of it is run, no link in it leads to this machine, and a plan
    changes no byte. The next test, and tests/vm/test_plan.py: what is done in one that is not hostile.
    """
    outside = user.home / "outside"
    image, system = make(tmp_path, outside)
    for path in (image, outside, *outside.iterdir()):
        os.chown(path, UID, UID)
    there, before, how = outside_of(outside), digest(image), appliance(tmp_path)
    words = (verb, "--image", str(image), "--source", "-", "--partition", system)
    said = user.run(*words, stdin=json.dumps(DOCUMENT), timeout=900, environment=how, status=1)
    assert f"hostname: {outcome}" in said
    assert (digest(image) == before) == (verb == "plan")
    assert outside_of(outside) == there


@pytest.mark.slow
@pytest.mark.parametrize("fstype", ["xfs", "btrfs"])
def test_an_image_of_another_filesystem_is_planned_and_configured(
    user: Ordinary, tmp_path: Path, fstype: str
) -> None:
    """One with ext4 is in tests/vm/test_plan.py, where it boots."""
    image, document = made(tmp_path, "gpt", fstype), json.dumps(DOCUMENT | {"files": FILES[:1]})
    os.chown(image, UID, UID)
    before, how = digest(image), appliance(tmp_path)
    words = ("--image", str(image), "--source", "-")
    if fstype == "xfs":
        said = user.run("plan", *words, stdin=document, timeout=900, environment=how, status=1)
        assert "try: if its root is not found, name it with --partition" in said
    named = (*words, "--partition", "2")
    assert is_planned(user.run("plan", *named, stdin=document, timeout=900, environment=how))
    assert digest(image) == before
    said = user.run("apply", *named, stdin=document, timeout=900, environment=how)
    assert "hostname: changed" in said
    assert "left to the first boot, which grows the root" in said
    with opened(image, 2) as at:
        assert (at / "etc/hostname").read_text() == "vm1.example.org\n"
        assert owner(at / "etc/injected") == (0, 0, 0o644)
        assert owner(at / "var/lib/gandi") == (0, 0, 0o700)


@pytest.mark.slow
def test_a_kill_leaves_no_machine(user: Ordinary, tmp_path: Path) -> None:
    image, document = made(tmp_path, "gpt", "ext4"), user.home / "document.json"
    document.write_text(json.dumps(DOCUMENT))
    for path in (image, document):
        os.chown(path, UID, UID)
    words = ("apply", "--image", str(image), "--source", str(document))
    with subprocess.Popen(user.command(*words), env={**os.environ, **appliance(tmp_path)}) as command:
        wait(lambda: command.poll() is not None or "qemu-system-x86" in user.processes())
        assert command.poll() is None
        command.kill()
    wait(lambda: not user.processes())
    with image_disk.opened(Host(), str(image)):
        pass  # it is locked by no program


def wait(condition: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
