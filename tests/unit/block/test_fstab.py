"""Entries of /etc/fstab are found and replaced one by one."""

from __future__ import annotations

from pathlib import Path

from agent.block import fstab
from agent.host.host import Host

TEXT = (
    "# a comment /data\nUUID=1  /  ext4 defaults 0 1\n"
    "/dev/vdb\t/data ext4 defaults 0 2\nUUID=2 none swap sw 0 0\n"
)


def test_find() -> None:
    assert fstab.find(TEXT, "LABEL=x /data xfs ro 0 0") == "/dev/vdb /data ext4 defaults 0 2"
    assert fstab.find(TEXT, "UUID=2 none swap sw 0 0") == "UUID=2 none swap sw 0 0"
    assert fstab.find(TEXT, "UUID=3 none swap sw 0 0") is None, "swap has no mountpoint"
    assert fstab.find(TEXT, "UUID=1 /dat ext4 ro 0 0") is None


def test_a_blank_in_a_mountpoint() -> None:
    assert fstab.line("LABEL=a", "/srv/my data", "auto", "ro") == "LABEL=a /srv/my\\040data auto ro 0 0"


def test_put(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.write(fstab.FSTAB, TEXT)
    fstab.put(host, "LABEL=x /data xfs ro 0 0")
    fstab.put(host, "LABEL=y /new ext4 ro 0 0")
    assert (
        host.read(fstab.FSTAB)
        == TEXT.replace("/dev/vdb\t/data ext4 defaults 0 2", "LABEL=x /data xfs ro 0 0")
        + "LABEL=y /new ext4 ro 0 0\n"
    )
    assert host.read(fstab.OLD_FSTAB) == TEXT, "as it was before the first change"


def test_put_without_a_file(tmp_path: Path) -> None:
    fstab.put(Host(tmp_path), "LABEL=y /new ext4 ro 0 0")
    assert (tmp_path / "etc/fstab").read_text() == "LABEL=y /new ext4 ro 0 0\n"
    assert not (tmp_path / "etc/fstab.gandi-old").exists()
