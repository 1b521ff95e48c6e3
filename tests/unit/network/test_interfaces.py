"""Which NICs are physical, and their order on the bus."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.host.host import Host
from agent.network import interfaces


def add_nic(root: Path, name: str, mac: str, *, device: str = "", index: int = 2, kind: str = "1") -> Path:
    """Make a NIC in a sysfs tree, laid out as the kernel does; without a device it is virtual."""
    place = f"sys/devices/{device}/net/{name}" if device else f"sys/devices/virtual/net/{name}"
    folder = root / place
    folder.mkdir(parents=True)
    for file, value in {"address": mac, "ifindex": str(index), "type": kind}.items():
        (folder / file).write_text(f"{value}\n")
    if device:
        (folder / "device").symlink_to("../..")
    classes = root / "sys/class/net"
    classes.mkdir(parents=True, exist_ok=True)
    (classes / name).symlink_to(f"../../../{place}")
    return folder


def test_only_devices_with_hardware_behind_them(tmp_path: Path) -> None:
    add_nic(tmp_path, "eth0", "52:54:00:00:00:01", device="pci0000:00/0000:00:03.0/virtio0")
    for name in ("lo", "docker0", "veth1a2b", "eth0.10", "tun0"):
        add_nic(tmp_path, name, "52:54:00:00:00:01")
    add_nic(tmp_path, "ib0", "80:00", device="pci0000:00/0000:00:09.0", kind="32")
    found = interfaces.physical(Host(tmp_path))
    assert [one.name for one in found] == ["eth0"]
    assert found[0].mac == "52:54:00:00:00:01"


def test_bus_order_counts_and_not_the_order_of_names(tmp_path: Path) -> None:
    places = {
        "eth3": "pci0000:00/0000:00:03.0/virtio2",
        "eth2": "pci0000:00/0000:00:0a.0/virtio0",
        "eth1": "pci0000:00/0000:00:10.0/virtio1",
        "ens9": "vif-9",
        "ens10": "vif-10",
    }
    for index, (name, place) in enumerate(sorted(places.items())):
        add_nic(tmp_path, name, f"52:54:00:00:00:{index:02x}", device=place, index=20 - index)
    assert [one.name for one in interfaces.physical(Host(tmp_path))] == list(places)


def test_a_member_of_a_bond_is_known_by_its_own_address(tmp_path: Path) -> None:
    folder = add_nic(tmp_path, "eth0", "52:54:00:00:00:99", device="pci0000:00/0000:00:03.0")
    (folder / "bonding_slave").mkdir()
    (folder / "bonding_slave/perm_hwaddr").write_text("52:54:00:00:00:AA\n")
    assert interfaces.physical(Host(tmp_path))[0].mac == "52:54:00:00:00:aa"


def test_udev_has_named_it_when_its_record_is_there(tmp_path: Path) -> None:
    one = interfaces.Interface("eth0", "52:54:00:00:00:01", index=7)
    assert not interfaces.is_named_by_udev(Host(tmp_path), one)
    (tmp_path / "run/udev/data").mkdir(parents=True)
    (tmp_path / "run/udev/data/n7").touch()
    assert interfaces.is_named_by_udev(Host(tmp_path), one)


def test_udevs_names_for_a_nic_are_read_without_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_argv: object, **_how: object) -> None:
        pytest.fail("a process for what stands in a file")

    monkeypatch.setattr(Host, "run", run)
    record = tmp_path / "run/udev/data/n7"
    record.parent.mkdir(parents=True)
    record.write_text(
        "I:1\nE:ID_NET_NAME_PATH=enp1s0\nE:ID_NET_NAME_SLOT=ens1\nE:ID_NET_NAMING_SCHEME=v257\n"
    )
    one = interfaces.Interface("eth0", "52:54:00:00:00:01", index=7)
    assert interfaces.names(Host(tmp_path), one) == {"eth0", "enp1s0", "ens1"}
    assert interfaces.names(Host(tmp_path), interfaces.Interface("eth1", "", index=8)) == {"eth1"}


def test_a_machine_without_sysfs_has_none(tmp_path: Path) -> None:
    assert interfaces.physical(Host(tmp_path)) == []
