"""``clean``: what identifies a machine is removed, also in an image's tree; the rest stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.host.host import Host
from tests.unit.test_main import root_only

MACHINE = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/ssh/sshd_config": "",
    "etc/ssh/ssh_host_rsa_key": "secret",
    "etc/ssh/ssh_host_rsa_key.pub": "",
    "etc/ssh/ssh_host_rsa_key-cert.pub": "",
    "etc/ssh/.gandi-host-keys": "",
    "etc/ssh/.gandi-host-keys.new/etc/ssh/ssh_host_rsa_key": "",
    "gandi/config": "{}",
    "root/.ssh/authorized_keys": "",
    "var/lib/dbus/machine-id": "0123456789abcdef0123456789abcdef\n",
    "var/lib/gandi/instance.json": "{}",
    "var/lib/gandi/instances/x/config.json": "{}",
    "var/lib/gandi/adopted.json": "{}",
    "var/log/gandi.log": "",
    "var/log/gandi-plugins.log.1": "",
    "var/log/syslog": "",
}
STAY = {"etc/passwd", "etc/machine-id", "etc/ssh/sshd_config", "root/.ssh/authorized_keys", "var/log/syslog"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "mnt"
    for name, text in MACHINE.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@root_only
def test_what_the_customer_keeps_beside_the_document_stays(tree: Path) -> None:
    for name in ("notes", "6.1-modules.tar.gz", "script", "backup/config"):
        (tree / "gandi" / name).parent.mkdir(exist_ok=True)
        (tree / "gandi" / name).write_text("x")
    assert main(["clean", "--root", str(tree)]) == 0
    assert files(tree) == STAY | {"gandi/notes", "gandi/backup/config"}


@root_only
def test_a_tree_is_made_ready(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clean", "--root", str(tree), "--dry-run"]) == 0
    would = capsys.readouterr().out
    assert files(tree) == set(MACHINE)
    assert main(["clean", "--root", str(tree)]) == 0
    said = capsys.readouterr().out
    assert files(tree) == STAY
    assert (tree / "etc/machine-id").read_bytes() == b""
    assert "changed: /var/lib/gandi/instance.json: removed" in said
    assert "would be changed: /var/lib/gandi/instance.json: removed" in would
    assert not (tree / "run").exists(), "nobody runs a stage there"
    assert main(["clean", "--root", str(tree)]) == 0
    assert "changed:" not in capsys.readouterr().out.replace("unchanged:", "")


@root_only
def test_dbus_reads_the_systems_machine_id_through_a_link(tree: Path) -> None:
    link = tree / "var/lib/dbus/machine-id"
    link.unlink()
    link.symlink_to("/etc/machine-id")
    assert main(["clean", "--root", str(tree)]) == 0
    assert link.is_symlink()


@root_only
def test_no_link_leads_out_of_the_tree(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    os.symlink(outside, tree / "var/log/gandi-old")
    assert main(["clean", "--root", str(tree)]) == 0
    assert (outside / "file").exists()


@root_only
def test_a_folder_without_a_system_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clean", "--root", str(tmp_path)], Host(tmp_path)) == 1
    assert "no system is mounted there" in capsys.readouterr().err
