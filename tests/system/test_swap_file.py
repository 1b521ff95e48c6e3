"""A swap file on a real ext4 filesystem: made, used, resumed after a cut, never made over a file."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.block import fstab
from agent.config.model import Identity, InstanceConfig
from agent.config.system import SwapFile, System
from agent.context import Context, context
from agent.host.host import Host
from agent.lib.errors import ConfigError, HostError
from agent.steps import swap_file

IDENTITY = Identity("nocloud", "swap-file")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A mounted ext4 filesystem of 256 MiB beside the machine's own files."""
    image, folder = tmp_path / "image", tmp_path / "mounted"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, folder], check=True)
    try:
        yield folder
    finally:
        for path in folder.iterdir():
            subprocess.run(["swapoff", path], check=False, capture_output=True)
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def ctx(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    """The running machine, but with an fstab and a state of the test's own."""
    for name in ("FSTAB", "OLD_FSTAB"):
        monkeypatch.setattr(fstab, name, str(tmp_path / name))
    ctx = context(Host(tmp_path))
    ctx.state.set_instance(IDENTITY)
    ctx.host = Host()
    deliver(ctx, SwapFile(f"{folder}/swap", 16 << 20))
    return ctx


def deliver(ctx: Context, swap: SwapFile) -> None:
    ctx.config = InstanceConfig(IDENTITY, system=System(swap=swap))


def run(ctx: Context) -> list[str]:
    return [str(item.outcome) for item in swap_file.apply(ctx)]


def in_use() -> str:
    return Path("/proc/swaps").read_text()


def test_it_is_made_once_and_used(ctx: Context, folder: Path) -> None:
    swap = folder / "swap"
    assert run(ctx) == ["changed"]
    assert str(swap) in in_use()
    assert (swap.stat().st_size, swap.stat().st_mode & 0o777) == (16 << 20, 0o600)
    assert Path(fstab.FSTAB).read_text() == f"{swap} none swap sw 0 0\n"
    assert run(ctx) == ["unchanged"]
    subprocess.run(["swapoff", swap], check=True)
    swap.unlink()
    assert run(ctx) == ["kept"], "the administrator has removed it"
    assert not swap.exists()


def test_a_cut_before_it_is_complete(ctx: Context, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(_host: Host, _argv: tuple[str, ...], **_how: object) -> None:
        raise HostError("cut")

    with monkeypatch.context() as patch:
        patch.setattr(Host, "run", cut)
        with pytest.raises(HostError, match="cut"):
            run(ctx)
    assert (folder / "swap").exists()
    assert run(ctx) == ["changed"]
    assert str(folder / "swap") in in_use()


def test_a_file_that_is_there_is_never_replaced(ctx: Context, folder: Path) -> None:
    (folder / "swap").write_text("mine\n")
    with pytest.raises(ConfigError, match="exists already"):
        run(ctx)
    with pytest.raises(ConfigError, match="exists already"):
        run(ctx)
    assert (folder / "swap").read_text() == "mine\n"


def test_a_filesystem_without_swap_files(ctx: Context) -> None:
    deliver(ctx, SwapFile("/dev/shm/swap", 1 << 20))
    with pytest.raises(ConfigError, match="on tmpfs"):
        run(ctx)
