"""``apply --no-programs`` on hostile images: nothing of one is run, and nothing outside it is written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.steps.hostkeys import KEYGEN
from tests import creation
from tests.system import imagedisks
from tests.system.disks import MIB, MKFS, sh
from tests.vm.rig import ImageSpec
from tests.vm.rig.tree import merged

HASH = f"$6$saltsalt${'x' * 86}"
SUDO_RULE = "ALL=(ALL) NOPASSWD:ALL"
DOCUMENT = {
    "version": 1,
    "id": "image-1",
    "hostname": "vm1.example.org",
    "timezone": "Europe/Paris",
    "nameservers": ["203.0.113.3"],
    "users": [
        {"name": "root", "keys": [creation.KEY], "password": HASH},
        {
            "name": "admin1",
            "keys": [creation.KEY],
            "admin": True,
            "groups": ["staff1"],
            "plain_password": "pass word",
            "sudo": [SUDO_RULE],
        },
    ],
    "files": [{"path": "/etc/injected", "content": "text\n", "owner": "admin1"}],
}
#: Names in an image that its maker has replaced by links: to files, and to folders.
FILES = (
    "etc/passwd",
    "etc/passwd-",
    "etc/passwd.lock",
    "etc/.pwd.lock",
    "etc/shadow",
    "etc/group",
    "etc/gshadow",
    "etc/subuid",
    "etc/login.defs",
    "etc/default/useradd",
    "etc/hostname",
    "etc/machine-id",
    "etc/localtime",
    "etc/resolv.conf",
    "etc/injected",
    "etc/sudoers.d/90-gandi-agent-admin1",
    "root/.ssh/authorized_keys",
    "home/admin1/.ssh/authorized_keys",
    "var/lib/gandi/instance.json",
)
FOLDERS = (
    *("root", "root/.ssh", "boot", "home", "home/admin1", "etc/skel", "etc/ssh", "etc/sudoers.d"),
    *("etc", "var", "var/lib/gandi", "run", "tmp"),
)
CLIMBING = ("etc/passwd", "etc/shadow", "root/.ssh", "boot", "etc", "home/admin1")
#: In place of each program: a script that leaves a mark in the image, and one outside if it is not confined.
MARKING = "#!/usr/bin/dash\necho $0 >> /ran\necho $0 >> {outside}/ran\n"
Found = dict[str, tuple[int, int, int, bytes]]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of this machine that the images' links lead to, with what a writer would look for in it."""
    folder = tmp_path / "outside"
    for name in FILES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("root:x:0:0:root:/root:/bin/sh\n")
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    return folder


def state(folder: Path) -> Found:
    """Return mode, owner, time and content of everything in a folder."""
    found = {}
    for path in sorted((folder, *folder.rglob("*"))):
        info = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path)] = (info.st_mode, info.st_uid, info.st_mtime_ns, content)
    return found


