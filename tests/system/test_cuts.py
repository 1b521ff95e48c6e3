"""The power is cut at each flush of a first boot or of `apply`: the next run reaches the same end.

A filesystem and a swap disk are on one file, with a log of its writes (powercut.py). The kernel, libblkid,
mkswap, the reader and the passwd package are real. From the log the file is made as a cut at each flush
leaves it; mounting it replays its journal, and the agent is run again, as another process. The result is
compared, name by name, with that of an uninterrupted run.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent import sources, stages
from agent.__main__ import main
from agent.context import attempt, context
from agent.host.descriptor_walk import Place, walk
from agent.host.host import Completed, Host
from agent.lib.records import dataclass
from agent.reader.common import archive_layout
from agent.reader.formats import tar_archive
from agent.sources import SearchRequest, SearchResult
from agent.sources import swap_archive as swap_source
from agent.steps import swap
from agent.steps.hostkeys import MAKER
from tests.media import OFFSET, make_archive
from tests.system import powercut
from tests.system.disks import MIB, sh
from tests.unit.reader.dialects.test_gandi import HASH, key
from tests.vm.campaign import Rounds, dice
from tests.vm.rig import ImageSpec, newest_deb
from tests.vm.rig.tree import chroot, merged

#: Bytes of the filesystem, and of the swap disk after it.
SPACE, SWAP = 48 * MIB, 4 * MIB
NIC = {"mac": "52:54:00:00:00:10", "addresses": ["203.0.113.10/24"]}
SECRET = b"the-customers-secret"
#: Files that differ between any two runs: salts, times, random ids; shadow's backup copies.
_APART = re.compile(
    r"/etc/(\.pwd\.lock|machine-id|ssh/ssh_host_.*|(passwd|shadow|group|gshadow|subuid|subgid)-)"
    r"|/var/lib/gandi/instances/[^/]*/delivered|/run/.*"
)
_TEMPORARY = re.compile(r".*(\.gandi-[^/]*|\.lock|/(passwd|shadow|group|gshadow|subuid|subgid)\+)")


@dataclass(slots=True)
class Booted(Host):
    """A running system below a folder, on this machine's devices, that switches no swap on."""

    def path(self, name: str) -> str:
        return name if _outside(name) else Host.path(self, name)

    def place(self, name: str, *, follow: bool = True, make: bool = False) -> Place:
        return walk("/" if _outside(name) else str(self.root), name, follow=follow, make=make)

    def run(self, argv: Sequence[str], **how: Any) -> Completed:
        if argv[0] == "swapon":
            return Completed(tuple(argv), 0, "", "")
        if argv[0] in ("blkid", "mkswap"):
            return Host().run(argv, **how)
        return Host.run(self, argv, **how)


def _outside(name: str) -> bool:
    return name.startswith(("/dev/", "/sys/", "/proc/"))


@dataclass(frozen=True, slots=True)
class Machine:
    """A system below a folder, its swap disk, and the operator's document."""

    root: Path
    swap: str
    document: Path

    def boot(self) -> None:
        """Read the swap disk, make it swap, and apply the rest, as the bootstrap stage does."""
        name = self.swap.removeprefix("/dev/")

        def find(
            ctx: Any, known_digest: str, *, wait_for_medium: bool, wait_for_drivers: bool = False
        ) -> SearchResult:
            return swap_source.search(
                SearchRequest(ctx.host, ("gandi",), known_digest), lambda _host: [name]
            )

        sources.find = find
        ctx = context(Booted(self.root))
        ctx.host.sweep()
        for step in stages.STAGES[stages.Stage.BOOTSTRAP]:
            if step.name == "swap":
                report = attempt(ctx, "swap", lambda: swap.apply(ctx, lambda _host: [name]))
            elif step.name in ("source", "hostname", "resolver", "users", "files"):
                report = stages.run_step(ctx, step)
            else:
                continue
            print(*report.lines(), sep="\n")
            assert not report.failed, report.lines()

    def apply(self) -> None:
        """`gandi-agent apply --root`."""
        assert main(["apply", "--root", str(self.root), "--source", str(self.document)]) == 0


