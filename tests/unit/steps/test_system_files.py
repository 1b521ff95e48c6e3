"""/etc/hosts and /etc/fstab: missing lines are added, chosen ones are kept."""

from __future__ import annotations

import os

import pytest

from agent.steps import system_files
from tests.unit.steps.conftest import Machine

UUID = "11111111-2222-3333-4444-555555555555"
HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


@pytest.fixture(autouse=True)
def _root(machine: Machine) -> None:
    """Make / a filesystem on vda1 with a UUID."""
    machine.put("/etc/hosts", HOSTS)
    machine.put("/proc/self/mountinfo", "20 1 254:1 / / rw - ext4 /dev/root rw\n")
    device = machine.put("/sys/devices/pci0/block/vda/vda1/dev", "254:1\n").parent
    for link in ("sys/dev/block/254:1", "sys/class/block/vda1"):
        path = machine.root / link
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(os.path.relpath(device, path.parent))
    machine.put("/run/udev/data/b254:1", f"E:ID_FS_UUID={UUID}\n")


def fstab(machine: Machine, text: str) -> str:
    machine.put("/etc/fstab", text)
    return machine.run(system_files.apply)["fstab"]


def test_what_is_right_is_left(machine: Machine) -> None:
    assert fstab(machine, f"UUID={UUID} / ext4 rw 0 1\n") == f"unchanged: / is UUID={UUID}"
    assert machine.text("/etc/hosts") == HOSTS
    before = machine.stamps()
    machine.run(system_files.apply)
    assert machine.stamps() == before


@pytest.mark.parametrize("device", ["/dev/vda1", "/dev/xvda1", "/dev/sda", "/dev/nvme0n1p1"])
def test_a_name_of_the_kernels_becomes_the_uuid_and_the_old_file_is_kept(
    machine: Machine, device: str
) -> None:
    text = f"# mine\nproc /proc proc defaults 0 0\n  {device}\t/ ext4 noatime 0 1\n{device} /mnt bind bind\n"
    assert fstab(machine, text) == f"changed: / is UUID={UUID}"
    assert machine.text("/etc/fstab") == text.replace(device, f"UUID={UUID}", 1)
    assert machine.text(system_files.OLD_FSTAB) == text
    before = machine.stamps()
    assert machine.run(system_files.apply)["fstab"] == f"unchanged: / is UUID={UUID}"
    assert machine.stamps() == before
    machine.put("/etc/fstab", text)
    assert machine.run(system_files.apply)["fstab"] == "kept: changed by admin"


def test_a_missing_line_is_added(machine: Machine) -> None:
    assert fstab(machine, "# UNCONFIGURED FSTAB").startswith("changed")
    assert machine.text("/etc/fstab") == f"# UNCONFIGURED FSTAB\nUUID={UUID} / ext4 defaults 0 1\n"


@pytest.mark.parametrize("spec", ["LABEL=root", "/dev/mapper/vg-root", "PARTUUID=1234-01", "UUID=another"])
def test_a_lasting_name_is_left(machine: Machine, spec: str) -> None:
    assert fstab(machine, f"{spec} / ext4 defaults 0 1\n") == f"unchanged: / is {spec}"
    assert not (machine.root / system_files.OLD_FSTAB[1:]).exists()


def test_a_root_without_a_uuid_is_left(machine: Machine) -> None:
    machine.put("/run/udev/data/b254:1", "")
    assert fstab(machine, "").startswith("skipped")


@pytest.mark.parametrize("text", [None, "", "203.0.113.1\tvm1\n", "127.0.0.1 localhost\n\n# mine\n"])
def test_localhost_is_added(machine: Machine, text: str | None) -> None:
    (machine.root / "etc/hosts").unlink()
    if text is not None:
        machine.put("/etc/hosts", text)
    assert machine.run(system_files.apply)["localhost:::1"] == "changed"
    lines = machine.text("/etc/hosts").splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [["127.0.0.1", "localhost"], ["::1", "localhost"]]
    assert all(line in lines for line in (text or "").splitlines())
    machine.put("/etc/hosts", "127.0.0.1 localhost\n")
    assert machine.run(system_files.apply)["localhost:::1"] == "kept: changed by admin"
