"""SSH host keys by the real ssh-keygen, in a temporary overlay of this machine's tree: after a power cut at
any moment, the next boot completes them.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from agent.steps import hostkeys
from agent.steps.hostkeys import MAKER
from tests.system.test_users import Machine, machine

__all__ = ["machine"]  # a fixture
ROOT = Path(__file__).parents[2]
EARLY, LATE = (ROOT / f"units/gandi-sshdkeygen{name}.service" for name in ("", "-rsa"))
MARK = ".gandi-host-keys"
#: Left by a run that was cut short: keys without their final names.
UNNAMED = f"{MARK}.new/etc/ssh"
KINDS = ("rsa", "ecdsa", "ed25519")
FAST = ("ecdsa", "ed25519")


@pytest.fixture
def folder(machine: Machine) -> Path:
    """Give /etc/ssh of a machine without keys."""
    program = machine.file(MAKER)
    program.parent.mkdir(exist_ok=True)
    shutil.copy(ROOT / "bin" / program.name, program)
    os.mknod(machine.file("/dev/null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    folder = machine.file("/etc/ssh")
    for key in folder.glob("ssh_host_*"):
        key.unlink()
    return folder


def _run(machine: Machine, *how: str) -> subprocess.CompletedProcess[str]:
    argv = ["chroot", machine.host.root, MAKER, *how]
    return subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def _make(machine: Machine, *how: str) -> None:
    done = _run(machine, *how)
    assert not done.returncode, done.stderr


def _boot(machine: Machine, folder: Path) -> None:
    """Run both units, each if its conditions hold."""
    if _comes(folder, EARLY):
        _make(machine, "early")
    if _comes(folder, LATE):
        _make(machine, "late")


def _comes(folder: Path, unit: Path) -> bool:
    """Return whether the unit's conditions hold: all normal ones, and one of the triggering ones
    (systemd.unit(5)).
    """
    names = [str(path) for path in folder.iterdir()]
    triggers, needed = list[bool](), list[bool]()
    for line in unit.read_text().replace("/etc/ssh/", f"{folder}/").split("\n"):
        kind, _, pattern = line.partition("=")
        if kind in ("ConditionPathExists", "ConditionPathExistsGlob"):
            there = bool(fnmatch.filter(names, pattern.lstrip("|!")))
            holds = there is ("!" not in pattern[:2])
            (triggers if pattern.startswith("|") else needed).append(holds)
    assert triggers or needed
    return all(needed) and (any(triggers) or not triggers)


def _public(folder: Path, kinds: tuple[str, ...] = KINDS) -> dict[str, str]:
    """Return the public half of each key, computed from the key; there must be no others."""
    found = {}
    for kind in kinds:
        private = folder / f"ssh_host_{kind}_key"
        said = subprocess.run(["ssh-keygen", "-y", "-P", "", "-f", private], check=True, capture_output=True)
        found[kind] = " ".join(said.stdout.decode().split(" ")[:2]).strip()
        public = private.with_suffix(".pub")
        assert public.read_text().startswith(found[kind])
        assert [path.stat().st_mode & 0o777 for path in (private, public)] == [0o600, 0o644]
    assert {path.name for path in folder.glob("*ssh_host_*")} == {
        f"ssh_host_{kind}_key{end}" for kind in kinds for end in ("", ".pub")
    }
    return found


def _is_done(folder: Path) -> bool:
    return not list(folder.glob(".gandi*")) and not _comes(folder, EARLY) and not _comes(folder, LATE)


def test_two_before_ssh_and_the_third_after_it(machine: Machine, folder: Path) -> None:
    _make(machine, "early")
    before = _public(folder, FAST)
    assert _comes(folder, LATE)
    _make(machine, "late")
    after = _public(folder)
    assert {kind: after[kind] for kind in FAST} == before
    assert _is_done(folder)


def test_without_a_word_all_at_once(machine: Machine, folder: Path) -> None:
    _make(machine)
    _public(folder)
    assert _is_done(folder)


@pytest.mark.parametrize(
    ("name", "text", "enough"),
    [
        ("sshd_config", "HostKey /etc/ssh/ssh_host_rsa_key\n", False),
        ("sshd_config.d/9.conf", '  hostkey="/etc/ssh/ssh_host_rsa_key"\n', False),
        ("sshd_config", "HostKey /etc/ssh/mine\n", False),
        ("sshd_config", "#HostKey /etc/ssh/ssh_host_rsa_key\n", True),
        ("sshd_config", "HostKey /etc/ssh/ssh_host_rsa_key\nHostKey /etc/ssh/ssh_host_ed25519_key\n", True),
        ("sshd_config", "HostKeyAlgorithms rsa-sha2-512,rsa-sha2-256\n", False),
        ("sshd_config", "HostKeyAlgorithms -ecdsa*,ssh-ed25519*\n", False),
        ("sshd_config", "HostKeyAlgorithms +ssh-rsa\n", True),
        ("sshd_config", "HostKeyAlgorithms ssh-ed25519,rsa-sha2-512\n", True),
        ("sshd_config", "HostKeyAgent /run/agent\n", False),
        ("sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\n", True),
        ("sshd_config", "Include /etc/ssh/more\n", False),
        ("../default/ssh", "SSHD_OPTS='-h /etc/ssh/ssh_host_rsa_key'\n", False),
        ("../default/ssh", "SSHD_OPTS=\n", True),
    ],
)
def test_sshd_has_a_key_that_it_is_configured_for(
    machine: Machine, folder: Path, name: str, text: str, enough: bool
) -> None:
    """Where sshd would not start, or offer no key, without the RSA key, that is made before it, too."""
    for path in (folder / "sshd_config", *folder.glob("sshd_config.d/*"), folder.parent / "default/ssh"):
        path.unlink(missing_ok=True)
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    _make(machine, "early")
    _public(folder, FAST if enough else KINDS)
    assert _is_done(folder) is not enough


@pytest.mark.parametrize("how", ["early", "late"])
def test_what_a_cut_run_has_left_is_thrown_away_and_made_again(
    machine: Machine, folder: Path, how: str
) -> None:
    """A key without its final name may be of any length; those with it stay."""
    before = {}
    if how == "late":
        _make(machine, "early")
        before = _public(folder, FAST)
    (folder / UNNAMED).mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    for kind in KINDS:
        (folder / UNNAMED / f"ssh_host_{kind}_key").write_text("-----BEGIN OPENSSH")
        (folder / UNNAMED / f"ssh_host_{kind}_key.pub").touch()
    _boot(machine, folder)
    after = _public(folder)
    assert before.items() <= after.items()
    assert _is_done(folder)


def test_killed_at_any_moment_the_next_boot_finishes_and_no_key_changes(
    machine: Machine, folder: Path
) -> None:
    known = dict[str, str]()
    for delay in range(0, 60, 4):
        argv = ["chroot", machine.host.root, "setsid", MAKER, "late" if known else "early"]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(delay / 1000)
            os.kill(process.pid, signal.SIGKILL)
        there = tuple(kind for kind in KINDS if (folder / f"ssh_host_{kind}_key").exists())
        for kind in there:
            said = subprocess.run(
                ["ssh-keygen", "-y", "-P", "", "-f", folder / f"ssh_host_{kind}_key"],
                check=True,
                capture_output=True,
            )
            public = said.stdout.decode()
            assert known.setdefault(kind, public) == public
    _boot(machine, folder)
    after = _public(folder)
    assert all(public.startswith(after[kind]) for kind, public in known.items())


def test_a_key_of_somebody_elses_that_comes_meanwhile_stays(machine: Machine, folder: Path) -> None:
    """As when sshd's package makes one in an upgrade."""
    _make(machine, "early")
    key = folder / "ssh_host_rsa_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", key], check=True)
    text = key.read_text()
    _make(machine, "late")
    assert key.read_text() == text
    assert _is_done(folder)


