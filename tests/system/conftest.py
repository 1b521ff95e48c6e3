"""Fixtures for devices of the build host, which are always released after a test."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import TYPE_CHECKING

import pytest

from agent import sources
from agent.disks import needed
from agent.disks.base import diskseq, record
from agent.sources import SearchRequest, SearchResult
from agent.sources import swap_archive as swap_source
from tests.system.disks import LoopDisk, sh
from tests.system.drivedisks import attach, on_ext4
from tests.system.instances import instance
from tests.system.swapdisks import Machine
from tests.vm.campaign import collected, pytest_runtest_teardown, rounds
from tests.vm.rig import Table, newest_deb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agent.context import Context


# A shell has what runs in its background ignore it, and the programs that tests interrupt inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

_CLONE_NEWNET, _CLONE_NEWNS = 0x40000000, 0x00020000  # linux/sched.h

__all__ = ["attach", "collected", "on_ext4", "pytest_runtest_teardown", "rounds"]  # fixtures and hooks


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules that have slow tests, so that all workers end at about the same time. A module
    stays together: its fixtures are made once.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def _root() -> None:
    """Require root: for loop devices, namespaces and udev's multicast group."""
    if os.geteuid() != 0:
        pytest.fail("tests/system needs root; run as root: make test-system")


@pytest.fixture(scope="session", autouse=True)
def _own_mounts(_root: None) -> None:
    """Give the tests of this process a mount namespace with shared mounts, as PID 1 makes them: a namespace
    that the tests of another process make at the same time has no copy of these, which would keep a disk in
    use.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(_CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
    sh("mount", "--make-rprivate", "/")
    sh("mount", "--make-rshared", "/")


@pytest.fixture
def own_network() -> Iterator[None]:
    """A network namespace for this test and its processes; os.setns is missing in the oldest supported
    Python.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as before:
        assert libc.unshare(_CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        yield
        assert libc.setns(before.fileno(), _CLONE_NEWNET) == 0


@pytest.fixture
def make_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], LoopDisk]]:
    """Make blank loop disks of a size in bytes."""
    monkeypatch.setattr(record, "FOLDER", str(tmp_path / "run"))
    monkeypatch.setattr(diskseq, "FILE", str(tmp_path / "run/coldplug"))
    monkeypatch.setattr(needed, "RECORDS", str(tmp_path / "run/disks"))
    made: list[LoopDisk] = []

    def make(size: int) -> LoopDisk:
        made.append(LoopDisk.make(tmp_path / f"disk{len(made)}.img", size))
        return made[-1]

    yield make
    for disk in made:
        disk.detach()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Machine]:
    """Make machines with only the given disks."""

    def make(*disks: LoopDisk, settings: str = "") -> Machine:
        made = Machine(tmp_path / "root", disks, settings)

        def find(
            ctx: Context, known_digest: str, *, wait_for_medium: bool, wait_for_drivers: bool = False
        ) -> SearchResult:
            return swap_source.search(SearchRequest(ctx.host, ("gandi",), known_digest), made.names)

        monkeypatch.setattr(sources, "find", find)
        return made

    return make


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """Return the operator's files on the node."""
    folder = tmp_path / "node"
    folder.mkdir(mode=0o700)
    (folder / "gandi-agent.deb").write_bytes(newest_deb().read_bytes())
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the disk of an instance that no test changes."""
    folder = tmp_path_factory.mktemp("shared")
    node = folder / "node"
    node.mkdir(mode=0o700)
    os.link(newest_deb(), node / "gandi-agent.deb")
    return instance(folder, node, Table.NONE)
