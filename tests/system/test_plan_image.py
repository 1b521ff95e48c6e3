"""``plan --image`` and ``plan --root``: what the first boot would do, and no byte changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contents import digest
from tests.system.disks import sh
from tests.system.imagedisks import DOCUMENT, is_attached, made, opened, tree, with_volumes


def plan(*words: str, status: int = 0, document: object = DOCUMENT) -> str:
    """Return what the command prints; check its exit status, and that nothing stays mounted."""
    before = Path("/proc/mounts").read_text()
    done = subprocess.run(
        (sys.executable, "-m", "agent", "plan", "--source", "-", *words),
        input=json.dumps(document).encode(),
        capture_output=True,
        check=False,
        timeout=120,
    )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == status, said
    assert set(Path("/proc/mounts").read_text().splitlines()) <= set(before.splitlines())
    return said


def is_planned(said: str) -> bool:
    """Return whether the plan has the document's items, those of the agent's own, and the machine's."""
    lines = [line.strip() for line in said.splitlines()]
    return {
        "source: would change",
        "hostname: would change: vm1.example.org",
        "file:/etc/injected: would change",
        "sysctl: would change",
        "root disk: known at the boot: the size of the machine's disk",
    } <= set(lines)


@pytest.mark.parametrize(
    ("kind", "fstype"), [("gpt", "ext4"), ("logical", "xfs"), ("none", "btrfs"), ("msdos", "ext4")]
)
def test_the_plan_of_an_image_changes_no_byte_of_it(tmp_path: Path, kind: str, fstype: str) -> None:
    image = made(tmp_path, kind, fstype)
    image.chmod(0o444)
    before = digest(image)
    said = plan("--image", str(image))
    assert is_planned(said), said
    assert not is_attached(image)
    assert digest(image) == before
    assert plan("--image", str(image)) == said


def test_a_system_in_a_volume_and_one_stage_of_it(tmp_path: Path) -> None:
    image = with_volumes(tmp_path, "msdos", "root=80")
    before = digest(image)
    assert is_planned(plan("--image", str(image)))
    said = plan("config", "--image", str(image), "--partition", "vg0/root")
    assert "sysctl: would change" in said
    assert "bootstrap" not in said
    assert digest(image) == before


def test_a_filesystem_that_was_not_unmounted_is_not_written_to(tmp_path: Path) -> None:
    image = made(tmp_path, "gpt", "ext4")
    with opened(image, 2) as at:
        (at / "etc/motd").write_text("text\n")
        os.sync()
        cut = tmp_path / "cut.raw"
        sh("cp", "--sparse=always", str(image), str(cut))
    before = digest(cut)
    assert is_planned(plan("--image", str(cut)))
    assert digest(cut) == before


def test_an_image_in_use_is_refused(tmp_path: Path) -> None:
    """Locked as QEMU does, which keeps no reader out."""
    image = made(tmp_path, "none", "ext4")
    argv = ["qemu-io", "-f", "raw", str(image)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(b"read 0 512\n")
        holder.stdin.flush()
        while b"ops" not in holder.stdout.readline():
            assert holder.poll() is None
        assert "in use: locked by another program" in plan("--image", str(image), status=1)
        holder.stdin.write(b"quit\n")
        holder.stdin.close()
    assert is_planned(plan("--image", str(image)))


def test_an_image_that_has_its_document_already(tmp_path: Path) -> None:
    image = made(tmp_path, "gpt", "ext4")
    apply = (sys.executable, "-m", "agent", "apply", "--image", str(image), "--source", "-")
    subprocess.run(apply, input=json.dumps(DOCUMENT).encode(), check=True, capture_output=True)
    said = plan("--image", str(image))
    assert "file:/etc/injected: unchanged" in said
    assert "sysctl: would change" in said


def test_a_tree_with_what_is_mounted_in_it(tmp_path: Path) -> None:
    root = tree(tmp_path / "tree")
    sh("mount", "-t", "tmpfs", "own", str(root / "etc"))
    sh("cp", "-a", f"{tree(tmp_path / 'other')}/etc/.", str(root / "etc"))
    try:
        assert is_planned(plan("--root", str(root)))
        assert not (root / "etc/hostname").exists()
        assert not (root / "var/lib/gandi").exists()
    finally:
        sh("umount", str(root / "etc"))
    assert "no system is mounted there" in plan("--root", str(tmp_path / "tree/usr"), status=1)


def hostile(root: Path, outside: Path) -> None:
    """Have links in the tree in place of what is written, to a folder of this machine; each program of the
    tree writes there, too.
    """
    outside.mkdir(exist_ok=True)
    for name in ("hostname", "hosts", "passwd", "injected"):
        (outside / name).write_text("root:x:0:0:root:/root:/bin/sh\n" if name == "passwd" else "")
        (root / "etc" / name).unlink(missing_ok=True)
        (root / "etc" / name).symlink_to(outside / name)
    (root / "etc/sysctl.d").symlink_to(outside)
    (root / "var/lib/gandi").symlink_to(outside)
    (root / "boot").symlink_to(outside)
    (root / "root").rmdir()
    (root / "root").symlink_to(outside)
    for program in ("true", "sh", "useradd", "sshd", "systemctl", "mkswap"):
        path = root / "usr/bin" / program
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\ntouch {outside}/run-{program}\n")
        path.chmod(0o755)


def outside_of(folder: Path) -> dict[str, tuple[str, int]]:
    """Return what a folder has, with the time of each change."""
    return {path.name: (path.read_text(), path.stat().st_ctime_ns) for path in folder.iterdir()}


def test_a_hostile_image_is_not_run_and_leads_nowhere(tmp_path: Path) -> None:
    image, outside = made(tmp_path, "gpt", "ext4"), tmp_path / "outside"
    with opened(image, 2) as at:
        hostile(at, outside)
    before, there = digest(image), outside_of(outside)
    said = plan("--image", str(image), status=1)
    assert "/etc/passwd" in said or "no system" in said
    assert outside_of(outside) == there
    assert digest(image) == before
    with opened(image, 2) as at:
        (at / "etc/passwd").unlink()
        (at / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    before = digest(image)
    plan("--image", str(image), status=0)
    assert outside_of(outside) == there
    assert digest(image) == before
