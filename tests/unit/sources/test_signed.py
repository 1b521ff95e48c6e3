"""Signed documents: ssh-keygen and the reader are the real ones; the machine is a folder."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent import sources
from agent.cli import apply as offline
from agent.config import model
from agent.context import Medium, context
from agent.host import machine_uuid
from agent.host.host import Host
from agent.reader.dialects import DRIVES
from agent.report import Item, Outcome
from agent.sources import SearchRequest, config_drives, signed
from agent.sources.drive_files import Tree
from agent.steps import source
from tests.unit.sources.test_passed import OTHER, SCRIPT, UUID, Machine

CREDENTIAL = "the credential gandi.config"
#: The UUID with its first three fields in the other byte order.
SWAPPED = machine_uuid.swap_bytes(UUID).upper()


class Keys:
    """Keys of an operator, and signatures with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def make(self, name: str, kind: str = "ed25519") -> str:
        """Make a key and return its line for the trusted keys."""
        path = self.folder / name
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)], check=True)
        kind, public, *_ = path.with_suffix(".pub").read_text().split()
        return f'platform namespaces="gandi-agent" {kind} {public}\n'

    def sign(self, content: bytes, name: str = "key", namespace: str = "gandi-agent") -> bytes:
        argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(self.folder / name)]
        return subprocess.run(argv, input=content, check=True, capture_output=True).stdout


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "operator")


@pytest.fixture
def machine(tmp_path: Path, keys: Keys) -> Machine:
    """A machine that trusts one key."""
    made = Machine(tmp_path / "machine")
    made.put("etc/gandi/trusted-keys", keys.make("key").encode(), 0o644)
    return made


def _document(**changes: Any) -> bytes:
    return json.dumps({"version": 1, "id": UUID, "counter": 5, "hostname": "vm1"} | changes).encode()


def _deliver(machine: Machine, document: bytes, signature: bytes | None) -> None:
    machine.put("gandi.config", document)
    if signature is None:
        (machine.root / "run/credentials/@system/gandi.config.sig").unlink(missing_ok=True)
    else:
        machine.put("gandi.config.sig", signature)


def _boot(machine: Machine) -> tuple[str | None, dict[str, Item]]:
    """Boot, and return the hostname of the document in force."""
    ctx, items = machine.boot()
    return ctx.config.hostname if ctx.config else None, items


def _refused(machine: Machine, why: str, *, stays: str | None = None) -> Item:
    """Check that what is delivered changes nothing and is named."""
    before = _state(machine)
    name, items = _boot(machine)
    assert name == stays
    item = items[CREDENTIAL]
    assert item.outcome is Outcome.FAILED
    assert why in item.detail
    assert item.hint
    assert _state(machine) == before
    return item


def _state(machine: Machine) -> dict[str, bytes]:
    folder = machine.root / "var/lib/gandi"
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_signed_document_is_applied_and_the_same_again_is_nothing_new(
    machine: Machine, keys: Keys
) -> None:
    _deliver(machine, _document(), keys.sign(_document()))
    name, items = _boot(machine)
    assert name == "vm1"
    assert items["source"].detail == f"{CREDENTIAL}, a new instance"
    assert CREDENTIAL not in items
    assert machine.reasons() == []
    assert _boot(machine)[1]["source"].outcome is Outcome.UNCHANGED


def test_a_larger_counter_replaces_it(machine: Machine, keys: Keys) -> None:
    for counter, name in ((5, "vm1"), (6, "vm2"), (60, "vm3")):
        document = _document(counter=counter, hostname=name)
        _deliver(machine, document, keys.sign(document))
        assert _boot(machine)[0] == name


@pytest.mark.parametrize("stays", [None, "vm1"])
def test_what_is_not_signed_changes_nothing(machine: Machine, keys: Keys, stays: str | None) -> None:
    if stays:
        _deliver(machine, _document(), keys.sign(_document()))
        _boot(machine)
    evil = _document(counter=9, hostname="evil")
    keys.make("other")
    _deliver(machine, evil, None)
    item = _refused(machine, "gandi.config has no signature", stays=stays)
    assert "ssh-keygen -Y sign -n gandi-agent" in item.hint
    for signature in (
        keys.sign(_document()),
        keys.sign(evil, "other"),
        keys.sign(evil, namespace="file"),
        b"",
        b"-----BEGIN SSH SIGNATURE-----\n",
    ):
        _deliver(machine, evil, signature)
        _refused(machine, "not valid, or not by a key", stays=stays)
    _deliver(machine, evil, b"x" * (17 << 10))
    _refused(machine, "larger than 16 KiB", stays=stays)


