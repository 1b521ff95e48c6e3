"""Other forms of the values of #cloud-config, and values that stand in each other's way."""

from __future__ import annotations

from typing import Any

import pytest

from agent.config.model import Naming, User
from agent.config.system import Apt, Filesystem, Mount, Ntp, Package, Packages, Power, System
from agent.reader.common.problem import ERROR, UNSUPPORTED
from tests.unit.reader.formats.test_cloud_system import read


@pytest.mark.parametrize("length", [1, 2, 3, 5, 7])
def test_default_fields_of_another_number(length: int) -> None:
    plain = [None, None, "auto", "defaults,nofail", "0", "2", "0"]
    found, reading = read(mounts=[["/dev/vdb", "/d"]], mount_default_fields=plain[7 - length :])
    assert [(p.path, p.severity) for p in reading.problems] == [("user-data: mount_default_fields", ERROR)]
    assert found == System(mounts=(Mount("/dev/vdb", "/d"),))


@pytest.mark.parametrize("document", [{"ntp": {}}, {"ntp": None}, {"NTP": None}, {"ntp": {"enabled": True}}])
def test_time_servers_without_one(document: dict[str, Any]) -> None:
    found, reading = read(**document)
    assert [(p.path, p.severity) for p in reading.problems] == [("user-data: ntp", UNSUPPORTED)]
    assert found is None


@pytest.mark.parametrize(("written", "command"), [("True", ()), ("Yes", ()), ("NO", ("false",))])
def test_a_condition_in_the_spellings_of_yaml(written: str, command: tuple[str, ...]) -> None:
    found, _ = read(power_state={"mode": "reboot", "condition": written})
    assert found is not None
    assert found.power == Power("reboot", condition=command)


@pytest.mark.parametrize("written", [1, "1", " true\r", "YES"])
def test_true_in_other_spellings(written: object) -> None:
    found, reading = read(package_update=written)
    assert not reading.problems
    assert found == System(packages=Packages(update=True))


def test_null_is_a_default() -> None:
    keys = ("package_update", "disable_root", "ssh_deletekeys", "resize_rootfs", "preserve_hostname", "apt")
    found, reading = read(
        **dict.fromkeys(keys), users=[{"name": "ann", "system": None, "lock_passwd": None}]
    )
    assert not reading.problems
    assert found is None
    assert reading.config is not None
    assert reading.config.users == (User("ann", locked=True),)


def test_blanks_around_values() -> None:
    document: dict[str, Any] = {
        "users": [{"name": " a", "shell": "/bin/sh "}],
        "write_files": [{"path": " /etc/x ", "permissions": " 0600", "encoding": " B64 ", "content": ""}],
        "fs_setup": [{"device": " /dev/vdb", "filesystem": "EXT4 ", "partition": " None "}],
        "power_state": {"mode": " Reboot ", "delay": " NOW ", "condition": " True "},
        "resize_rootfs": " NoBlock",
        "manage_etc_hosts": " localhost ",
    }
    found, reading = read(**document)
    assert not reading.problems
    assert reading.config is not None
    assert reading.config.users == (User("a", shell="/bin/sh", locked=True),)
    assert [(file.path, file.mode) for file in reading.config.files] == [("/etc/x", 0o600)]
    assert reading.config.naming == Naming(hosts="localhost")
    assert found == System(filesystems=(Filesystem("/dev/vdb", "ext4"),), power=Power("reboot"))


def test_a_string_in_place_of_a_list() -> None:
    found, reading = read(packages="vim git", ntp={"servers": "192.0.2.1, 192.0.2.2"})
    assert not reading.problems
    names = Packages((Package("vim"), Package("git")))
    assert found == System(packages=names, ntp=Ntp(("192.0.2.1", "192.0.2.2")))


@pytest.mark.parametrize(
    ("apt", "path"),
    [
        ({"proxy": "http://192.0.2.1/", "http_proxy": "http://192.0.2.2/"}, "apt.proxy"),
        ({"primary": [{"uri": "http://192.0.2.1/d"}, {"uri": "http://192.0.2.2/d"}]}, "apt.primary"),
    ],
)
def test_only_one_of_two_is_used(apt: dict[str, Any], path: str) -> None:
    _, reading = read(apt=apt)
    assert [(p.path, p.severity) for p in reading.problems] == [(f"user-data: {path}", UNSUPPORTED)]


def test_vendor_data_with_a_prefix_can_be_disabled() -> None:
    vendor = {"timezone": "Etc/UTC"}
    _, reading = read(vendor, vendor_data={"enabled": False, "prefix": "/usr/bin/x"})
    assert reading.config is not None
    assert reading.config.timezone is None
    assert ("user-data: vendor_data.prefix", UNSUPPORTED) in [(p.path, p.severity) for p in reading.problems]


def test_keys_of_apt_are_independent() -> None:
    found, reading = read(apt={"debconf_selections": {"a": "b"}, "http_proxy": "http://192.0.2.2/"})
    assert [(p.path, p.severity) for p in reading.problems] == [
        ("user-data: apt.debconf_selections", UNSUPPORTED)
    ]
    assert found == System(apt=Apt(proxies=(("http", "http://192.0.2.2/"),)))
