"""Which configuration is in force, over several boots; the reader is the real one."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

from agent import sources
from agent.context import Context, Medium, context
from agent.host.host import Host
from agent.lib.errors import HostError
from agent.reader import client
from agent.report import Item, Outcome
from agent.sources import FoundMedium, SearchResult
from agent.steps import source
from tests.media import make_archive
from tests.unit.reader.dialects.test_gandi import DOCUMENT, HASH

UUID = "4c4c4544-0031-4a10-8056-b4c04f4b3332"
OTHER = "4c4c4544-0031-4a10-8056-000000000002"


class Machine:
    """A machine in a folder, booted several times; ``archive`` is the one on its swap disk."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.archive = root, b""
        self.asked: list[str] = []
        self.uuid(UUID)
        monkeypatch.setattr(sources, "find", self.find)

    def uuid(self, uuid: str) -> None:
        self.put("sys/class/dmi/id/product_uuid", uuid)

    def put(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def deliver(self, script: bytes | None = b"#!/bin/sh\n", **changes: Any) -> None:
        self.archive = make_archive(copy.deepcopy(DOCUMENT) | changes, script)

    def find(
        self, _ctx: Context, known_digest: str, *, wait_for_medium: bool, wait_for_drivers: bool = False
    ) -> SearchResult:
        self.asked.append(known_digest)
        if not self.archive:
            return SearchResult()
        descriptor = os.memfd_create("medium")
        try:
            os.pwrite(descriptor, self.archive, 0)
            parsed = client.parse_disk(descriptor, known_digest=known_digest)
            if known_digest and not parsed.is_unchanged:
                parsed = client.parse_disk(descriptor)
        finally:
            os.close(descriptor)
        return SearchResult(FoundMedium(Medium("gandi", "vdb", "254:16", "vdb", *parsed.extent), parsed))

    def boot(self, *, dry_run: bool = False) -> tuple[Context, dict[str, Item]]:
        ctx = context(Host(self.root, dry_run=dry_run))
        return ctx, {item.name: item for item in source.apply(ctx)}

    def stamps(self) -> dict[str, int]:
        return {str(p): p.lstat().st_mtime_ns for p in self.root.rglob("*")}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_no_medium_and_nothing_stored(machine: Machine) -> None:
    ctx, items = machine.boot()
    assert ctx.config is None
    assert items["source"].outcome is Outcome.SKIPPED
    assert items["source"].detail.startswith("no medium, nothing stored")


def test_a_first_document_that_cannot_be_read_is_not_called_no_medium(machine: Machine) -> None:
    machine.archive = make_archive(b"{")
    ctx, items = machine.boot()
    assert ctx.config is None
    assert items["gandi/config"].outcome is Outcome.FAILED
    assert items["source"].detail.startswith("nothing usable on the medium")


def test_the_first_boot_stores_everything_private(machine: Machine) -> None:
    machine.deliver()
    ctx, items = machine.boot()
    assert items["source"].detail == "/dev/vdb, a new instance"
    assert ctx.config is not None
    assert ctx.config.identity.id == UUID
    assert ctx.medium is not None
    assert ctx.medium.not_swap_reason == ""
    document = machine.root / "gandi/config"
    assert document.read_bytes() == json.dumps(DOCUMENT).encode()
    assert document.stat().st_mode & 0o777 == 0o600
    for path in machine.root.rglob("*"):
        if path.is_file() and HASH.encode() in path.read_bytes():
            assert not path.stat().st_mode & 0o077, path
    script = machine.root / ctx.state.script("script").lstrip("/")
    assert script.read_bytes() == b"#!/bin/sh\n"


def test_the_next_boots(machine: Machine) -> None:
    machine.deliver()
    first, _ = machine.boot()
    before = machine.stamps()
    again, items = machine.boot()
    assert items["source"].outcome is Outcome.UNCHANGED
    assert again.config == first.config
    assert again.medium == first.medium, "the same archive is used up again"
    assert machine.asked[-1], "the reader gets the known digest"
    machine.archive = b""
    stored, items = machine.boot()
    assert items["source"].outcome is Outcome.UNCHANGED
    assert stored.config == first.config
    assert stored.medium is None
    assert machine.stamps() == before, "nothing is rewritten"


def test_a_changed_document_for_the_same_machine(machine: Machine) -> None:
    machine.deliver()
    machine.boot()
    machine.deliver(vm_hostname="vm2")
    ctx, items = machine.boot()
    assert (items["source"].outcome, items["source"].detail) == (
        Outcome.CHANGED,
        "/dev/vdb, a changed document",
    )
    assert ctx.config is not None
    assert (ctx.config.hostname, ctx.config.identity.id) == ("vm2", UUID)


def test_going_back_to_an_older_document(machine: Machine) -> None:
    """The digest must always be that of the stored document: A, B, A again."""
    for name in ("vm1", "vm2", "vm1"):
        machine.deliver(vm_hostname=name)
        ctx, _ = machine.boot()
        assert ctx.config is not None
        assert ctx.config.hostname == name


def test_the_uuid_in_other_spellings_is_the_same_instance(machine: Machine) -> None:
    machine.deliver()
    machine.boot()
    machine.uuid("44454C4C-3100-104A-8056-B4C04F4B3332")
    ctx, items = machine.boot()
    assert items["source"].outcome is Outcome.UNCHANGED
    assert ctx.config is not None
    assert ctx.config.identity.id == UUID


def test_a_clone_with_a_medium_is_a_new_instance(machine: Machine) -> None:
    machine.deliver()
    machine.boot()
    machine.uuid(OTHER)
    ctx, items = machine.boot()
    assert items["source"].detail.endswith("a new instance")
    assert ctx.config is not None
    assert ctx.config.identity.id == OTHER
    assert machine.asked[-1] == "", "another machine's delivery is read again"


def test_a_changed_uuid_without_a_medium_is_the_same_instance(machine: Machine) -> None:
    machine.deliver()
    first, _ = machine.boot()
    machine.archive = b""
    machine.uuid(OTHER)
    ctx, items = machine.boot()
    assert ctx.config == first.config
    assert items["instance"].outcome is Outcome.KEPT
    assert "gandi-agent clean" in items["instance"].hint


def test_a_machine_without_a_uuid(machine: Machine) -> None:
    machine.uuid("00000000-0000-0000-0000-000000000000")
    machine.put("etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    machine.deliver()
    ctx, _ = machine.boot()
    assert ctx.config is not None
    assert ctx.config.identity.id == "0123456789abcdef0123456789abcdef"
    assert machine.boot()[1]["source"].outcome is Outcome.UNCHANGED


def test_a_machine_that_loses_its_uuid_is_the_same(machine: Machine) -> None:
    machine.deliver()
    machine.boot()
    machine.uuid("00000000-0000-0000-0000-000000000000")
    machine.put("etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    machine.deliver(vm_hostname="vm2")
    ctx, items = machine.boot()
    assert items["source"].detail.endswith("a changed document")
    assert (items["instance"].outcome, items["instance"].hint) == (
        Outcome.KEPT,
        "if it is a copy, run: gandi-agent clean, then reboot",
    )
    assert ctx.config is not None
    assert ctx.config.identity.id == UUID


def test_a_machine_that_gets_its_first_uuid_is_the_same_and_its_clone_is_another(machine: Machine) -> None:
    """A newer kernel, hypervisor or agent may find a UUID where the machine-id was the identity."""
    (machine.root / "sys/class/dmi/id/product_uuid").unlink()
    machine.put("etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    machine.deliver()
    machine.boot()
    machine.put("etc/machine-id", "fedcba9876543210fedcba9876543210\n")  # of the new instance
    machine.put("proc/device-tree/vm,uuid", f"{UUID}\0")
    ctx, items = machine.boot()
    assert items["instance"].detail == f"its first UUID, {UUID}, is recorded"
    assert items["source"].outcome is Outcome.UNCHANGED
    assert ctx.config is not None
    assert ctx.config.identity.id == "0123456789abcdef0123456789abcdef"
    _, items = machine.boot()
    assert list(items) == ["source"]
    assert items["source"].outcome is Outcome.UNCHANGED
    machine.put("proc/device-tree/vm,uuid", f"{OTHER}\0")
    ctx, items = machine.boot()
    assert items["source"].detail.endswith("a new instance")
    assert ctx.config is not None
    assert ctx.config.identity.id == OTHER


def test_a_document_that_cannot_be_read_leaves_the_stored_one_in_force(machine: Machine) -> None:
    machine.deliver()
    first, _ = machine.boot()
    machine.archive = make_archive(b'{"vm_hostname": "vm2", ')
    ctx, items = machine.boot()
    assert ctx.config == first.config
    assert items["gandi/config"].outcome is Outcome.FAILED
    assert items["source"].detail.startswith("the stored configuration")
    assert ctx.medium is not None
    assert ctx.medium.not_swap_reason
    assert json.loads((machine.root / "gandi/config").read_text()) == DOCUMENT


def test_what_is_wrong_is_told_at_each_delivery(machine: Machine) -> None:
    machine.deliver(vm_conf=DOCUMENT["vm_conf"] | {"password": "hunter2"})
    for _ in range(2):
        ctx, items = machine.boot()
        assert items["vm_conf.password"].outcome is Outcome.FAILED
        assert ctx.config is not None
        assert ctx.config.hostname == "vm1"


def test_a_cut_archive_is_applied_and_left_on_the_medium(machine: Machine) -> None:
    machine.deliver(script=b"x" * 20_000)
    machine.archive = machine.archive[:4096]
    ctx, items = machine.boot()
    assert ctx.config is not None
    assert ctx.config.hostname == "vm1"
    assert items["the archive"].outcome is Outcome.FAILED
    assert ctx.medium is not None
    assert "damaged" in ctx.medium.not_swap_reason


def _refuse(machine: Machine, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    write = Host.write

    def full(self: Host, name: str, data: str | bytes, **how: Any) -> bool:
        if part in name:
            raise HostError(f"{name}: cannot be written: No space left on device")
        return write(self, name, data, **how)

    monkeypatch.setattr(Host, "write", full)


@pytest.mark.parametrize("part", ["config.json", "instance.json", "scripts/run", "gandi/config"])
def test_what_cannot_be_stored_is_applied_from_memory(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    machine.deliver()
    with monkeypatch.context() as full:
        _refuse(machine, full, part)
        ctx, items = machine.boot()
        assert items["source"].outcome is Outcome.FAILED
        assert "No space left" in items["source"].detail
        assert ctx.config is not None
        assert ctx.files["run"] == b"touch /x\n"
        assert ctx.medium is not None
        assert ctx.medium.not_swap_reason, "nothing is wiped"
        done: list[str] = []
        ctx.state.reconcile("x", delivered="a", wanted="a", live=None, apply=lambda: done.append("x"))
        assert done == ["x"], "later steps work"
    ctx, items = machine.boot()
    assert items["source"].detail.endswith("a new instance")
    assert ctx.medium is not None
    assert not ctx.medium.not_swap_reason


@pytest.mark.parametrize("part", ["config.json", "instance.json", "gandi/config", "delivered"])
def test_a_power_cut_while_a_clone_is_taken_over(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Whatever was written last, the machine is the old instance or the new one, complete."""
    machine.deliver()
    machine.boot()
    machine.uuid(OTHER)
    machine.deliver(vm_hostname="vm2")
    write = Host.write

    def cut(self: Host, name: str, data: str | bytes, **how: Any) -> bool:
        if part in name:
            raise KeyboardInterrupt
        return write(self, name, data, **how)

    with monkeypatch.context() as power:
        power.setattr(Host, "write", cut)
        with pytest.raises(KeyboardInterrupt):
            machine.boot()
    archive, machine.archive = machine.archive, b""
    ctx, _ = machine.boot()
    assert ctx.config is not None
    assert ctx.config.hostname in ("vm1", "vm2")
    machine.archive = archive
    ctx, _ = machine.boot()
    assert ctx.config is not None
    assert (ctx.config.hostname, ctx.config.identity.id) == ("vm2", OTHER)


def test_a_damaged_stored_configuration_is_written_anew(machine: Machine) -> None:
    machine.deliver()
    ctx, _ = machine.boot()
    stored = machine.root / ctx.state.path_for_writing("config.json").lstrip("/")
    stored.write_bytes(b"{")
    ctx, items = machine.boot()
    assert items["stored configuration"].outcome is Outcome.FAILED
    assert items["source"].outcome is Outcome.CHANGED
    assert ctx.state.config() == ctx.config is not None
    _, items = machine.boot()
    assert "stored configuration" not in items


def test_a_dry_run_changes_nothing(machine: Machine) -> None:
    machine.deliver()
    before = machine.stamps()
    ctx, items = machine.boot(dry_run=True)
    assert ctx.config is not None
    assert items["source"].outcome is Outcome.CHANGED
    assert ctx.state.folder()
    assert machine.stamps() == before


def test_the_setting_none(machine: Machine) -> None:
    machine.deliver()
    machine.put("etc/default/gandi", "CONFIG_DATASOURCE=none\n")
    ctx, items = machine.boot()
    assert ctx.config is None
    assert items["source"].outcome is Outcome.SKIPPED


def test_no_secret_in_an_item(machine: Machine) -> None:
    machine.deliver(
        vm_conf={"user": "s3cr3t!", "password": "s3cr3t", "ssh_key": "s3cr3t", "script_args": "'s3cr3t"}
    )
    _, items = machine.boot()
    assert len(items) >= 4
    assert not [item for item in items.values() if "s3cr3t" in str(item)]


@pytest.mark.parametrize("damage", ["", "[1]"])
def test_a_machine_that_lost_its_name_takes_it_from_what_was_stored(machine: Machine, damage: str) -> None:
    """Otherwise it would be set up again: keys, passwords, scripts."""
    machine.deliver()
    machine.boot()
    machine.archive = b""
    machine.put("var/lib/gandi/instance.json", damage)
    ctx, items = machine.boot()
    assert items["instance"].outcome is Outcome.CHANGED
    assert "damaged" in items["instance"].detail
    assert ctx.config is not None
    assert items["source"].outcome is Outcome.UNCHANGED
    _, items = machine.boot()
    assert "instance" not in items


def test_a_name_that_is_lost_with_all_else_is_an_error(machine: Machine) -> None:
    machine.put("var/lib/gandi/instance.json", "{")
    with pytest.raises(HostError, match="damaged"):
        machine.boot()
