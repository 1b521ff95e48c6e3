"""The native document: it can express the whole model, and its JSON Schema matches it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from agent.config.model import File, InstanceConfig, Script, User, dump, load
from agent.config.nics import Bond, Kind, Route
from agent.config.system import Apt, Archive, SwapFile, System
from agent.reader import json_schema
from agent.reader.common.problem import Problem
from agent.reader.dialects import native
from tests.unit.reader import drives
from tests.unit.reader.dialects.test_gandi import HASH, key


def read(**changes: Any) -> tuple[InstanceConfig, list[Problem]]:
    reading = native.parse_files(drives.native(**changes))
    assert reading.config is not None
    return reading.config, reading.problems


def test_the_whole_document() -> None:
    reading = native.parse_files(drives.native())
    config = reading.config
    assert config is not None
    assert not reading.problems
    assert (config.identity.source, config.identity.id) == ("native", "vm-1")
    assert (config.hostname, config.timezone) == ("vm1.example.org", "Etc/UTC")
    assert (config.nameservers, config.search) == (("192.0.2.53",), ("example.org",))
    assert config.metadata == (("size", "3"), ("zone", "par1"))
    assert config.system == System(consoles=("ttyS0", "hvc0"), swap=SwapFile("/var/swap", 1 << 30, 1 << 29))
    assert not config.partial
    first, one, two, bond, vlan, bridge = config.nics
    assert (first.mac, first.addresses) == (drives.MAC, ("203.0.113.10/32",))
    assert first.routes == (Route("0.0.0.0/0", "203.0.113.1", on_link=True),)
    assert (one.name, two.name) == ("eth1", "eth2")
    assert (bond.kind, bond.ports, bond.bond) == (Kind.BOND, (1, 2), Bond(primary=2))
    assert (vlan.kind, vlan.parent, vlan.vlan, vlan.optional) == (Kind.VLAN, 3, 5, True)
    assert (bridge.kind, bridge.ports, bridge.dhcp4, bridge.dhcp6) == (Kind.BRIDGE, (4,), True, True)
    assert config.users == (
        User("", keys=(key("me"),)),
        User("bob", HASH, groups=("adm",), shell="/bin/sh", sudo=("ALL=(ALL) ALL",)),
        User("carol"),
    )
    assert reading.secrets == {"carol": "s3cr3t"}
    assert [(s.name, s.arguments) for s in config.scripts] == [("hello", ("a b",))]
    assert reading.files[config.boot[0].name] == b"echo boot\n"
    (file,) = config.files
    assert file == File("/etc/motd", file.name, file.digest, "root", "adm", 0o640)
    assert reading.files[file.name] == b"hello\n"


@pytest.mark.parametrize(
    ("changes", "path", "said", "hint"),
    [
        ({"hostname": 5}, "hostname", "not a string (given: a number)", "quotes"),
        ({"hostname": "-"}, "hostname", "not a host name (given: a string)", "letters"),
        ({"nameservers": {"a": 1}}, "nameservers", "not a list (given: a dictionary)", "[...]"),
        ({"metadata": [1]}, "metadata", "not a dictionary (given: a list)", "{...}"),
        ({"files": [None, True]}, "files[1]", "not a dictionary (given: true or false)", "{...}"),
        ({"users": [{"name": {}}]}, "users[0].name", "not a string (given: a dictionary)", "quotes"),
    ],
)
def test_a_mistake_has_its_path_its_type_and_its_remedy(
    changes: dict[str, Any], path: str, said: str, hint: str
) -> None:
    _, problems = read(**changes)
    (problem,) = problems
    assert (problem.path, problem.message) == (path, said)
    assert hint in problem.hint


def test_an_archived_document_of_a_version_alone_is_none() -> None:
    """Files of many programs have a version; their disk would be wiped."""
    for document in ({"version": 1}, {"version": "2.0", "theme": "dark"}):
        found = native.reading(document, b"#!/bin/sh\n")
        assert (found.config, found.files) == (None, {})
        assert [(problem.path, problem.harmless) for problem in found.problems] == [("gandi/config", False)]
    assert native.reading({"version": 1, "hostname": "vm1"}, None).config


def test_the_platforms_script_runs_first() -> None:
    for name in ("script", "gandi/script"):
        config = native.parse_files(drives.native() | {name: b"#!/bin/sh\n"}).config
        assert config is not None
        assert [script.name for script in config.scripts] == ["script", "hello"]


def test_programs_of_one_name() -> None:
    config, _ = read(scripts=[{"content": "a"}, {"content": "b"}], boot=[{"content": "c"}])
    names = [script.name for script in (*config.scripts, *config.boot)]
    assert names == ["script", "script-2", "script-3"]
    assert all(isinstance(script, Script) for script in config.scripts)


def test_a_program_is_never_taken_for_the_user_data() -> None:
    document = {"version": 1, "scripts": [{"content": "a", "name": "user-data"}]}
    reading = native.parse(document, None)
    assert reading.config is not None
    assert [script.name for script in reading.config.scripts] == ["user-data-2"]
    assert set(reading.files) == {"user-data-2"}


WRONG = [
    (("version",), 2, "version", "whole number"),
    (("hostname",), "a b", "hostname", "host name"),
    (("timezone",), "../../etc/passwd", "timezone", "time zone"),
    (("nics", 0, "mac"), "xx", "nics[0].mac", "MAC"),
    (("nics", 0, "addresses", 0), "203.0.113.10/40", "nics[0].addresses[0]", "prefix"),
    (("nics", 0, "routes", 0, "to"), "10.0.0.0/99", "nics[0].routes[0].to", "CIDR"),
    (("nics", 0, "routes", 0, "via"), "gw", "nics[0].routes[0].via", "IP address"),
    (("nics", 0, "mtu"), 20, "nics[0].mtu", "from 68 to 65535"),
    (("nics", 1, "name"), "a/b", "nics[1].name", "interface"),
    (("nics", 1, "name"), "sixteen-letters-", "nics[1].name", "interface"),
    (("nics", 3, "kind"), "team", "nics[3].kind", "physical, bond, vlan, bridge"),
    (("nics", 3, "ports", 0), "eth9", "nics[3].ports", "no NIC eth9"),
    (("nics", 3, "bond", "mode"), "fastest", "nics[3].bond.mode", "active-backup"),
    (("nics", 4, "vlan"), 4095, "nics[4].vlan", "4094"),
    (("nics", 4, "parent"), "bond9", "nics[4].parent", "no NIC bond9"),
    (("users", 1, "password"), "plain", "users[1].password", "crypt"),
    (("users", 1, "shell"), "bash", "users[1].shell", "absolute path"),
    (("users", 1, "sudo", 0), "ALL\nbob ALL", "users[1].sudo[0]", "one line"),
    (("users", 1, "groups", 0), "a b", "users[1].groups[0]", "group"),
    (("users", 0, "keys", 0), "ssh-rsa x", "users[0].keys[0]", "base64"),
    (("scripts", 0, "content"), 5, "scripts[0].content", "not a string"),
    (("scripts", 0, "name"), "../x", "scripts[0].name", "not a program name"),
    (("scripts", 0, "arguments", 0), 5, "scripts[0].arguments[0]", "not a string"),
    (("boot", 0, "content"), "%%%", "boot[0].content", "base64"),
    (("files", 0, "path"), "etc/motd", "files[0].path", "absolute path"),
    (("files", 0, "path"), "/etc/../root/x", "files[0].path", "absolute path"),
    (("files", 0, "mode"), 644, "files[0].mode", "octal"),
    (("files", 0, "owner"), "a:b", "files[0].owner", "account"),
    (("metadata", "zone"), [], "metadata.zone", "not a string"),
    (("consoles", 0), "tty1", "consoles[0]", "serial terminal"),
    (("consoles", 0), "../ttyS0", "consoles[0]", "serial terminal"),
]


@pytest.mark.parametrize(("place", "value", "path", "said"), WRONG)
def test_a_wrong_item(place: tuple[Any, ...], value: Any, path: str, said: str) -> None:
    document = copy.deepcopy(drives.NATIVE)
    *above, last = place
    holder: Any = document
    for step in above:
        holder = holder[step]
    holder[last] = value
    reading = native.parse(document, None)
    assert reading.config is not None
    told = {problem.path: problem for problem in reading.problems}
    assert said in told[path].message + told[path].hint, told[path]
    assert reading.config.partial
    assert reading.config.hostname or path == "hostname"
    assert len(reading.config.nics) >= 3
    assert len(reading.config.users) == 3


def test_a_script_that_lost_an_argument_is_not_run() -> None:
    config, _ = read(scripts=[{"content": "x", "arguments": ["a", 5]}])
    assert not config.scripts


def test_a_plain_password_of_two_lines() -> None:
    reading = native.parse_files(drives.native(users=[{"name": "bob", "plain_password": "a\nroot:b"}]))
    assert [problem.path for problem in reading.problems] == ["users[0].plain_password"]
    assert reading.secrets == {}


def test_the_locale_and_the_sources_of_packages() -> None:
    archive = {"uri": "https://192.0.2.3/debian/", "security": "", "suite": "trixie"}
    proxy = "http://me:s%40cret@192.0.2.2:3128"
    config, problems = read(
        consoles=[], swap=None, locale="fr_FR.UTF-8", apt={"archive": archive, "proxy": proxy}
    )
    assert not problems
    assert config.system == System(
        locale="fr_FR.UTF-8",
        apt=Apt(
            proxies=(("http", proxy), ("https", proxy)),
            archive=Archive("https://192.0.2.3/debian", "", "trixie"),
        ),
    )
    assert load(dump(config)) == config
    for nothing in ({}, {"proxy": ""}, None):
        assert read(consoles=[], swap=None, apt=nothing)[0].system is None


PROXIES = Apt(proxies=(("http", "http://192.0.2.9"), ("https", "http://192.0.2.9")))


@pytest.mark.parametrize(
    ("apt", "path", "said"),
    [
        ({"archive": {"uri": "ftp://192.0.2.3/debian"}}, "apt.archive.uri", "mirror"),
        ({"archive": {"uri": "https://me:x@192.0.2.3/debian"}}, "apt.archive.uri", "auth.conf.d"),
        ({"archive": {"uri": "https://192.0.2.3/a b"}}, "apt.archive.uri", "mirror"),
        ({"archive": {"security": "https://192.0.2.3/s"}}, "apt.archive.uri", "missing"),
        ({"archive": {"uri": "https://192.0.2.3/debian", "suite": "a b"}}, "apt.archive.suite", "release"),
        ({"archive": {"uri": "https://192.0.2.3/debian", "key": "x"}}, "apt.archive.key", "unknown"),
        ({"proxy": "socks5h://192.0.2.2"}, "apt.proxy", "http://192.0.2.1:3128"),
        ({"proxy": 'http://192.0.2.2";}'}, "apt.proxy", "http://192.0.2.1:3128"),
        ({"proxy": "http://me@192.0.2.2"}, "apt.proxy", "http://192.0.2.1:3128"),
    ],
)
def test_a_wrong_source_costs_itself(apt: dict[str, Any], path: str, said: str) -> None:
    config, problems = read(apt={"proxy": "http://192.0.2.9"} | apt)
    (problem,) = problems
    assert problem.path == path
    assert said in problem.message + problem.hint
    assert config.system is not None
    assert config.system.apt == (PROXIES if "archive" in apt else None)


@pytest.mark.parametrize(
    ("written", "swap"),
    [
        ({}, SwapFile("/swap.img")),
        ({"size": "auto", "maxsize": "2G"}, SwapFile("/swap.img", None, 2 << 30)),
        ({"size": 1 << 20}, SwapFile("/swap.img", 1 << 20)),
        ({"size": 0}, None),
    ],
)
def test_a_swap_file(written: dict[str, object], swap: SwapFile | None) -> None:
    config, problems = read(swap=written, consoles=[])
    assert config.system == (System(swap=swap) if swap else None)
    assert not problems


@pytest.mark.parametrize("wrong", [{"size": "much"}, {"path": "swap"}, {"device": "/dev/vdb"}])
def test_a_swap_file_of_which_a_part_is_wrong_is_left_out(wrong: dict[str, object]) -> None:
    config, problems = read(swap={"size": "1G"} | wrong, consoles=[])
    assert config.system is None
    assert [problem.path for problem in problems] == [f"swap.{next(iter(wrong))}"]


@pytest.mark.parametrize("key", ["partition", "kind"])
def test_a_swap_partition_is_made_in_images_only(key: str) -> None:
    config, problems = read(swap={"size": "1G", key: "partition"}, consoles=[])
    assert config.system is None
    (problem,) = problems
    assert problem.path == f"swap.{key}"
    assert "made only in an image, by apply --image --swap" in problem.message


def test_consoles_are_named_once_and_bounded() -> None:
    config, problems = read(consoles=["/dev/ttyS0", "ttyS0", *(f"ttyS{n}" for n in range(20))], swap=None)
    assert config.system == System(consoles=tuple(f"ttyS{n}" for n in range(16)))
    assert [problem.path for problem in problems] == ["consoles"]


def test_no_version() -> None:
    _, problems = read(version=None)
    assert [problem.path for problem in problems] == ["version"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff"])
def test_no_document(content: bytes) -> None:
    reading = native.parse_files({"gandi.json": content})
    assert reading.config is None
    assert [problem.path for problem in reading.problems] == ["gandi.json"]
    assert native.parse_files({}).problems


def test_too_much_is_left_out() -> None:
    files = [{"path": f"/srv/{n}", "content": "x" * (4 << 20)} for n in range(3)]
    config, problems = read(files=files)
    assert [file.path for file in config.files] == ["/srv/0", "/srv/1"]
    assert {problem.path for problem in problems} == {"files[2]"}


def test_the_schema_follows_the_declaration() -> None:
    schema = json_schema.of_native()
    json.dumps(schema)
    assert schema["required"] == ["version"]
    assert schema["properties"]["version"] == {"type": "integer", "minimum": 1, "maximum": 1}
    assert set(schema["properties"]) == set(native.Document.__slots__)
    nic = schema["properties"]["nics"]["items"]
    assert nic["properties"]["kind"] == {"enum": [*Kind], "default": "physical"}
    assert nic["additionalProperties"] is False
    assert nic["properties"]["routes"]["items"]["required"] == ["to"]
    assert schema["properties"]["users"]["items"]["required"] == ["name"]
    assert schema["properties"]["files"]["items"]["properties"]["mode"]["type"] == "string"


def _agrees(schema: dict[str, Any], value: Any) -> bool:
    """Return whether a value has the types and keys of the schema."""
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool, "number": int}
    said = schema.get("type", [])
    allowed = tuple(kinds[kind] for kind in ([said] if isinstance(said, str) else said))
    if allowed and not isinstance(value, allowed):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    match value:
        case dict():
            inner, more = schema.get("properties", {}), schema.get("additionalProperties") or {}
            return set(schema.get("required", ())) <= set(value) and all(
                _agrees(inner.get(key, more), one) for key, one in value.items()
            )
        case list():
            return all(_agrees(schema["items"], one) for one in value)
    return True


def test_the_sample_agrees_with_the_schema() -> None:
    assert _agrees(json_schema.of_native(), drives.NATIVE)
    assert not _agrees(json_schema.of_native(), drives.NATIVE | {"nics": [{"kind": "team"}]})


def test_an_account_that_may_be_meant_as_locked_is_not_made_open() -> None:
    config, problems = read(users=[{"name": "bob", "locked": "perhaps"}, {"name": "eve"}])
    assert [user.name for user in config.users] == ["eve"]
    assert [problem.path for problem in problems] == ["users[0].locked"]


SEALED = "Whxqht+dQJax\nk6iUCUH0RK2l\n"


def test_a_password_and_a_files_content_may_be_sealed_and_stay_so() -> None:
    reading = native.parse_files(
        drives.native(
            users=[{"name": "bob", "plain_password": {"sealed": SEALED}}],
            files=[{"path": "/a", "content": {"sealed": SEALED}, "encoding": "base64"}],
        )
    )
    assert reading.config is not None
    assert not reading.problems
    (user,), (file,) = reading.config.users, reading.config.files
    assert user.sealed == SEALED.replace("\n", "")
    assert (file.sealed, reading.files[file.name]) == ("base64", user.sealed.encode())
    assert not reading.secrets, "nothing is open: the document is stored, and known by its digest"


@pytest.mark.parametrize(
    ("part", "path", "why"),
    [
        ({"hostname": {"sealed": "QUJD"}}, "hostname", "a sealed value is not taken here"),
        ({"users": [{"name": "a", "password": {"sealed": "QUJD"}}]}, "users[0].password", "a sealed value"),
        ({"scripts": [{"content": {"sealed": "QUJD"}}]}, "scripts[0].content", "a sealed value is not"),
        ({"users": [{"name": "a", "keys": [{"sealed": "QUJD"}]}]}, "users[0].keys[0]", "a sealed value"),
        ({"files": [{"path": "/a", "content": {"sealed": "?"}}]}, "files[0].content", "sealed, and not the"),
        ({"files": [{"path": "/a", "content": {"sealed": ""}}]}, "files[0].content", "sealed, and not the"),
        (
            {"files": [{"path": "/a", "content": {"sealed": "QUJD" * 400000}}]},
            "files[0].content",
            "sealed, and longer than 1572864 characters",
        ),
        ({"files": [{"path": "/a", "content": {"seal": "QUJD"}}]}, "files[0].content", "not a string"),
        (
            {"files": [{"path": "/a", "content": {"sealed": "QUJD"}, "append": True}]},
            "files[0]",
            "sealed content cannot be appended",
        ),
        (
            {"files": [{"path": "/a", "content": {"sealed": "QUJD"}}, {"path": "/a", "append": True}]},
            "files[1]",
            "its content is for the end of a sealed file",
        ),
    ],
)
def test_a_sealed_value_elsewhere_or_a_wrong_one_is_refused_by_name(
    part: dict[str, object], path: str, why: str
) -> None:
    reading = native.parse({"version": 1, "hostname": "h", **part}, None)
    (problem,) = reading.problems
    assert problem.path == path
    assert problem.message.startswith(why)
    assert problem.is_error
    assert problem.hint


def test_the_first_password_of_an_account_counts_also_if_it_is_sealed() -> None:
    users = [{"name": "a", "plain_password": {"sealed": "QUJD"}}, {"name": "a", "plain_password": "open"}]
    reading = native.parse({"version": 1, "users": users}, None)
    assert reading.config is not None
    assert reading.config.users[0].sealed == "QUJD"
