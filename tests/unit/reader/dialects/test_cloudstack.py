"""The CloudStack drive and its quirks."""

from __future__ import annotations

import json

import pytest

from agent.config.model import InstanceConfig, User
from agent.reader.common.result import Reading
from agent.reader.dialects import cloudstack
from agent.reader.formats import yaml_events
from tests.unit.reader import drives
from tests.unit.reader.dialects.test_gandi import key

PASSWORD = "cloudstack/password/vm_password.txt"


def read(files: dict[str, bytes]) -> tuple[InstanceConfig, Reading]:
    reading = cloudstack.parse_files(files)
    assert reading.config is not None
    return reading.config, reading


def _upper(name: str) -> str:
    return name.upper().replace("-", "_") + ";1"


def _short(name: str) -> str:
    """Return a path as ISO 9660 level 1 shortens it."""
    steps = []
    for step in name.upper().replace("-", "_").split("/"):
        stem, dot, end = step.partition(".")
        steps.append(stem[:8] + dot + end[:3])
    return "/".join(steps)


@pytest.mark.parametrize(
    "spelled",
    [str, _upper, _short, lambda name: name.replace("-", "_"), lambda name: _short(name).lower()],
    ids=["proper", "upper-case", "truncated", "underscores", "truncated, lower-case"],
)
def test_the_whole_drive_however_its_names_are_spelled(spelled: type[str]) -> None:
    files = {spelled(name): content for name, content in drives.cloudstack().items()}
    config, reading = read(files)
    assert not reading.problems
    assert (config.identity.source, config.identity.id) == ("cloudstack", "i-2-3-VM")
    assert config.hostname == "VM-1"
    assert config.users == (User("", keys=(key("cs"),)),)
    assert reading.secrets == {"": "n3wPass"}
    assert config.nics == (), "an empty network_data.json says nothing of the network"
    assert dict(config.metadata)["service-offering"] == "Small"
    assert dict(config.metadata)["local-ipv4"] == "203.0.113.10"
    assert [script.name for script in config.scripts] == ["user-script"]
    assert reading.files["user-script"] == reading.files["user-data"] == b"#!/bin/sh\necho hello\n"


@pytest.mark.parametrize("content", [b"", b"\n", b"saved_password", b"saved_password\r\n", b"  \r\n"])
def test_no_new_password(content: bytes) -> None:
    _, reading = read(drives.cloudstack() | {PASSWORD: content})
    assert reading.secrets == {}
    files = drives.cloudstack()
    del files[PASSWORD]
    assert read(files)[1].secrets == {}


@pytest.mark.parametrize(
    ("content", "password"),
    [(b"abc\r\n", "abc"), (b"with space\n", "with space"), ("pä$$".encode(), "pä$$"), (b"$6$no", "$6$no")],
)
def test_a_new_password(content: bytes, password: str) -> None:
    config, reading = read(drives.cloudstack() | {PASSWORD: content})
    assert reading.secrets == {"": password}
    assert config.users[0].password is None


def test_a_password_that_is_none() -> None:
    for content in (b"\xff\xfe", b"two\nlines"):
        config, reading = read(drives.cloudstack() | {PASSWORD: content})
        assert reading.secrets == {}
        assert len(reading.problems) == 1
        assert config.hostname == "VM-1"


def test_a_key_with_a_nul_costs_itself() -> None:
    written = f"{key('one')}\0\n{key('two')}\n".encode()
    config, reading = read(drives.cloudstack() | {"cloudstack/metadata/public-keys.txt": written})
    assert config.users == (User("", keys=(key("two"),)),)
    assert [problem.path for problem in reading.problems] == ["public-keys.txt line 1"]


def test_the_reset_password_wins_over_that_of_user_data() -> None:
    data = b"#cloud-config\n" + json.dumps({"password": "old"}).encode()
    _, reading = read(drives.cloudstack() | {"cloudstack/userdata/user_data.txt": data})
    assert reading.secrets == {"": "n3wPass"}


def test_an_address_that_is_a_mac() -> None:
    config, reading = read(drives.cloudstack(local_ipv4=b"02:00:4c:5d:00:01"))
    assert "local-ipv4" not in dict(config.metadata)
    (problem,) = reading.problems
    assert (problem.path, problem.harmless) == ("local-ipv4.txt", True)
    assert not config.partial


def test_the_older_id() -> None:
    config, _ = read(drives.cloudstack(instance_id=b""))
    assert config.identity.id == "8e5a2d10-0000-4000-8000-000000000001"


def test_what_only_the_other_layout_has() -> None:
    files = {
        "openstack/latest/meta_data.json": json.dumps(drives.META_DATA | {"files": []}).encode(),
        "openstack/latest/network_data.json": json.dumps(drives.NETWORK_DATA).encode(),
        "openstack/latest/user_data": b"#!/bin/sh\n",
        "cloudstack/metadata/local-hostname.txt": b"mine",
    }
    config, _ = read(files)
    assert (config.identity.id, config.hostname) == (drives.META_DATA["uuid"], "mine")
    assert len(config.nics) == 5
    assert len(config.scripts) == 1


def test_wrong_values_are_named_by_their_file() -> None:
    config, reading = read(
        drives.cloudstack(local_hostname=b"a b", public_keys=b"none\n" + key("x").encode())
    )
    assert [problem.path for problem in reading.problems] == ["local-hostname.txt", "public-keys.txt line 1"]
    assert config.users[0].keys == (key("x"),)
    assert config.partial


def test_user_data_of_a_template_and_of_the_machine_joined_to_one_text() -> None:
    text = b"""#cloud-config
users: [{name: bob}]
runcmd: [echo template]

hostname: {{ ds.meta_data.local_hostname }}-x
runcmd: [echo machine]
merge_how: list(append)+dict(recurse_list)
"""
    yaml_events.load()
    user = {"cloudstack/userdata/user_data.txt": b"## template: jinja\n" + text}
    _, reading = read(drives.cloudstack() | user)
    assert not reading.problems
    assert reading.config is not None
    assert reading.config.hostname == "VM-1-x"
    assert reading.files["runcmd"] == b"#!/bin/sh\necho template\necho machine\n"
