"""``ganeti rename`` in a tree: the same machine by another name. With its programs: tests/system."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.cli import ganeti_rename
from agent.context import Context, context
from agent.host.host import Host
from agent.lib.errors import ConfigError
from agent.report import StepReport
from agent.steps.hostkeys import KEYGEN

OLD, NEW = "vm1.example.org", "vm9.example.net"
ENVIRONMENT = {"OLD_INSTANCE_NAME": OLD, "INSTANCE_NAME": NEW, "NIC_COUNT": "0", "OSP_USER": "me"}
LOGIN = {"OSP_PASSWORD_HASH": "$6$saltsalt$" + "x" * 86}


def document(name: str) -> bytes:
    return json.dumps({"version": 1, "id": "the-id", "hostname": name}).encode()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in {
        "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
        "etc/hostname": f"{OLD}\n",
        "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
        "etc/ssh/ssh_host_rsa_key": "secret",
        "etc/ssh/ssh_host_rsa_key.pub": f"ssh-rsa AAAA root@{OLD}\n",
        "etc/ssh/ssh_host_ecdsa_key.pub": f"ecdsa AAAA me@{OLD} root@{OLD}\n",
        "etc/ssl/other": f"CN={OLD}.example.com www.{OLD} x{OLD}",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    wants = tmp_path / "etc/systemd/system/x.wants"
    wants.mkdir(parents=True)
    (wants / KEYGEN).symlink_to(f"/usr/lib/systemd/system/{KEYGEN}")
    return tmp_path


def rename(
    tree: Path, given: bytes, environment: Mapping[str, str] = ENVIRONMENT
) -> tuple[Context, dict[str, StepReport]]:
    ctx = context(Host(tree, offline=True))
    return ctx, {one.step: one for one in ganeti_rename.steps(ctx, environment, given)}


def test_the_machine_stays_the_same(tree: Path) -> None:
    ctx, reports = rename(tree, document(NEW))
    assert ctx.host.read("/etc/hostname") == f"{NEW}\n"
    assert ctx.host.read("/etc/machine-id")
    assert ctx.host.read("/etc/ssh/ssh_host_rsa_key") == "secret"
    assert ctx.host.read("/etc/ssh/ssh_host_rsa_key.pub") == f"ssh-rsa AAAA root@{NEW}\n"
    assert "first boot" not in reports
    said = [str(item.name) for item in reports["identity"].items]
    assert said == ["host keys", "comments of host keys", "/etc/ssh/ssh_host_ecdsa_key.pub"]


def test_nothing_is_named_if_the_name_is_the_same_or_gone(tree: Path) -> None:
    (tree / "etc/ssh/ssh_host_ecdsa_key.pub").unlink()
    _, reports = rename(tree, document(NEW))
    assert str(reports["identity"].items[-1].outcome) == "unchanged"
    _, reports = rename(tree, document(NEW), ENVIRONMENT | {"OLD_INSTANCE_NAME": NEW.upper()})
    assert str(reports["identity"].items[-1].outcome) == "unchanged"


def test_of_many_files_some_are_named_and_all_counted(tree: Path) -> None:
    for number in range(25):
        (tree / f"etc/ssl/{number:02}").write_text(OLD)
    (tree / "etc/ssl/link").symlink_to("/etc/hostname")
    _, reports = rename(tree, document(NEW))
    items = [item for item in reports["identity"].items if str(item.outcome) == "skipped"]
    assert len(items) == 21
    assert items[-1].detail == f"6 more files still have the name {OLD}"


def test_without_a_uuid_of_ganetis_the_id_stays(tree: Path) -> None:
    rename(tree, document(OLD))
    ctx, _ = rename(tree, b"", ENVIRONMENT | LOGIN)
    assert ctx.config is not None
    assert (ctx.config.identity.id, ctx.config.hostname) == ("the-id", NEW)
    rename(tree, b"", ENVIRONMENT | LOGIN | {"INSTANCE_UUID": "another"})
    identity = context(Host(tree, offline=True)).state.identity()
    assert identity is not None
    assert identity.id == "another"
    assert len(list((tree / "var/lib/gandi/instances").iterdir())) == 1
    assert (tree / "etc/machine-id").read_text() == "", "it is another machine, and the former may still run"
    assert not (tree / "etc/ssh/ssh_host_rsa_key").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("OLD_INSTANCE_NAME", ""), ("INSTANCE_NAME", "a b"), ("OSP_HOSTKEYS", "yes"), ("NIC_COUNT", "")],
)
def test_a_wrong_variable_changes_nothing(tree: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: "):
        rename(tree, b"", ENVIRONMENT | LOGIN | {name: value})
    assert (tree / "etc/hostname").read_text() == f"{OLD}\n"
    assert not (tree / "var/lib/gandi").exists()
