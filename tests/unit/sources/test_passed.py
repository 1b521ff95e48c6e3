"""What is passed without a medium, by a system credential or fw_cfg; the reader is the real one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from agent import sources
from agent.context import Context, Medium, context
from agent.daemon import boot_mark
from agent.host.host import Host
from agent.lib.errors import ConfigError
from agent.report import Item, Outcome
from agent.sources import SearchRequest, SearchResult, config_drives, passed
from agent.sources.drive_files import Tree
from agent.state.store import State
from agent.steps import source
from agent.systemd import credentials

UUID = "4c4c4544-0031-4a10-8056-b4c04f4b3332"
OTHER = "4c4c4544-0031-4a10-8056-000000000002"
HASH = "$6$Zq1vN3xT$" + "k7Hc0Wm3/9sYp" * 6 + "abcdefgh"
SCRIPT = b"#!/bin/sh\ntrue\n"
DOCUMENT: dict[str, Any] = {"version": 1, "hostname": "vm1", "users": [{"name": "a", "password": HASH}]}
FW_CFG = "sys/firmware/qemu_fw_cfg/by_name/opt"
ITEM = f"{FW_CFG}/net.gandi.config/raw"


class Machine:
    """A machine in a folder, booted several times, with what is passed to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "sys/class/block").mkdir(parents=True)
        self.uuid(UUID)

    def uuid(self, uuid: str) -> None:
        path = self.root / "sys/class/dmi/id/product_uuid"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(uuid)

    def put(self, name: str, content: object, mode: int = 0o400) -> Path:
        """Write a credential, or with a path the file there."""
        path = self.root / (name if "/" in name else f"run/credentials/@system/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        path.chmod(mode)
        return path

    def boot(self) -> tuple[Context, dict[str, Item]]:
        ctx = context(Host(self.root))
        return ctx, {item.name: item for item in source.apply(ctx)}

    def search(self) -> SearchResult:
        return config_drives.search(SearchRequest(Host(self.root), sources.PASSED))

    def reasons(self) -> list[str]:
        """Return what keeps the next boot from being settled, of media."""
        return list(boot_mark._media(context(Host(self.root))))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_credential_is_a_native_document_with_a_script(machine: Machine) -> None:
    machine.put("gandi.config", DOCUMENT)
    machine.put("gandi.script", SCRIPT)
    ctx, items = machine.boot()
    assert str(items["source"]) == "changed: source: the credential gandi.config, a new instance"
    assert ctx.config is not None
    assert (ctx.config.hostname, ctx.config.identity.id) == ("vm1", UUID)
    assert [script.name for script in ctx.config.scripts] == ["script"]
    assert ctx.medium is not None
    assert ctx.medium.swap_device == ""
    for path in machine.root.rglob("*"):
        if path.is_file() and HASH.encode() in path.read_bytes():
            assert not path.stat().st_mode & 0o077, path


def test_the_daemon_sees_it_in_another_folder(machine: Machine) -> None:
    machine.put("run/gandi/credentials/gandi.config", DOCUMENT)
    (machine.root / "run/credentials").mkdir(mode=0)
    assert machine.boot()[1]["source"].detail == "the credential gandi.config, a new instance"


def test_the_same_by_fw_cfg(machine: Machine) -> None:
    machine.put(ITEM, DOCUMENT)
    machine.put(f"{FW_CFG}/net.gandi.script/raw", SCRIPT)
    ctx, items = machine.boot()
    assert items["source"].detail == "opt/net.gandi.config of fw_cfg, a new instance"
    assert ctx.config is not None
    assert len(ctx.config.scripts) == 1


def test_the_same_again_is_nothing_new_also_without_an_id(machine: Machine) -> None:
    machine.put("gandi.config", DOCUMENT)
    first, _ = machine.boot()
    assert machine.reasons() == []
    again, items = machine.boot()
    assert str(items["source"]) == "unchanged: source: the credential gandi.config, delivered again"
    assert again.config == first.config


@pytest.mark.parametrize("name", ["gandi.config", "gandi.script"])
def test_other_bytes_are_read_again(machine: Machine, name: str) -> None:
    machine.put("gandi.config", DOCUMENT)
    machine.put("gandi.script", SCRIPT)
    machine.boot()
    machine.put(name, DOCUMENT | {"hostname": "vm2"} if name == "gandi.config" else SCRIPT + b"true\n")
    assert "configured by a drive (native)" in machine.reasons()
    _, items = machine.boot()
    assert items["source"].detail.startswith("the credential gandi.config, ")
    assert "delivered again" not in items["source"].detail
    assert machine.reasons() == []


def test_the_same_for_a_clone_is_another_machines(machine: Machine) -> None:
    machine.put("gandi.config", DOCUMENT)
    machine.boot()
    machine.uuid(OTHER)
    ctx, items = machine.boot()
    assert items["source"].detail == "the credential gandi.config, a new instance"
    assert ctx.config is not None
    assert ctx.config.identity.id == OTHER


def test_without_it_the_stored_document_is_in_force_and_no_boot_is_settled(machine: Machine) -> None:
    path = machine.put("gandi.config", DOCUMENT)
    first, _ = machine.boot()
    path.unlink()
    ctx, items = machine.boot()
    assert ctx.config == first.config
    assert items["source"].detail == "the stored configuration (native)"
    assert machine.reasons() == ["configured by a drive (native)"]


def test_a_plain_password_is_never_known_by_a_digest(machine: Machine) -> None:
    machine.put("gandi.config", DOCUMENT | {"users": [{"name": "a", "plain_password": "hunter2"}]})
    ctx, _ = machine.boot()
    assert ctx.secrets == {"a": "hunter2"}
    assert not (machine.root / ctx.state.folder().lstrip("/") / "delivered").exists()
    assert machine.reasons()[0] == "the credential gandi.config is not in force, or has a plain password"
    assert not any(b"hunter2" in p.read_bytes() for p in (machine.root / "var").rglob("*") if p.is_file())


def test_a_plain_password_for_systemd_is_none_either(machine: Machine) -> None:
    machine.put("gandi.config", DOCUMENT)
    machine.put("passwd.plaintext-password.root", b"hunter2")
    machine.boot()
    assert machine.reasons() == ["a system credential has a plain password"]


def test_no_digest_is_kept_where_no_source_is_looked_at(machine: Machine) -> None:
    """gandi-check does not know the setting, and would take the digests."""
    machine.put("etc/default/gandi", b"CONFIG_DATASOURCE=none\n", 0o644)
    assert machine.reasons() == []
    secret = machine.put("passwd.plaintext-password.root", b"secret")
    assert machine.reasons() == ["a system credential has a plain password"]
    secret.unlink()
    machine.put("gandi.config", DOCUMENT | {"users": [{"name": "a", "plain_password": "secret"}]})
    (why,) = machine.reasons()
    assert why.startswith("what is passed without a medium is not in force")


def test_both_for_one_machine_and_for_two(machine: Machine) -> None:
    machine.put("gandi.config", DOCUMENT | {"id": "vm-1"})
    machine.put(ITEM, DOCUMENT | {"id": "vm-1", "hostname": "vm2"})
    found = machine.search()
    assert found.found is not None
    assert found.found.medium.place == "the credential gandi.config"
    assert [str(note) for note in found.notes] == [
        "skipped: opt/net.gandi.config of fw_cfg: "
        "describes this machine too; the credential gandi.config is used"
    ]
    machine.put(ITEM, DOCUMENT | {"id": "vm-2"})
    with pytest.raises(ConfigError) as caught:
        machine.search()
    both = "the credential gandi.config and opt/net.gandi.config of fw_cfg"
    assert caught.value.message == f"{both} describe different machines: none is applied"


def test_what_users_can_read_or_exchange_is_refused(machine: Machine) -> None:
    path = machine.put("gandi.config", DOCUMENT, 0o440)
    _is_refused(machine)
    path.unlink()
    os.mkfifo(path, 0o400)
    _is_refused(machine)
    path.unlink()
    other = machine.put("elsewhere/file", DOCUMENT)
    path.symlink_to(other)
    assert machine.search().found is None


def _is_refused(machine: Machine) -> None:
    found = machine.search()
    assert found.found is None
    (note,) = found.notes
    assert note.outcome is Outcome.FAILED
    assert "not used" in note.detail
    assert "mode 0400" in note.hint


def test_too_much_is_refused(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "LIMIT", 100)
    machine.put("gandi.config", b" " * 101)
    (note,) = machine.search().notes
    assert "larger than" in note.detail


def test_a_script_alone_is_named(machine: Machine) -> None:
    machine.put("gandi.script", SCRIPT)
    (note,) = machine.search().notes
    assert note.outcome is Outcome.FAILED
    assert (note.name, note.detail) == (
        "the credential gandi.script",
        "not run: the credential gandi.config is not delivered beside it",
    )


def test_a_document_that_cannot_be_read_costs_only_itself(machine: Machine) -> None:
    machine.put("gandi.config", DOCUMENT)
    first, _ = machine.boot()
    machine.put("gandi.config", b'{"version": 1, "hostname": ')
    ctx, items = machine.boot()
    assert items["gandi.config"].outcome is Outcome.FAILED
    assert ctx.config == first.config
    assert machine.reasons() != []


def test_a_setting_that_names_other_sources_excludes_it(machine: Machine) -> None:
    machine.put("gandi.config", DOCUMENT)
    machine.put("etc/default/gandi", b"CONFIG_DATASOURCE=nocloud\n", 0o644)
    assert machine.boot()[0].config is None
    assert sources.search_groups(("fw_cfg", "credential")) == (("fw_cfg",), ("credential",))


def test_an_image_is_passed_nothing(machine: Machine) -> None:
    machine.put("gandi.config", DOCUMENT)
    machine.put(ITEM, DOCUMENT)
    host = Host(machine.root, offline=True)
    assert not passed.is_there(host)
    assert list(passed.search(host, sources.PASSED, [])) == []
    assert State(host).identity() is None


def _line(machine: Machine, serial: bytes = b"", command_line: bytes = b"") -> SearchResult:
    machine.put("sys/class/dmi/id/product_serial", serial + b"\n")
    machine.put("proc/cmdline", b"root=UUID=1 ro " + command_line + b" quiet\n", 0o444)
    return config_drives.search(SearchRequest(Host(machine.root), ("nocloud",)))


def test_nocloud_by_a_line(machine: Machine) -> None:
    _line(machine, b"ds=nocloud;h=vm1")
    ctx, items = machine.boot()
    assert items["source"].detail == "the serial number, a new instance"
    assert ctx.config is not None
    assert (ctx.config.hostname, ctx.config.identity.id) == ("vm1", UUID)
    assert machine.reasons() == []
    assert machine.boot()[1]["source"].detail == "the serial number, delivered again"
    found = _line(machine, b"ds=nocloud;h=vm1;i=a", b'"ds=nocloud;i=b"').found
    assert found is not None
    assert found.medium.place == "the kernel command line"
    assert found.parsed is not None
    assert found.parsed.config is not None
    assert (found.parsed.config.hostname, found.parsed.config.identity.id) == ("vm1", "b")


@pytest.mark.parametrize(
    "line", [b"ds=nocloud", b"ds=nocloud;", b"ds=nocloudy;h=x", b"xds=nocloud;h=x", b"VMware-42"]
)
def test_no_line(machine: Machine, line: bytes) -> None:
    assert _line(machine, line, line).found is None
    assert _line(machine, b"", line + b" network-config=disabled").found is None


def test_a_line_is_read_with_a_nocloud_drive(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def drive(*_: object) -> list[config_drives.Drive]:
        tree = Tree({"meta-data": b"instance-id: i-1\nlocal-hostname: vm1\n"})
        return [config_drives.Drive(Medium("nocloud", "sr0", "11:0"), "nocloud", tree, "digest")]

    monkeypatch.setattr(config_drives, "_read_from", drive)
    digests = set[str]()
    for name in (b"vm2", b"vm3"):
        machine.put("proc/cmdline", b"ds=nocloud;h=" + name, 0o444)
        request = SearchRequest(Host(machine.root), ("nocloud",))
        found = config_drives.search(request, lambda _host: ["sr0"]).found
        assert found is not None
        assert found.medium.place == "/dev/sr0"
        assert found.parsed is not None
        assert found.parsed.config is not None
        assert (found.parsed.config.hostname, found.parsed.config.identity.id) == (name.decode(), "i-1")
        digests.add(found.parsed.digest)
    assert len(digests) == 2