def system(folder: Path) -> Path:
    """Make a small system without a program."""
    for name in ("home", "root", "boot", "run", "tmp", "var/lib", "usr/bin", "etc/skel", "etc/default"):
        (folder / name).mkdir(parents=True)
    for name, text in {
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
        "etc/shadow": "root:*:19000:0:99999:7:::\n",
        "etc/group": "root:x:0:\nsudo:x:27:\n",
        "etc/gshadow": "root:*::\nsudo:*::\n",
        "etc/subuid": "",
        "etc/subgid": "",
        "etc/skel/.profile": "umask 022\n",
        "etc/ssh/sshd_config": "",
        "etc/ssh/ssh_host_rsa_key": "secret",
        "usr/bin/visudo": "",
        "usr/share/zoneinfo/Europe/Paris": "TZif",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    enable_key_maker(folder)
    return folder


def enable_key_maker(tree: Path) -> None:
    wants = tree / "etc/systemd/system/ssh.service.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / KEYGEN).symlink_to(f"/usr/lib/systemd/system/{KEYGEN}")


def apply(*words: str, document: object = DOCUMENT) -> tuple[int, str]:
    """Run the command; return its exit status and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "agent", "apply", "--source", "-", "--no-programs", *words],
        input=json.dumps(document).encode(),
        capture_output=True,
        check=False,
        timeout=120,
    )
    said = (done.stdout + done.stderr).decode()
    assert "Traceback" not in said, said
    assert "unexpected" not in said, said
    return done.returncode, said


def test_a_system_without_programs_is_configured(tmp_path: Path) -> None:
    tree = system(tmp_path / "tree")
    status, said = apply("--root", str(tree))
    assert status == 0, said
    assert "gandi-agent: not in the image: what is left to its first boot is not done" in said
    assert re.search("(?m)^admin1:x:1000:1000::/home/admin1:", (tree / "etc/passwd").read_text())
    groups = "root:x:0:\nsudo:x:27:admin1\nadmin1:x:1000:\nstaff1:x:1001:admin1\n"
    assert (tree / "etc/group").read_text() == groups
    shadow = (tree / "etc/shadow").read_text()
    assert f"root:{HASH}:" in shadow
    assert "admin1:$6$" in shadow, "no method is configured in this image"
    for home, owner in (("root", 0), ("home/admin1", 1000)):
        keys = tree / home / ".ssh/authorized_keys"
        assert keys.read_text() == f"{creation.KEY}\n"
        assert keys.stat().st_uid == owner
    assert (tree / "home/admin1/.profile").read_text() == "umask 022\n"
    assert (tree / "etc/injected").stat().st_uid == 1000
    assert (tree / "etc/hostname").read_text() == "vm1.example.org\n"
    assert SUDO_RULE in (tree / "etc/sudoers.d/90-gandi-agent-admin1").read_text()
    assert not list(tree.glob("etc/ssh/ssh_host_*"))
    assert not list(tree.glob("etc/[a-z]*.lock"))
    before = state(tree / "etc")
    status, said = apply("--root", str(tree))
    assert ": changed (" not in said, said
    assert state(tree / "etc") == before


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, "absolute") for name in (*FILES, *FOLDERS)), *((name, "climbing") for name in CLIMBING)],
)
def test_a_link_leads_nowhere(tmp_path: Path, outside: Path, name: str, kind: str) -> None:
    tree = system(tmp_path / "tree")
    place = tree / name
    target = str(outside / name)
    if kind == "climbing":
        target = "../" * 40 + target[1:]
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.symlink_to(target)
    before = state(outside)
    status, said = apply("--root", str(tree))
    assert state(outside) == before, said
    assert status in (0, 1)
    if name in ("etc/shadow", "etc/group", "etc/gshadow"):
        assert f"/{name}: a symbolic link: not changed (put a regular file there, in the image)" in said
        assert "hostname: changed" in said, "what is wrong costs itself"


def test_a_skeleton_without_an_end_is_refused(tmp_path: Path) -> None:
    tree = system(tmp_path / "tree")
    shutil.rmtree(tree / "etc/skel")
    (tree / "etc/skel").symlink_to("/home")
    os.mkfifo(tree / "home/pipe")
    status, said = apply("--root", str(tree))
    assert status == 1
    assert "folders in one another" in said


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file_is_not_opened(tmp_path: Path, name: str) -> None:
    tree = system(tmp_path / "tree")
    place = tree / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    apply("--root", str(tree))


def mark(tree: Path, outside: Path) -> None:
    """Replace every program of a Debian tree, its shells and its Python too, but the one interpreter."""
    text = MARKING.format(outside=outside)
    for folder in ("usr/bin", "usr/sbin", "usr/lib/gandi-agent"):
        for path in (tree / folder).iterdir() if (tree / folder).is_dir() else ():
            if path.name == "dash" or path.is_dir():
                continue
            path.unlink()
            path.write_text(text)
            path.chmod(0o755)
    (tree / "usr/bin/rootshell").write_text(text)
    (tree / "usr/bin/rootshell").chmod(0o4755)


@contextmanager
def hostile(outside: Path) -> Iterator[Path]:
    with merged(ImageSpec()) as tree:
        mark(tree, outside)
        enable_key_maker(tree)
        yield tree


def test_no_program_of_an_image_is_run(tmp_path: Path, outside: Path) -> None:
    before = state(outside)
    with hostile(outside) as tree:
        status, said = apply("--root", str(tree), document=DOCUMENT | {"locale": "de_DE.UTF-8"})
        assert status == 0, said
        assert "left to the first boot: it needs locale of the image" in said
        assert not (tree / "ran").exists()
        assert state(outside) == before
        assert re.search(r"(?m)^admin1:\$y\$", (tree / "etc/shadow").read_text())
        # The marks would be left.
        done = subprocess.run(
            [sys.executable, "-m", "agent", "apply", "--source", "-", "--root", str(tree)],
            input=json.dumps(DOCUMENT | {"hostname": "vm2"}).encode(),
            capture_output=True,
            check=False,
        )
        assert (tree / "ran").exists(), done.stderr.decode()


def test_no_program_of_a_disks_system_is_run(tmp_path: Path, outside: Path) -> None:
    image = imagedisks.blank(tmp_path / "disk.raw", imagedisks.TABLES["gpt"][0], 2048 * MIB)
    with imagedisks.disk(image) as found:
        sh(*MKFS["ext4"], f"/dev/{found.part(2)}")
    with hostile(outside) as tree, imagedisks.opened(image, 2) as at:
        sh("cp", "-a", f"{tree}/.", str(at))
        for name in ("boot", "root/.ssh"):
            shutil.rmtree(at / name)
        (at / "boot").symlink_to(outside / "boot")
        (at / "root/.ssh").symlink_to(f"{'../' * 40}{str(outside)[1:]}/root/.ssh")
    os.truncate(image, 2500 * MIB)
    before = state(outside)
    status, said = apply("--image", str(image), "--swap=64M:partition")
    assert status == 1, "root's folder of keys is a link"
    assert "symbolic link" in said
    assert "grown from" in said
    assert state(outside) == before
    assert not imagedisks.is_attached(image)
    with imagedisks.opened(image, 2) as at:
        assert not (at / "ran").exists()
        assert (at / "home/admin1/.ssh/authorized_keys").read_text() == f"{creation.KEY}\n"