def test_an_older_one_and_another_with_the_same_counter_change_nothing(machine: Machine, keys: Keys) -> None:
    _deliver(machine, _document(), keys.sign(_document()))
    _boot(machine)
    older, same = _document(counter=4, hostname="old"), _document(hostname="twin")
    _deliver(machine, older, keys.sign(older))
    _refused(machine, "older than the last: its counter is 4, the last one was 5", stays="vm1")
    _deliver(machine, same, keys.sign(same))
    _refused(machine, "another document had the same counter (5)", stays="vm1")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"id": OTHER}, "for another machine"),
        ({"id": "vm1"}, "for another machine"),
        ({"id": ""}, "needs id"),
        ({"counter": None}, "needs counter"),
        ({"counter": 0}, "needs counter"),
        ({"counter": "new"}, "needs counter"),
        ({"counter": 1 << 60}, "needs counter"),
    ],
)
def test_it_must_name_this_machine_and_have_a_counter(
    machine: Machine, keys: Keys, changes: dict[str, Any], why: str
) -> None:
    document = _document(**changes)
    _deliver(machine, document, keys.sign(document))
    _refused(machine, why)


def test_the_uuid_counts_in_any_spelling_and_has_one_counter(machine: Machine, keys: Keys) -> None:
    document = _document(id=SWAPPED)
    _deliver(machine, document, keys.sign(document))
    assert _boot(machine)[0] == "vm1"
    machine.uuid(SWAPPED)
    older = _document(counter=4)
    _deliver(machine, older, keys.sign(older))
    _refused(machine, "older than the last", stays="vm1")


def test_a_machine_that_was_another_one_in_between_still_has_its_counter(
    machine: Machine, keys: Keys
) -> None:
    for uuid, counter in ((UUID, 5), (OTHER, 1)):
        machine.uuid(uuid)
        document = _document(id=uuid, counter=counter)
        _deliver(machine, document, keys.sign(document))
        assert _boot(machine)[0] == "vm1"
    machine.uuid(UUID)
    older = _document(counter=4, hostname="old")
    _deliver(machine, older, keys.sign(older))
    _refused(machine, "older than the last", stays="vm1")


def test_a_script_beside_the_document_is_named_and_not_run(machine: Machine, keys: Keys) -> None:
    _deliver(machine, _document(), keys.sign(_document()))
    machine.put("gandi.script", SCRIPT)
    ctx, items = machine.boot()
    assert ctx.config is not None
    assert ctx.config.hostname == "vm1"
    assert ctx.config.scripts == ()
    item = items[f"{CREDENTIAL}: gandi.script"]
    assert item.outcome is Outcome.FAILED
    assert "the signature does not cover it" in item.detail


@pytest.mark.parametrize(
    "content",
    [b"", b"# none\n", b"platform\n", b"\0\xff" * 40, b"x" * (2 << 20)],
    ids=["empty", "a comment", "half a line", "binary", "too large"],
)
def test_keys_that_cannot_be_read_trust_nothing(machine: Machine, keys: Keys, content: bytes) -> None:
    machine.put("etc/gandi/trusted-keys", content, 0o644)
    _deliver(machine, _document(), keys.sign(_document()))
    _refused(machine, "trusted-keys")


def test_keys_that_others_can_write_trust_nothing(machine: Machine, keys: Keys) -> None:
    _deliver(machine, _document(), keys.sign(_document()))
    (machine.root / "etc/gandi/trusted-keys").chmod(0o666)
    assert "chmod go-w" in _refused(machine, "can be written by others than root").hint
    (machine.root / "etc/gandi/trusted-keys").chmod(0o644)
    (machine.root / "etc/gandi").chmod(0o777)
    _refused(machine, "can be written by others than root")


def test_a_folder_or_a_link_to_nothing_in_place_of_the_keys_trusts_nothing(
    machine: Machine, keys: Keys
) -> None:
    _deliver(machine, _document(), keys.sign(_document()))
    path = machine.root / "etc/gandi/trusted-keys"
    path.unlink()
    path.mkdir()
    _refused(machine, "trusted-keys")
    path.rmdir()
    path.symlink_to("nowhere")
    _refused(machine, "trusted-keys")


def test_a_key_that_is_not_ed25519_is_not_trusted(machine: Machine, keys: Keys) -> None:
    machine.put("etc/gandi/trusted-keys", keys.make("ecdsa", "ecdsa").encode(), 0o644)
    _deliver(machine, _document(), keys.sign(_document(), "ecdsa"))
    _refused(machine, "not by an ed25519 key")


def test_a_line_for_another_principal_does_not_count(machine: Machine, keys: Keys) -> None:
    line = keys.make("another").replace("platform", "backup")
    machine.put("etc/gandi/trusted-keys", line.encode(), 0o644)
    _deliver(machine, _document(), keys.sign(_document(), "another"))
    _refused(machine, "not by a key of")