def in_a_process_of_its_own(work: Callable[[], None]) -> None:
    """So that what it leaves unfinished belongs to a process that has ended."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(120)
    assert process.exitcode == 0, "its output says why"


@contextmanager
def powered(file: Path, tree: Path, document: Path) -> Iterator[Machine]:
    """Give the machine with its disks in the file; mounting replays the journal."""
    at = document.parent
    with ExitStack() as stack:
        swap = stack.enter_context(powercut.loop(file, SPACE, SWAP))
        node = stack.enter_context(powercut.loop(file, 0, SPACE))
        disk = stack.enter_context(powercut.mounted(at / "disk", "-t", "ext4", node))
        options = f"lowerdir={tree},upperdir={disk}/upper,workdir={disk}/work"
        root = stack.enter_context(powercut.mounted(at / "root", "-t", "overlay", "-o", options, "overlay"))
        yield Machine(root, swap, document)


def new_disk(file: Path, content: bytes, offset: int) -> None:
    """Make an empty filesystem for the changes to a tree, and a swap disk with this archive."""
    with file.open("wb") as image:
        image.truncate(SPACE + SWAP)
        image.seek(SPACE + offset)
        image.write(content)
    with powercut.loop(file, 0, SPACE) as node:
        sh("mkfs.ext4", "-q", "-E", "nodiscard", node)
        with powercut.mounted(file.parent / "disk", node) as disk:
            for name in ("upper", "work"):
                (disk / name).mkdir()


def document(chance: random.Random) -> dict[str, Any]:
    """Return a document with two or three accounts, with groups, rules, keys, hashes and files."""
    names = chance.sample(["ada", "grace", "linus-1", "w_ken"], chance.choice([2, 3]))
    groups = ["media", "video", "backup-2", "users"]
    users: list[dict[str, Any]] = [{"name": "root", "password": HASH}]
    for number, name in enumerate(names):
        user: dict[str, Any] = {
            "name": name,
            "groups": chance.sample(groups, chance.randint(0, 3)),
            "keys": [key(f"{name}@{n}", bytes([number * 8 + n])) for n in range(chance.randint(1, 2))],
            "admin": chance.choice([True, False]),
        }
        if chance.choice([True, False]):
            user["password"] = HASH
        if chance.choice([True, False]):
            user["sudo"] = ["ALL=(ALL) NOPASSWD:ALL"]
        users.append(user)
    files = [
        {"path": "/etc/injected", "content": "text\n", "mode": "0600", "owner": names[0]},
        {"path": f"/home/{names[1]}/notes/one", "content": "x" * 9000, "owner": names[1]},
    ]
    return {
        **{"version": 1, "id": "image-1", "hostname": "vm1.example.org", "nameservers": ["203.0.113.3"]},
        **{"nics": [NIC], "users": users, "files": files},
    }


# -- what is there -------------------------------------------------------------------


def everything(upper: Path) -> dict[str, tuple[object, ...]]:
    """Return kind, owner and content of each name that differs from the tree's."""
    found = dict[str, tuple[object, ...]]()
    for path in sorted(upper.rglob("*")):
        name = f"/{path.relative_to(upper)}"
        if _APART.fullmatch(name):
            continue
        info = path.lstat()
        is_whiteout = stat.S_ISCHR(info.st_mode) and info.st_rdev == 0
        content: object = ""
        if stat.S_ISREG(info.st_mode):
            content = _content(name, path.read_bytes())
        elif stat.S_ISLNK(info.st_mode):
            content = os.readlink(path)
        if not is_whiteout:
            found[name] = (oct(info.st_mode), info.st_uid, info.st_gid, content)
    return found


def _content(name: str, data: bytes) -> object:
    if name.startswith("/etc/") and name.count("/") == 2 and b":" in data:
        return sorted(data.decode().split("\n"))
    if name.endswith("/applied.json"):
        # Whether an item was there before matters only for those that may be withdrawn; a cut may lose it
        # for others. The times differ.
        items = {n: item | {"at": 0} for n, item in json.loads(data)["items"].items()}
        return {
            n: item if n.startswith(("key:", "sudo:")) else item | {"found": ""} for n, item in items.items()
        }
    return data if len(data) < 200 else hashlib.sha256(data).hexdigest()


def is_kept(machine: Machine, content: bytes, offset: int) -> None:
    """Check, just after the cut, that the archive is whole on its disk or completely stored."""
    with open(machine.swap, "rb") as device:
        data = device.read()
    on_disk = data[offset : offset + len(content)]
    if on_disk == content:
        return
    folder = machine.root / "var/lib/gandi/instances/native-image-1"
    assert json.loads((folder / "config.json").read_bytes())["hostname"] == "vm1.example.org"
    assert SECRET in (folder / "scripts/script").read_bytes()
    is_marked = tar_archive.marked(on_disk[: archive_layout.BLOCK]) is not None
    assert is_marked or data[4086:4096] == b"SWAPSPACE2"


def is_swap(machine: Machine) -> None:
    said = sh("blkid", "-p", "-o", "export", machine.swap)
    assert "TYPE=swap" in said
    with open(machine.swap, "rb") as device:
        data = device.read()
    assert SECRET not in data
    assert archive_layout.WIPED.encode() not in data


