"""An archive is stored and wiped, and its disk becomes swap, on real block devices, with power cuts
anywhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from agent.block.storage import Disk
from agent.lib.errors import HostError
from agent.reader.common import archive_layout
from agent.report import Outcome
from agent.sources import swap_archive as swap_source
from agent.state import settled
from agent.state.store import State
from agent.steps import swap
from tests.media import OFFSET
from tests.system.disks import MIB, sh
from tests.system.swapdisks import (
    ARCHIVE,
    Beside,
    Machine,
    MakeDisk,
    blkid,
    carrier,
    content_digest,
    put,
    refused,
    secrets_on,
    with_gpt,
)


@pytest.mark.parametrize("kind", ["raw", "zero", "gpt"])
def test_an_archive_is_stored_wiped_and_becomes_swap(
    make_disk: MakeDisk, machine: Callable[..., Machine], kind: str
) -> None:
    disk, target = carrier(make_disk, kind)
    assert len(secrets_on(disk)) == 3
    one = machine(disk)
    ctx, items = one.boot()
    assert ctx.config is not None
    assert ctx.config.hostname == "vm1"
    assert [item.outcome for item in items] == [Outcome.CHANGED, Outcome.CHANGED]
    assert one.swapped_on == [target]
    assert (blkid(target)["TYPE"], blkid(target)["LABEL"]) == ("swap", "swap")
    assert secrets_on(disk) == []
    assert archive_layout.WIPED.encode() not in disk.image.read_bytes()
    ctx, items = one.boot()
    assert ctx.config is not None, "the stored configuration"
    assert one.formatted == []
    assert one.swapped_on == [target]


@pytest.mark.parametrize("kind", ["raw", "zero", "gpt"])
@pytest.mark.parametrize(
    "cut", ["after store", "after mark", "in the middle", "after wipe", "after mkswap", "before swapon"]
)
def test_a_power_cut_anywhere(
    make_disk: MakeDisk,
    machine: Callable[..., Machine],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    cut: str,
) -> None:
    disk, target = carrier(make_disk, kind)
    one = machine(disk)
    ctx, _ = one.boot(until="source")
    assert ctx.medium is not None
    if cut in ("after mark", "in the middle"):
        length = ctx.medium.length
        ctx.host.write(
            ctx.state.path_for_writing("delivered"), "digest"
        )  # as for a document without a plain password
        with open(disk.node, "rb") as device:
            settled.keep_archive(ctx, ctx.medium, device.fileno())
        put(disk, ctx.medium.offset, archive_layout.mark(length - archive_layout.BLOCK))
        if cut == "in the middle":
            put(disk, ctx.medium.offset + archive_layout.BLOCK, bytes(1024))
    elif cut != "after store":

        def off(*_args: object, **_how: object) -> None:
            raise HostError("power cut")

        with monkeypatch.context() as power:
            if cut == "before swapon":
                power.setattr(Beside, "swapon", off)
            else:
                power.setattr(swap, "_format" if cut == "after wipe" else "_clear_mark", off)
            with contextlib.suppress(HostError):
                list(swap.apply(ctx, one.names))
    kept = ctx.host.read_bytes(settled.ARCHIVE)
    assert kept or kind == "zero" or "mark" not in cut
    ctx, items = one.boot()
    assert ctx.config is not None
    assert ctx.config.hostname == "vm1"
    assert ctx.host.read_bytes(settled.ARCHIVE) == kept or cut == "after store"
    assert not [item for item in items if item.outcome is Outcome.FAILED]
    assert one.swapped_on == [target]
    assert blkid(target)["TYPE"] == "swap"
    assert secrets_on(disk) == []
    _, items = one.boot()
    assert [item.outcome for item in items] == [Outcome.UNCHANGED, Outcome.UNCHANGED]
    assert items[1].detail.endswith("switched on")
    assert one.formatted == []


def test_nothing_is_wiped_when_it_could_not_be_stored(
    make_disk: MakeDisk, machine: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, _ = carrier(make_disk, "raw")
    before = content_digest(disk)

    def full(*_args: object) -> None:
        raise HostError("No space left on device")

    monkeypatch.setattr(State, "store_config", full)
    ctx, items = machine(disk).boot()
    assert ctx.config is not None
    assert [(item.name, item.outcome) for item in items] == [
        ("source", Outcome.FAILED),
        ("swap", Outcome.FAILED),
    ]
    assert "could not be stored" in items[1].detail
    assert content_digest(disk) == before


@pytest.mark.parametrize("cut", [1024 + 200, len(ARCHIVE.rstrip(b"\0")) - 10])
def test_a_truncated_archive_is_left_alone(
    make_disk: MakeDisk, machine: Callable[..., Machine], cut: int
) -> None:
    size = (512 << 10) + -(-cut // 512) * 512
    disk = make_disk(size)
    put(disk, content=ARCHIVE[: size - OFFSET])
    before = content_digest(disk)
    one = machine(disk)
    _, items = one.boot()
    assert [item for item in items if item.outcome is Outcome.FAILED]
    assert content_digest(disk) == before
    assert one.formatted == one.swapped_on == []


def test_two_carriers_the_partition_name_counts(
    make_disk: MakeDisk, machine: Callable[..., Machine]
) -> None:
    raw, _ = carrier(make_disk, "raw")
    gpt, target = carrier(make_disk, "gpt")
    before = content_digest(raw)
    one = machine(raw, gpt)
    _, items = one.boot()
    assert one.swapped_on == [target]
    assert f"skipped: {raw.node}" in str(items[0]) + str(items[1])
    assert content_digest(raw) == before


def test_a_blank_gandiswap_partition_is_formatted(
    make_disk: MakeDisk, machine: Callable[..., Machine]
) -> None:
    disk = make_disk(24 * MIB)
    with_gpt(disk, 24 * MIB)
    one = machine(disk)
    one.boot()
    assert one.formatted == one.swapped_on == [f"/dev/{disk.part(1)}"]


def test_the_setting_formats_a_blank_disk_only(make_disk: MakeDisk, machine: Callable[..., Machine]) -> None:
    blank, used = make_disk(24 * MIB), make_disk(24 * MIB)
    put(used, 23 * MIB, b"somebody's")
    one = machine(blank, settings=f"CONFIG_SWAP_DEVICE={blank.node}\n")
    one.boot()
    assert one.formatted == one.swapped_on == [blank.node]
    items = refused(used, machine, f"CONFIG_SWAP_DEVICE={used.node}\n")
    assert "not blank" in items[-1].detail


def test_the_administrators_swap_is_left_to_him(
    make_disk: MakeDisk, machine: Callable[..., Machine]
) -> None:
    disk = make_disk(24 * MIB)
    sh("mkswap", "--quiet" if "--quiet" in sh("mkswap", "--help") else "-f", disk.node)
    one = machine(disk)
    fstab = one.folder / "etc/fstab"
    fstab.parent.mkdir(parents=True)
    fstab.write_text(f"UUID={blkid(disk.node)['UUID']} none swap noauto 0 0\n")
    _, items = one.boot()
    assert "left to the administrator (/etc/fstab line 1)" in items[-1].detail
    assert one.swapped_on == []


def test_a_disk_that_cannot_be_read_hides_no_other(
    make_disk: MakeDisk, machine: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build host has no disk with bad blocks: a read of the second block is made to fail."""
    bad, good = make_disk(24 * MIB), make_disk(24 * MIB)
    put(bad)
    put(good)
    real = swap_source._bytes

    def read(descriptor: int, disk: Disk, size: int, offset: int) -> bytes:
        if disk.name == bad.name:
            raise HostError(f"{disk.device.node}: cannot be read at {offset}: Input/output error")
        return real(descriptor, disk, size, offset)

    monkeypatch.setattr(swap_source, "_bytes", read)
    one = machine(bad, good)
    ctx, items = one.boot()
    assert ctx.config is not None
    assert one.swapped_on == [good.node]
    (told,) = [item for item in items if item.outcome is Outcome.FAILED]
    assert told.name == bad.node
    alone, items = machine(bad).boot(until="source")
    assert "Input/output error" in next(item.detail for item in items if item.outcome is Outcome.FAILED)
    assert alone.config is not None, "the stored one"
