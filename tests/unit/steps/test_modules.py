"""The archive of kernel modules: for this kernel only, and only below two folders."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from agent.config.model import Identity
from agent.config.settings import SettingsFile
from agent.context import Context, Medium
from agent.host.host import Completed, Host
from agent.lib.errors import ConfigError
from agent.lib.records import dataclass, field
from agent.reader.client import Piece
from agent.report import Item, Outcome, StatusFile
from agent.state.store import State
from agent.steps import modules

RELEASE = os.uname().release


@dataclass(slots=True)
class Image(Host):
    """A machine in a folder without a depmod: the call is recorded."""

    commands: list[tuple[str, ...]] = field(default_factory=list)

    def run(self, argv: Sequence[str], **_how: Any) -> Completed:
        self.commands.append(tuple(argv))
        return Completed(tuple(argv), 0, "", "")


def pack(kind: Literal["gz", "bz2"], *members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    target = io.BytesIO()
    mode: Literal["w:gz", "w:bz2"] = "w:gz" if kind == "gz" else "w:bz2"
    with tarfile.open(fileobj=target, mode=mode) as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return target.getvalue()


def file(name: str, content: bytes = b"ELF", **attributes: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.mode, info.uid, info.uname = 0o644, 1234, "builder"
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info, content


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """As on a merged-/usr system: /lib is a link."""
    for folder in ("usr/lib/modules", "boot", "dev"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    return tmp_path


def apply(root: Path, archives: dict[str, bytes]) -> tuple[list[Item], Image]:
    pieces, data = [], bytes(4096)
    for name, content in archives.items():
        pieces.append(Piece(f"gandi/{name}", len(data), len(content)))
        data += content
    (root / "dev/vdb").write_bytes(data + b"\xff" * 4096)
    host = Image(root)
    ctx = Context(host, SettingsFile(host), State(host), StatusFile(host))
    ctx.state.set_instance(Identity("gandi", "1"))
    ctx.medium = Medium("gandi", "vdb", "254:16", "vdb", 0, len(data), tuple(pieces))
    return list(modules.apply(ctx)), host


@pytest.mark.parametrize("kind", ["gz", "bz2"])
def test_unpacked_once(root: Path, kind: Literal["gz", "bz2"]) -> None:
    archive = pack(kind, file(f"lib/modules/{RELEASE}/kernel/a.ko"), file(f"./boot/config-{RELEASE}"))
    archives = {f"{RELEASE}-modules.tar.{kind}": archive}
    items, host = apply(root, archives)
    assert items == [Item("modules", Outcome.CHANGED, RELEASE)]
    module = root / f"usr/lib/modules/{RELEASE}/kernel/a.ko"
    assert module.read_bytes() == b"ELF"
    assert module.stat().st_uid == os.geteuid()
    assert (root / f"boot/config-{RELEASE}").exists()
    assert host.commands == [("depmod", RELEASE), ("sync",)]
    module.unlink()
    items, host = apply(root, archives)
    assert items[0].outcome is Outcome.UNCHANGED
    assert not module.exists(), "the administrator removed it"
    assert host.commands == []


def test_bzip2_wins(root: Path) -> None:
    name = f"lib/modules/{RELEASE}/which"
    archives = {
        f"{RELEASE}-modules.tar.gz": pack("gz", file(name, b"gz")),
        f"{RELEASE}-modules.tar.bz2": pack("bz2", file(name, b"bz2")),
    }
    apply(root, archives)
    assert (root / f"usr/lib/modules/{RELEASE}/which").read_bytes() == b"bz2"


def test_another_kernels_archive(root: Path) -> None:
    items, host = apply(root, {"2.6.32-modules.tar.gz": pack("gz", file("lib/modules/2.6.32/a.ko"))})
    assert [item.outcome for item in items] == [Outcome.SKIPPED]
    assert not list((root / "usr/lib/modules").iterdir())
    assert host.commands == []


@pytest.mark.parametrize(
    "bad",
    [
        file("etc/passwd"),
        file("/lib/modules/x"),
        file("lib/modules/../../etc/x"),
        file("lib/modulesx/x"),
        file("lib/modules/x", b"", type=tarfile.SYMTYPE, linkname="/etc"),
        file("lib/modules/x", b"", type=tarfile.SYMTYPE, linkname="../../../etc"),
        file("lib/modules/x", b"", type=tarfile.LNKTYPE, linkname="etc/shadow"),
        file("lib/modules/x", b"", type=tarfile.CHRTYPE, devmajor=1),
        file("boot/x", b"", type=tarfile.FIFOTYPE),
    ],
)
def test_what_would_go_elsewhere_is_refused(root: Path, bad: tuple[tarfile.TarInfo, bytes]) -> None:
    good = file(f"lib/modules/{RELEASE}/a.ko")
    before = sorted(p for p in root.rglob("*") if "gandi" not in str(p))
    items, _ = apply(root, {f"{RELEASE}-modules.tar.gz": pack("gz", bad, good)})
    assert [item.outcome for item in items] == [Outcome.FAILED, Outcome.CHANGED]
    after = sorted(p for p in root.rglob("*") if "var" not in p.parts)
    made = {str(p.relative_to(root)) for p in after} - {str(p.relative_to(root)) for p in before}
    assert made == {"dev/vdb", f"usr/lib/modules/{RELEASE}", f"usr/lib/modules/{RELEASE}/a.ko"}


@pytest.mark.parametrize("cut", [10, 60])
def test_a_damaged_archive_is_not_marked_as_done(root: Path, cut: int) -> None:
    archive = pack("gz", file(f"lib/modules/{RELEASE}/a.ko", os.urandom(4096)))
    with pytest.raises(ConfigError, match="damaged"):
        apply(root, {f"{RELEASE}-modules.tar.gz": archive[:cut]})
    items, _ = apply(root, {f"{RELEASE}-modules.tar.gz": archive})
    assert items[0].outcome is Outcome.CHANGED


def test_a_bomb_is_stopped(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "SIZE", 1 << 20)
    archive = pack("bz2", file(f"lib/modules/{RELEASE}/a.ko", bytes(2 << 20)))
    with pytest.raises(ConfigError, match="too large"):
        apply(root, {f"{RELEASE}-modules.tar.bz2": archive})
    assert not list((root / "usr/lib/modules").iterdir())


def test_no_medium_nothing_to_do(root: Path) -> None:
    assert apply(root, {})[0] == []