def is_whole(machine: Machine, names: Iterable[str]) -> None:
    """Check the account files with the passwd package itself."""
    for check in ("pwck", "grpck"):
        argv = ("chroot", str(machine.root), check, "-r")
        done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        said = done.stdout + done.stderr
        assert not [name for name in names if name in said], said


# -- the campaign --------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory: a cut depends on the logged flushes, not on the build host's disk."""
    with powercut.mounted(tmp_path / "memory", "-t", "tmpfs", "tmpfs") as made:
        yield made


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    """A system with the package, as in a finished image."""
    with merged(ImageSpec(debs=(newest_deb(),))) as made:
        chroot(made, ["systemctl", "-q", "enable", "systemd-networkd.service"])
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("way", ["boot", "boot from the start of its disk", "apply"])
def test_a_power_cut_at_a_flush_leaves_nothing_half_done(
    tree: Path, folder: Path, rounds: Rounds, way: str
) -> None:
    chance = dice(f"cuts, {way}")
    said, offset = document(chance), OFFSET if way == "boot" else 0
    content = make_archive(said, b"#!/bin/sh\necho " + SECRET)
    path, before, image = folder / "vm1.json", folder / "before.img", folder / "disk.img"
    path.write_text(json.dumps(said))
    new_disk(before, content, offset)

    def play(machine: Machine) -> dict[str, tuple[object, ...]]:
        in_a_process_of_its_own(machine.apply if way == "apply" else machine.boot)
        return everything(folder / "disk/upper")

    shutil.copy(before, image)
    with powercut.recorded(image, folder / "log") as export, powered(export, tree, path) as machine:
        play(machine)
    log = powercut.entries(folder / "log")
    whole = copied(before, log)
    assert powercut.is_faithful(whole, image)
    with powered(whole, tree, path) as machine:
        uncut = play(machine)
    points = powercut.cuts(log)
    print(f"{way}: {len(points)} flushes")
    assert len(points) > 100
    for number, point in zip(rounds(5, 70), chance.sample(points, len(points)), strict=False):
        print(f"cut {number}: at entry {point}")
        with powered(copied(before, log[:point]), tree, path) as machine:
            if way != "apply":
                is_kept(machine, content, offset)
            found = play(machine)
            assert not [name for name in found if _TEMPORARY.fullmatch(name)]
            assert found == uncut
            is_whole(machine, [user["name"] for user in said["users"][1:]])
            if way != "apply":
                is_swap(machine)


@pytest.mark.slow
def test_host_keys_that_sshd_may_have_used_outlive_a_power_cut(tree: Path, folder: Path) -> None:
    """Cut at each flush of both runs: a key with its final name is whole, and those of a complete
    run stay.
    """
    path, before, image = folder / "none", folder / "before.img", folder / "disk.img"
    new_disk(before, b"", 0)
    with powered(before, tree, path) as machine:
        for key in (machine.root / "etc/ssh").glob("ssh_host_*"):
            key.unlink()
    shutil.copy(before, image)
    ends = dict[int, dict[str, str]]()
    with powercut.recorded(image, folder / "log") as export, powered(export, tree, path) as machine:
        for how in ("early", "late"):
            chroot(machine.root, [MAKER, how])
            ends[len(powercut.entries(folder / "log"))] = host_keys(machine)
    log = powercut.entries(folder / "log")
    assert [len(keys) for keys in ends.values()] == [2, 3]
    points = sorted({*powercut.cuts(log), *ends})
    assert len([point for point in points if point <= max(ends)]) > 4
    for point in points:
        with powered(copied(before, log[:point]), tree, path) as machine:
            found = host_keys(machine)
            for end, keys in ends.items():
                assert point < end or keys.items() <= found.items(), f"cut at entry {point}, after {end}"
            ssh = machine.root / "etc/ssh"
            if not found or (ssh / ".gandi-host-keys").exists():
                chroot(machine.root, [MAKER, "early"])
                chroot(machine.root, [MAKER, "late"])
            finished = host_keys(machine)
            assert len(finished) == 3
            assert found.items() <= finished.items()
            assert not list(ssh.glob(".gandi*"))


def host_keys(machine: Machine) -> dict[str, str]:
    """Return the public half of each private key; each must be whole."""
    found = {}
    for private in (machine.root / "etc/ssh").glob("ssh_host_*_key"):
        argv = ["ssh-keygen", "-y", "-P", "", "-f", str(private)]
        found[private.name] = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        assert private.with_suffix(".pub").read_text().split()[:2] == found[private.name].split()[:2]
    return found


def copied(before: Path, log: list[powercut.Write]) -> Path:
    """Copy the disk from before and apply these writes, to a new file: the last one may still be open."""
    cut = before.with_name("cut.img")
    cut.unlink(missing_ok=True)
    shutil.copy(before, cut)
    powercut.replay(cut, log)
    return cut
