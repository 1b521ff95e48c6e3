"""Files of the document: content, place, owner; and never through a user's link."""

from __future__ import annotations

import hashlib
import os
import stat

import pytest

from agent.config.model import File
from agent.steps import files
from tests.unit.steps.conftest import Machine

OWNER = {"owner": str(os.getuid()), "group": str(os.getgid())}


def deliver(machine: Machine, content: bytes, path: str = "/etc/motd", **what: object) -> None:
    """Deliver a document with this one file, stored as by the source step."""
    name = f"file-{path.rpartition('/')[2]}"
    file = File(path=path, name=name, digest=hashlib.sha256(content).hexdigest(), **(OWNER | what))  # type: ignore[arg-type]  # fields by name
    machine.deliver(files=(file,))
    machine.context().state.store_config(machine.config, {name: content})


def test_a_file_is_written_once_with_its_mode(machine: Machine) -> None:
    deliver(machine, b"\xff\x00text", "/srv/new/file", mode=0o640)
    assert machine.run(files.apply) == {"file:/srv/new/file": "changed"}
    path = machine.root / "srv/new/file"
    assert path.read_bytes() == b"\xff\x00text"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    before = machine.stamps()
    assert machine.run(files.apply) == {"file:/srv/new/file": "unchanged"}
    assert machine.stamps() == before


@pytest.mark.parametrize("how", ["content", "mode", "gone"])
def test_what_the_administrator_changed_is_kept(machine: Machine, how: str) -> None:
    deliver(machine, b"ours")
    machine.run(files.apply)
    path = machine.root / "etc/motd"
    match how:
        case "content":
            path.write_text("mine")
        case "mode":
            path.chmod(0o600)
        case "gone":
            path.unlink()
    assert machine.run(files.apply) == {"file:/etc/motd": "kept: changed by admin"}
    deliver(machine, b"new")
    assert machine.run(files.apply) == {"file:/etc/motd": "changed"}
    assert path.read_bytes() == b"new"


def test_a_new_mode_alone_is_a_change(machine: Machine) -> None:
    deliver(machine, b"ours")
    machine.run(files.apply)
    deliver(machine, b"ours", mode=0o600)
    assert machine.run(files.apply) == {"file:/etc/motd": "changed"}
    assert stat.S_IMODE((machine.root / "etc/motd").stat().st_mode) == 0o600


def test_appending_happens_once(machine: Machine) -> None:
    path = machine.put("/etc/hosts.allow", "sshd: ALL\n")
    path.chmod(0o600)
    deliver(machine, b"ftpd: ALL\n", "/etc/hosts.allow", append=True)
    for outcome in ("changed", "unchanged"):
        assert machine.run(files.apply) == {"file:/etc/hosts.allow": outcome}
        assert path.read_text() == "sshd: ALL\nftpd: ALL\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("sshd: ALL\n")
    assert machine.run(files.apply) == {"file:/etc/hosts.allow": "kept: changed by admin"}


def test_no_link_leads_out_of_the_root(machine: Machine) -> None:
    (machine.root / "etc").mkdir()
    (machine.root / "etc/motd").symlink_to("/run/motd")
    (machine.root / "run").symlink_to("../../../../tmp")
    deliver(machine, b"ours")
    machine.run(files.apply)
    assert (machine.root / "tmp/motd").read_bytes() == b"ours"


def test_a_link_that_a_user_may_have_put_is_not_followed(machine: Machine) -> None:
    shadow = machine.put("/etc/shadow", "secret")
    home = machine.root / "home/user"
    home.mkdir(parents=True)
    home.chmod(0o777)
    (home / ".profile").symlink_to("/etc/shadow")
    (home / "folder").symlink_to("/etc")
    for path in ("/home/user/.profile", "/home/user/folder/shadow"):
        deliver(machine, b"evil", path)
        assert machine.run(files.apply)[f"file:{path}"].startswith("failed: ")
        assert shadow.read_text() == "secret"


@pytest.mark.parametrize("path", ["relative", "/etc/../etc/motd", "/etc/", "/folder"])
def test_a_path_that_is_none_costs_only_itself(machine: Machine, path: str) -> None:
    (machine.root / "folder").mkdir()
    deliver(machine, b"text", path)
    assert machine.run(files.apply)[f"file:{path}"].startswith("failed: ")


def test_an_owner_that_is_not_there(machine: Machine) -> None:
    machine.put("/etc/group", "root:x:0:\n")
    for what in ({"owner": "absent"}, {"group": "absent"}):
        deliver(machine, b"text", **what)
        assert "there is no" in machine.run(files.apply)["file:/etc/motd"]


def test_what_could_not_be_stored_is_written_from_memory(machine: Machine) -> None:
    machine.deliver(files=(File("/etc/motd", "motd", "d", OWNER["owner"], OWNER["group"]),))
    ctx = machine.context()
    ctx.files = {"motd": b"text"}
    assert [str(item) for item in files.apply(ctx)] == ["changed: file:/etc/motd"]
    assert "missing" in machine.run(files.apply)["file:/etc/motd"]
