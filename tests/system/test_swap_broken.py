"""Broken archives on a real block device, through the reader, the store and the swap step: valid parts are
applied, invalid ones are reported with their remedy, and only the agent's own files are written.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.context import Context
from agent.report import Item, Outcome
from tests import media
from tests.system.disks import MIB, LoopDisk
from tests.system.swapdisks import ARCHIVE, SCRIPT, Machine, MakeDisk, content_digest, put, secrets_on
from tests.unit.reader.dialects.test_gandi import DOCUMENT

GOOD = json.dumps(DOCUMENT).encode()
DOCUMENTS = {
    "cut short": (GOOD[:-30], "gandi/config", "not JSON"),
    "nothing": (b"", "gandi/config", "not JSON"),
    "a list": (b"[1, 2]", "gandi/config", "not a JSON object"),
    "not UTF-8": (b"\xff\xfe" + GOOD, "gandi/config", "not UTF-8"),
    "a bomb": (b"[" * 5_000_000, "gandi/config", "nested too deeply"),
}


def _boot(machine: Callable[..., Machine], disk: LoopDisk) -> tuple[Machine, Context, dict[str, Item]]:
    """Boot once; return the machine, the configuration in force, and the failed items by name."""
    one = machine(disk)
    ctx, items = one.boot()
    return one, ctx, {item.name: item for item in items if item.outcome is Outcome.FAILED}


def _written(one: Machine) -> set[str]:
    """Return all files below the machine's folder, without the instance's name in the paths."""
    files = {path.relative_to(one.folder) for path in one.folder.rglob("*") if not path.is_dir()}
    return {"/".join(path.parts[:3]) for path in files} - {"etc/default/gandi"}


@pytest.mark.parametrize("kind", media.HOSTILE)
def test_a_hostile_member_is_named_and_the_rest_applied(
    make_disk: MakeDisk, machine: Callable[..., Machine], kind: str, tmp_path: Path
) -> None:
    disk = make_disk(24 * MIB)
    put(disk, content=media.HOSTILE[kind] + ARCHIVE)
    one, ctx, failures = _boot(machine, disk)
    (item,) = failures.values()
    assert item.name in ("gandi/evil", "gandi/script")
    assert "only regular files below gandi/" in item.hint
    assert ctx.config is not None
    assert ctx.config.hostname == "vm1"
    stored = one.folder / ctx.state.script("script").lstrip("/")
    assert stored.read_bytes() == SCRIPT, "the regular member, not the link before it"
    assert _written(one) <= {"gandi/config", "var/lib/gandi"}
    assert not list(tmp_path.rglob("*evil*"))
    assert not Path("/evil").exists()
    assert secrets_on(disk) == []
    assert one.swapped_on == [disk.node]


def test_a_member_that_states_ten_gigabytes(make_disk: MakeDisk, machine: Callable[..., Machine]) -> None:
    """That is more than the device has: the members before it are applied, the device is left as it is."""
    disk = make_disk(24 * MIB)
    head = bytearray(media.member("gandi/modules"))
    head[124:136] = b"\x80" + (10 << 30).to_bytes(11, "big")
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    put(disk, content=ARCHIVE.rstrip(b"\0").ljust(-(-len(ARCHIVE.rstrip(b"\0")) // 512) * 512, b"\0") + head)
    before = content_digest(disk)
    one, ctx, failures = _boot(machine, disk)
    assert "cut short" in failures["the archive"].detail
    assert "left as it is" in failures["swap"].detail
    assert ctx.config is not None
    assert ctx.config.hostname == "vm1"
    assert content_digest(disk) == before
    assert one.formatted == one.swapped_on == []


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_document_that_cannot_be_read(
    make_disk: MakeDisk, machine: Callable[..., Machine], kind: str
) -> None:
    document, path, said = DOCUMENTS[kind]
    disk = make_disk(24 * MIB)
    put(disk, content=media.make_archive(document, SCRIPT))
    before = content_digest(disk)
    one, _ctx, failures = _boot(machine, disk)
    assert said in failures[path].detail
    assert failures[path].hint
    assert "its configuration cannot be read" in failures["swap"].detail
    assert _written(one) == set()
    assert content_digest(disk) == before


def test_a_string_of_fifty_megabytes(make_disk: MakeDisk, machine: Callable[..., Machine]) -> None:
    disk = make_disk(96 * MIB)
    put(disk, content=media.make_archive(DOCUMENT | {"vm_hostname": "x" * (50 * MIB)}, SCRIPT))
    one, ctx, failures = _boot(machine, disk)
    assert set(failures) == {"vm_hostname", "gandi/config"}
    assert all(item.hint for item in failures.values())
    assert ctx.config is not None
    assert ctx.config.hostname is None
    assert ctx.config.users
    assert one.swapped_on == [disk.node]
    assert secrets_on(disk) == []
