"""``clean``: what identifies a machine is removed, also in an image's tree; the rest stays."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.accounts import passwd
from agent.cli import clean
from agent.host.host import Completed, Host
from agent.image import made_accounts
from agent.state.store import State
from tests.unit.conftest import Asked
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


# -- logs --------------------------------------------------------------------------------------------

#: Each file, and whether it stays: None for one that is emptied.
TRACES: dict[str, bool | None] = {
    "var/log/syslog": None,
    "var/log/nginx/access.log": None,
    "var/log/nginx/access.log.1": False,
    "var/log/syslog.2.gz": False,
    "var/log/dnf.log-20260101": False,
    "var/log/wtmp": None,
    "var/log/journal/0123456789abcdef/system.journal": False,
    "var/log/journal/0123456789abcdef/user-1000@1.journal": False,
    "root/.bash_history": False,
    "root/.local/share/fish/fish_history": False,
    "root/.bashrc": True,
    "home/me/.viminfo": False,
    "home/me/notes": True,
    "var/lib/apt/lists/deb_dists_InRelease": False,
    "var/lib/apt/lists/partial/x": False,
    "var/lib/apt/lists/lock": True,
    "var/lib/apt/extended_states": True,
    "var/cache/libdnf5/x/repomd.xml": False,
    "var/lib/dhcp/dhclient.eth0.leases": False,
    "var/lib/dhcpcd/duid": False,
    "var/lib/NetworkManager/internal-eth0.lease": False,
    "var/lib/NetworkManager/secret_key": False,
    "var/lib/NetworkManager/NetworkManager.state": True,
    "var/lib/systemd/random-seed": False,
    "boot/efi/loader/random-seed": False,
    "boot/efi/loader/loader.conf": True,
    "var/lib/systemd/coredump/core.x.zst": False,
    "var/crash/x.crash": False,
}


@pytest.fixture
def used(tree: Path) -> Path:
    """The tree with what a machine in use has written."""
    (tree / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n")
    for name in TRACES:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("what was done here\n")
    return tree


@root_only
def test_logs_histories_lists_leases_and_seeds_go(used: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (used / "var/log/syslog").chmod(0o640)
    os.chown(used / "var/log/syslog", 103, 4)
    inode = (used / "var/log/syslog").stat().st_ino
    before = files(used)
    assert main(["clean", "--logs", "--dry-run", "--root", str(used)]) == 0
    would = capsys.readouterr().out
    assert files(used) == before
    assert main(["clean", "--logs", "--root", str(used)]) == 0
    said = capsys.readouterr().out
    assert {name: (used / name).exists() for name in TRACES} == {
        n: stays is not False for n, stays in TRACES.items()
    }
    for name, stays in TRACES.items():
        if stays is None:
            assert (used / name).read_bytes() == b""
        done = {None: f"changed: /{name}: emptied", False: f"changed: /{name}: removed", True: ""}[stays]
        assert done in said.splitlines() or stays
        assert f"would be {done}" in would.splitlines() or stays
    info = (used / "var/log/syslog").stat()
    assert (info.st_mode & 0o777, info.st_uid, info.st_gid) == (0o640, 103, 4)
    assert info.st_ino != inode, "a program that has it open does not write into the image any more"
    assert not (used / "var/log/journal/0123456789abcdef").exists()
    assert (used / "var/log/journal").is_dir()
    assert main(["clean", "--logs", "--root", str(used)]) == 0
    assert "unchanged: logs: nothing to remove" in capsys.readouterr().out


@root_only
def test_without_the_option_logs_stay(used: Path) -> None:
    assert main(["clean", "--root", str(used)]) == 0
    assert {(used / name).read_text() for name in TRACES} == {"what was done here\n"}


@root_only
def test_no_link_leads_logs_out_of_the_tree(
    used: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a folder, of a file, and of a user in their home."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("app.log", ".bash_history", "fish_history", "random-seed"):
        (outside / name).write_text("of this machine")
    os.symlink(outside, used / "var/log/app")
    os.symlink(outside / "app.log", used / "var/log/app.log")
    (used / "home/me/.bash_history").symlink_to(outside / ".bash_history")
    os.chown(used / "home/me", 1000, 1000)
    (used / "home/me/.local/share").mkdir(parents=True)
    (used / "home/me/.local/share/fish").symlink_to(outside)
    os.lchown(used / "home/me/.local/share/fish", 1000, 1000)
    (used / "var/lib/systemd/random-seed").unlink()
    (used / "var/lib/systemd/random-seed").symlink_to(outside / "random-seed")
    assert main(["clean", "--logs", "--root", str(used)]) in (0, 1)
    assert {path.read_text() for path in outside.iterdir()} == {"of this machine"}


# -- the agent's accounts and keys -------------------------------------------------------------------

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB me@laptop"
OWN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIC mine"
ACCOUNTS = """\
root:x:0:0::/root:/bin/sh
admin1:x:1000:1000::/home/admin1:/bin/bash
other:x:1001:1001::/home/other:/bin/bash
mine:x:1002:1002::/home/mine:/bin/bash
"""
FINGERPRINT = passwd.fingerprint(KEY)


@pytest.fixture
def set_up(tree: Path) -> Path:
    """The tree with the records of two instances, which made admin1 and other; mine was there before."""
    (tree / "etc/passwd").write_text(ACCOUNTS)
    for name, uid in (("admin1", 1000), ("other", 1001), ("mine", 1002)):
        (tree / "home" / name).mkdir(parents=True)
        os.chown(tree / "home" / name, uid, uid)
    (tree / "root/.ssh/authorized_keys").write_text(f"{OWN}\n{KEY}\n")
    first, second = (State(Host(tree), f"/var/lib/gandi/instances/{name}") for name in ("one", "two"))
    for state, name in ((first, "admin1"), (first, "gone"), (second, "other"), (second, "root")):
        state.record_value(f"user:{name}", "there")
    live = {"delivered": "mine", "wanted": "there", "live": "there", "apply": lambda: None}
    second.reconcile("user:mine", **live)  # type: ignore[arg-type]  # as the step calls it
    for line, name in ((KEY, "root"), (OWN, "gone")):
        first.record_value(f"key:{name}:{passwd.fingerprint(line)}", line)
    first.record_value("sudo:admin1", "admin1 ALL=(ALL) ALL\n")
    (tree / "etc/sudoers.d").mkdir()
    (tree / "etc/sudoers.d/90-gandi-agent-admin1").write_text("admin1 ALL=(ALL) ALL\n")
    (tree / "etc/sudoers.d/90-gandi-agent-other").write_text("# mine\n")
    return tree


@root_only
def test_accounts_that_the_agent_made_go_and_no_other(
    set_up: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = Asked(set_up)
    host.offline = True
    assert [one.name for one in made_accounts.accounts(host)] == ["admin1", "other"]
    assert clean.clean(host, also=(clean.USERS,)) == 0
    assert host.argvs == [("userdel", "--remove", "--", name) for name in ("admin1", "other")]
    said = capsys.readouterr().out
    assert "changed: admin1: removed, with /home/admin1\n" in said
    assert not (set_up / "etc/sudoers.d/90-gandi-agent-admin1").exists()
    assert "kept: /etc/sudoers.d/90-gandi-agent-other" in said
    assert (set_up / "root/.ssh/authorized_keys").read_text() == f"{OWN}\n{KEY}\n", "only with --ssh-keys"
    assert not (set_up / "var/lib/gandi/instances").exists(), "the records go after them"


@root_only
@pytest.mark.parametrize("home", ["another's", "a link", "shared", "of the system"])
def test_a_home_that_is_not_the_accounts_alone_stays(
    set_up: Path, home: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = set_up / "home/admin1"
    match home:
        case "another's":
            os.chown(place, 1002, 1002)
        case "a link":
            place.rmdir()
            place.symlink_to("/home/mine")
        case "shared":
            (set_up / "etc/passwd").write_text(ACCOUNTS.replace("/home/mine", "/home/admin1/mine"))
        case _:
            (set_up / "etc/passwd").write_text(ACCOUNTS.replace("/home/admin1", "/srv"))
    host = Asked(set_up)
    host.offline = True
    assert clean.clean(host, also=(clean.USERS,)) == 0
    assert host.argvs[0] == ("userdel", "--", "admin1")
    assert re.search(
        r"^changed: admin1: account removed; /\S+ is left: .*$", capsys.readouterr().out, re.MULTILINE
    )


@root_only
def test_an_account_that_cannot_be_removed_leaves_the_records_for_another_run(
    set_up: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Asked(set_up)
    host.offline = True
    monkeypatch.setattr(
        Asked, "run", lambda _host, argv, **_how: Completed(tuple(argv), 8, "", "user is used")
    )
    assert clean.clean(host, also=(clean.USERS, clean.LOGS)) == 1
    said = capsys.readouterr()
    assert "failed: admin1: userdel: exit status 8: user is used" in said.out
    assert "so that it can be run again" in said.err
    assert (set_up / "var/lib/gandi/instances/one/applied.json").exists()
    assert (set_up / "etc/machine-id").read_bytes()


@root_only
def test_keys_that_the_agent_added_go_and_others_stay(
    set_up: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["clean", "--ssh-keys", "--dry-run", "--root", str(set_up)]) == 0
    assert f"would be changed: key of root: {FINGERPRINT[:15]}: removed" in capsys.readouterr().out
    assert KEY in (set_up / "root/.ssh/authorized_keys").read_text()
    assert main(["clean", "--ssh-keys", "--root", str(set_up)]) == 0
    assert (set_up / "root/.ssh/authorized_keys").read_text() == f"{OWN}\n"
    assert "ssh_host_rsa_key" not in os.listdir(set_up / "etc/ssh")
    assert (set_up / "etc/passwd").read_text() == ACCOUNTS


@root_only
def test_a_key_that_was_changed_stays(set_up: Path) -> None:
    (set_up / "root/.ssh/authorized_keys").write_text(f'from="192.0.2.1" {KEY}\n')
    assert main(["clean", "--ssh-keys", "--root", str(set_up)]) == 0
    assert KEY in (set_up / "root/.ssh/authorized_keys").read_text()


# -- the operator's programs -------------------------------------------------------------------------


def put(tree: Path, name: str, text: str, mode: int = 0o755) -> None:
    place = tree / "etc/gandi/clean.d" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    place.chmod(mode)


@root_only
def test_programs_run_in_order_when_the_rest_is_done(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("20-b", "10-a", "30-c~"):
        put(tree, name, "#!/bin/sh\n")
    put(tree, "15-text", "echo\n")
    put(tree, "40-off", "#!/bin/sh\n", 0o644)
    put(tree, "50-open", "#!/bin/sh\n", 0o777)
    host = Asked(tree)
    assert clean.clean(host, also=(clean.LOGS,)) == 1
    folder = "/etc/gandi/clean.d"
    assert host.argvs == [(f"{folder}/10-a",), ("/bin/sh", f"{folder}/15-text"), (f"{folder}/20-b",)]
    said = capsys.readouterr().out
    assert "failed: 50-open: not run: " in said
    assert said.index("machine-id") < said.index("changed: 10-a: run") < said.index("changed: 20-b: run")


@root_only
def test_a_dry_run_runs_no_program(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tree, "10-a", f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    assert main(["clean", "--dry-run", "--root", str(tree)]) == 0
    assert "would be changed: 10-a: run" in capsys.readouterr().out
    assert not (tmp_path / "ran").exists()


# -- free blocks -------------------------------------------------------------------------------------


@root_only
def test_a_folder_on_this_machines_disk_is_not_filled(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["clean", "--zero", "--root", str(tree)]) == 0
    assert f"skipped: free blocks: no filesystem of a disk is mounted at {tree}" in capsys.readouterr().out