def test_without_ssh_keygen_nothing_is_trusted(
    machine: Machine, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    _deliver(machine, _document(), keys.sign(_document()))
    monkeypatch.setattr(Host, "which", lambda *_: "")
    assert "openssh-client" in _refused(machine, "ssh-keygen is not installed").hint


def test_a_damaged_record_of_the_last_one_trusts_nothing(machine: Machine, keys: Keys) -> None:
    _deliver(machine, _document(), keys.sign(_document()))
    for content in (b"{", b'{"version": 1, "%s": 7}' % signed._one_spelling(UUID).encode()):
        machine.put(signed.ACCEPTED.lstrip("/"), content, 0o600)
        assert _refused(machine, "damaged").hint.startswith("remove ")


def test_what_cannot_be_recorded_is_not_applied(
    machine: Machine, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.lib.errors import HostError

    _deliver(machine, _document(), keys.sign(_document()))

    def full(*_: object) -> None:
        raise HostError("no space left")

    monkeypatch.setattr(signed, "record", full)
    ctx = context(Host(machine.root))
    items = [str(item) for item in source.apply(ctx)]
    assert ctx.config is None
    assert any("the counter of a signed document cannot be recorded" in item for item in items)
    assert not (machine.root / "var/lib/gandi/instance.json").exists()


@pytest.mark.parametrize("dialect", ["nocloud", "openstack", "cloudstack"])
def test_a_drive_of_another_dialect_is_refused_by_name(
    machine: Machine, dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _drive(machine, dialect, {"user-data": b"#!/bin/sh\n"}, monkeypatch)
    notes = _search(machine)
    assert [note.name for note in notes] == ["/dev/vdb"]
    assert f"a document of {dialect} cannot be signed" in notes[0].detail


def test_a_drive_with_a_signed_document_beside_others_is_used(
    machine: Machine, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the document that the signature covers reaches the parser; the others are named."""
    files = {
        "gandi.json": _document(),
        "gandi.json.sig": keys.sign(_document()),
        "gandi/config": _document(hostname="evil"),
        "script": SCRIPT,
    }
    _drive(machine, "native", files, monkeypatch)
    result = config_drives.search(SearchRequest(Host(machine.root), ("native",)), lambda _: ["vdb"])
    assert result.found is not None
    assert result.found.parsed is not None
    assert result.found.parsed.config == model.InstanceConfig(
        model.Identity("native", UUID), hostname="vm1", counter=5
    )
    assert [note.name for note in result.notes] == ["/dev/vdb: script", "/dev/vdb: gandi/config"]


@pytest.mark.parametrize("name", ["gandi.sig", "GANDI.SIG;1"])
def test_a_signature_may_have_the_name_that_a_plain_iso_has_room_for(
    machine: Machine, keys: Keys, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    files = {"GANDI.JSO;1": _document(), name: keys.sign(_document())}
    _drive(machine, "native", files, monkeypatch)
    result = config_drives.search(SearchRequest(Host(machine.root), ("native",)), lambda _: ["vdb"])
    assert result.found is not None


def test_an_archive_is_refused_by_name_and_not_read(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.block.storage import Device, Disk
    from agent.sources import swap_archive

    disk = Disk(Device("xvdz", "202:0", 1 << 30), ())
    monkeypatch.setattr(swap_archive, "_candidate", lambda *_: disk)
    monkeypatch.setattr(swap_archive, "_read", lambda *_: pytest.fail("read"))
    result = swap_archive.search(SearchRequest(Host(machine.root), ("gandi",)), lambda _: ["xvdz"])
    assert result.found is None
    (note,) = result.notes
    assert str(note).startswith("failed: /dev/xvdz: carries an archive, which cannot be signed")


def test_apply_leaves_an_image_with_trusted_keys_to_its_machine(machine: Machine, tmp_path: Path) -> None:
    document = tmp_path / "document.json"
    document.write_bytes(_document())
    ctx = context(Host(machine.root, offline=True))
    (report,) = offline.steps(ctx, str(document), ())
    assert report.failed
    assert "trusted-keys is in the image" in str(report.items[0])
    assert ctx.config is None


def test_without_the_file_a_signature_is_not_asked_for(tmp_path: Path) -> None:
    plain = Machine(tmp_path / "plain")
    assert not sources.needs_signature(Host(plain.root))
    _deliver(plain, _document(id="", counter=None), b"no signature")
    assert _boot(plain)[0] == "vm1"


def _drive(machine: Machine, dialect: str, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine find one drive with these files."""
    medium = Medium(dialect, "vdb", "254:16")
    drive = config_drives.Drive(medium, dialect, Tree(files), "digest")
    monkeypatch.setattr(config_drives, "_read_from", lambda *_: [drive])


def _search(machine: Machine) -> tuple[Item, ...]:
    request = SearchRequest(Host(machine.root), tuple(DRIVES))
    result = config_drives.search(request, lambda _: ["vdb"])
    assert result.found is None
    return result.notes