def test_of_a_machine_with_one_key_nothing_is_made(machine: Machine, folder: Path) -> None:
    """The administrator wants no others; an empty one that they left is ignored."""
    _make(machine)
    for kind in ("rsa", "ecdsa"):
        (folder / f"ssh_host_{kind}_key").unlink()
    assert not _comes(folder, EARLY)
    assert not _comes(folder, LATE)


@pytest.mark.parametrize("pages", [0, 4])
def test_a_full_disk_is_named_and_with_room_the_keys_are_finished(
    machine: Machine, folder: Path, pages: int
) -> None:
    """ssh-keygen itself exits with 0 when it could not write a key."""
    space = Path(machine.host.root).parent / "space"
    filler = space / "filler"
    free = os.statvfs(space).f_bavail
    subprocess.run(["fallocate", "-l", str((free - pages) * 4096), filler], check=True)
    done = _run(machine, "early")
    assert done.returncode
    assert re.search(r"No space left|I/O error", done.stderr)
    filler.unlink()
    _boot(machine, folder)
    _public(folder)
    assert _is_done(folder)


@pytest.mark.parametrize(
    ("types", "early", "all_kinds"),
    [
        (("ed25519",), ("ed25519",), ("ed25519",)),
        (("rsa", "ecdsa"), ("ecdsa",), ("rsa", "ecdsa")),
        # sshd would have no key to offer.
        (("rsa",), ("rsa",), ("rsa",)),
    ],
)
def test_only_the_types_that_the_document_names(
    machine: Machine,
    folder: Path,
    types: tuple[str, ...],
    early: tuple[str, ...],
    all_kinds: tuple[str, ...],
) -> None:
    machine.file(hostkeys.TYPES).write_text("".join(f"{kind}\n" for kind in types))
    _make(machine, "early")
    _public(folder, early)
    _boot(machine, folder)
    _public(folder, all_kinds)
    assert not _comes(folder, EARLY)
    assert not _comes(folder, LATE)
