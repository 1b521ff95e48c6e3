"""Which network manager is in charge of a system, judged by its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.host.host import Host
from agent.lib.errors import ConfigError
from agent.network import load, renderer
from agent.network.managers import (
    MANAGERS,
    active_manager,
    inactive_with_files,
    is_netplan_for_networkmanager,
)

UNITS = {
    "networkd": "systemd-networkd.service",
    "networkmanager": "NetworkManager.service",
    "ifupdown": "networking.service",
}


def _enable(root: Path, manager: str) -> None:
    if manager == "ifupdown":
        Host(root).write("/usr/sbin/ifup", "", mode=0o755)
    if manager == "netplan":
        Host(root).write("/usr/sbin/netplan", "", mode=0o755)
        Host(root).write("/etc/netplan/50-image.yaml", "network: {version: 2}\n")
        return
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / UNITS[manager]).symlink_to(f"/usr/lib/systemd/system/{UNITS[manager]}")


@pytest.mark.parametrize(
    ("enabled", "expected"),
    [
        ((), ""),
        (("networkd",), "networkd"),
        (("networkmanager",), "networkmanager"),
        (("ifupdown",), "ifupdown"),
        (("netplan",), "netplan"),
        (("ifupdown", "networkd"), "networkd"),
        (("ifupdown", "networkmanager"), "networkmanager"),
        (("networkd", "netplan"), "netplan"),
    ],
)
def test_the_one_in_charge_among_those_that_are_enabled(
    tmp_path: Path, enabled: tuple[str, ...], expected: str
) -> None:
    for manager in enabled:
        _enable(tmp_path, manager)
    assert active_manager(Host(tmp_path), "auto") == expected


def test_a_unit_without_its_program_or_masked_is_not_in_charge(tmp_path: Path) -> None:
    _enable(tmp_path, "ifupdown")
    (tmp_path / "usr/sbin/ifup").unlink()
    _enable(tmp_path, "networkd")
    (tmp_path / "etc/systemd/system/systemd-networkd.service").symlink_to("/dev/null")
    assert active_manager(Host(tmp_path), "auto") == ""


def test_netplan_without_a_file_leaves_it_to_what_is_enabled(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.write("/usr/sbin/netplan", "", mode=0o755)
    assert active_manager(host, "auto") == "netplan"
    _enable(tmp_path, "networkd")
    assert active_manager(host, "auto") == "networkd"


@pytest.mark.parametrize("name", [manager.name for manager in MANAGERS])
def test_the_setting_decides(tmp_path: Path, name: str) -> None:
    _enable(tmp_path, "networkd")
    assert name == renderer(Host(tmp_path), name).NAME


def test_none_in_charge_and_one_that_is_not_known_are_the_operators(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no supported network manager"):
        renderer(Host(tmp_path), "auto")
    with pytest.raises(ConfigError, match="CONFIG_RENDERER=wicked: not a supported network manager"):
        renderer(Host(tmp_path), "wicked")


def test_what_is_ours_of_another_manager_is_found(tmp_path: Path) -> None:
    host = Host(tmp_path)
    for manager in MANAGERS:
        for path in load(manager.name).paths("nic0"):
            host.write(path, "")
    assert inactive_with_files(host, "networkd") == ["netplan", "networkmanager", "ifupdown"]
    assert inactive_with_files(Host(tmp_path / "empty"), "networkd") == []


_NM, _NETWORKD = (f"network:\n  version: 2\n  renderer: {name}\n" for name in ("NetworkManager", "networkd"))
_COMMENTED = "# ours\nnetwork:\n    # one\n    renderer: 'NetworkManager' # all\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, False),
        ({"etc/netplan/50-image.yaml": "network:\n  version: 2\n"}, False),
        ({"etc/netplan/01-all.yaml": _NM}, True),
        (
            {"usr/lib/netplan/00-all.yaml": _COMMENTED},
            True,
        ),
        ({"etc/netplan/01-all.yaml": "network: {version: 2, renderer: NetworkManager}\n"}, True),
        (
            {"etc/netplan/a.yaml": '{"network": {"ethernets": {"a": {}},\n"renderer": "NetworkManager"}}'},
            True,
        ),
        # That of one NIC or of a section is not for others.
        ({"etc/netplan/a.yaml": "network:\n  ethernets:\n    renderer: NetworkManager\n"}, False),
        ({"etc/netplan/a.yaml": "network: {ethernets: {eth9: {renderer: NetworkManager}}}\n"}, False),
        ({"etc/netplan/a.yaml": "x-other:\n  renderer: NetworkManager\nnetwork:\n  version: 2\n"}, False),
        # The last file by name decides, and one in /etc hides that of its name in /usr/lib.
        ({"etc/netplan/01-all.yaml": _NM, "etc/netplan/90-z.yaml": _NETWORKD}, False),
        ({"etc/netplan/01-all.yaml": _NETWORKD, "usr/lib/netplan/90-z.yaml": _NM}, True),
        ({"etc/netplan/a.yaml": "network: {version: 2}\n", "usr/lib/netplan/a.yaml": _NM}, False),
        ({"etc/netplan/a.yml": _NM}, False),
        ({"etc/netplan/a.yaml": _NM.replace("\n", "\r\n")}, True),
        ({"etc/netplan/a.yaml": _NM.replace("renderer", "#renderer")}, False),
    ],
)
def test_the_backend_of_netplan(tmp_path: Path, files: dict[str, str], *, expected: bool) -> None:
    for name, text in files.items():
        Host(tmp_path).write(f"/{name}", text)
    assert is_netplan_for_networkmanager(Host(tmp_path)) is expected
