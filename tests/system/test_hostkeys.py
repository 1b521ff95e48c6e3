"""SSH host keys by the real ssh-keygen, in a throw-away view of this machine's own tree: a power cut at any
moment leaves what the next boot finishes.
"""

from __future__ import annotations

import fnmatch
import itertools
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from agent.steps.hostkeys import MAKER
from tests.system.test_users import Machine, machine

__all__ = ["machine"]  # a fixture
ROOT = Path(__file__).parents[2]
UNIT = ROOT / "units/gandi-sshdkeygen.service"
MARK = ".gandi-host-keys"
KINDS = ("rsa", "ecdsa", "ed25519")


@pytest.fixture
def folder(machine: Machine) -> Path:
    """/etc/ssh of a machine that has no keys yet."""
    program = machine.file(MAKER)
    program.parent.mkdir(exist_ok=True)
    shutil.copy(ROOT / "bin" / program.name, program)
    os.mknod(machine.file("/dev/null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    folder = machine.file("/etc/ssh")
    for key in folder.glob("ssh_host_*"):
        key.unlink()
    return folder


def _make(machine: Machine) -> None:
    done = _run(machine)
    assert not done.returncode, done.stderr


def _run(machine: Machine) -> subprocess.CompletedProcess[str]:
    argv = ["chroot", machine.host.root, MAKER]
    return subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def _comes(folder: Path) -> bool:
    """Whether the unit's conditions have it run: one that triggers, of several (systemd.unit(5))."""
    text = UNIT.read_text().replace("/etc/ssh", str(folder))
    found = False
    for line in text.split("\n"):
        kind, _, pattern = line.partition("=|")
        if pattern:
            assert kind in ("ConditionPathExists", "ConditionPathExistsGlob")
            names = [str(path) for path in folder.iterdir()]
            there = bool(fnmatch.filter(names, pattern.lstrip("!")))
            found |= there is not pattern.startswith("!")
    return found


def _public(folder: Path) -> dict[str, str]:
    """The public half of each key, by its own word; sshd reads the private one."""
    found = {}
    for kind in KINDS:
        private = folder / f"ssh_host_{kind}_key"
        said = subprocess.run(["ssh-keygen", "-y", "-P", "", "-f", private], check=True, capture_output=True)
        found[kind] = " ".join(said.stdout.decode().split(" ")[:2]).strip()
        assert private.with_suffix(".pub").read_text().startswith(found[kind])
        assert private.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in folder.glob("*ssh_host_*")} == {
        f"ssh_host_{kind}_key{end}" for kind in KINDS for end in ("", ".pub")
    }
    assert not (folder / MARK).exists()
    return found


def test_made_once(machine: Machine, folder: Path) -> None:
    assert _comes(folder)
    _make(machine)
    _public(folder)
    assert not _comes(folder)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _halved(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _gone(path: Path) -> None:
    path.unlink()


def test_a_key_that_a_power_cut_damaged_is_made_again_and_the_others_stay(
    machine: Machine, folder: Path
) -> None:
    _make(machine)
    names = ("ssh_host_ed25519_key", "ssh_host_ecdsa_key.pub")
    for name, damage in itertools.product(names, (_empty, _halved, _zeroed, _gone)):
        before = _public(folder)
        (folder / MARK).touch()  # as before its last line
        damage(folder / name)
        (folder / "ssh_host_ecdsa_key.AbCdEfGh12").write_text("secret")
        (folder / "ssh_host_ecdsa_key.pub.AbCdEfGh12").touch()
        assert _comes(folder)
        _make(machine)
        after = _public(folder)
        assert {kind for kind in KINDS if before[kind] != after[kind]} == {name.split("_")[2]}
        assert not _comes(folder)


def test_of_a_machine_with_one_key_nothing_is_made(machine: Machine, folder: Path) -> None:
    """The administrator wants no other; nor is an empty one of his looked at."""
    _make(machine)
    for kind in ("rsa", "ecdsa"):
        (folder / f"ssh_host_{kind}_key").unlink()
    assert not _comes(folder)


@pytest.mark.parametrize("pages", [0, 3])
def test_a_full_disk_is_named_and_with_room_the_keys_are_finished(
    machine: Machine, folder: Path, pages: int
) -> None:
    """ssh-keygen itself ends with 0 where it could not write a key."""
    space = Path(machine.host.root).parent / "space"
    filler = space / "filler"
    free = os.statvfs(space).f_bavail
    subprocess.run(["fallocate", "-l", str((free - pages) * 4096), filler], check=True)
    done = _run(machine)
    assert done.returncode
    assert "No space left" in done.stderr
    filler.unlink()
    assert _comes(folder)
    _make(machine)
    _public(folder)
