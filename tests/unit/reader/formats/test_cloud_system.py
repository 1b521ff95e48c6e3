"""The keys of #cloud-config about the system: each into the model, each wrong value for itself alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.config import model
from agent.config.system import (
    Apt,
    AptSource,
    CaCerts,
    Filesystem,
    Keyboard,
    Mount,
    Ntp,
    Package,
    Packages,
    PhoneHome,
    Power,
    SwapFile,
    System,
    merged,
)
from agent.reader.common.merge import Draft
from agent.reader.common.problem import ERROR, HARMLESS, UNSUPPORTED
from agent.reader.common.result import Reading
from agent.reader.formats import cloud_system, cloud_unhandled, user_data, yaml_events
from agent.reader.formats.cloud_system_values import POSTED

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
ARMORED = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQ==\n-----END PGP PUBLIC KEY BLOCK-----\n"


@pytest.fixture(autouse=True, scope="module")
def library() -> None:
    yaml_events.load()


def read(vendor: dict[str, Any] | None = None, **document: Any) -> tuple[System | None, Reading]:
    """Return what the document says of the system, as it comes back from the stored configuration."""
    draft = Draft("test")
    user_data.read(b"#cloud-config\n" + json.dumps(document).encode(), "user-data", draft)
    if vendor:
        raw = b"#cloud-config\n" + json.dumps(vendor).encode()
        user_data.read(raw, "vendor-data", draft, vendor=True)
    reading = draft.reading()
    assert reading.config is not None
    stored = model.load(model.dump(reading.config))
    assert stored == reading.config
    return stored.system, reading


#: Documents with nothing wrong, and what they mean.
SAMPLES: dict[str, tuple[dict[str, Any], System | None]] = {
    "locale": ({"locale": "fr_FR.UTF-8"}, System(locale="fr_FR.UTF-8")),
    "no locale": ({"locale": False}, None),
    "keyboard": (
        {"keyboard": {"layout": "fr", "variant": "latin9", "options": "compose:rwin"}},
        System(keyboard=Keyboard("fr", "pc105", "latin9", "compose:rwin")),
    ),
    "ntp": (
        {"ntp": {"servers": ["192.0.2.1", "2001:DB8::1"], "pools": "pool.example.org", "enabled": True}},
        System(ntp=Ntp(("192.0.2.1", "2001:db8::1"), ("pool.example.org",))),
    ),
    "ntp with a client": (
        {"ntp": {"ntp_client": "chrony", "servers": ["a.example.org"]}},
        System(ntp=Ntp(("a.example.org",), client="chrony")),
    ),
    "ntp off": ({"ntp": {"enabled": False, "servers": ["192.0.2.1"]}}, None),
    "certificates": (
        {"ca-certs": {"trusted": [PEM], "remove-defaults": True}},
        System(ca_certs=CaCerts((PEM,), remove_defaults=True)),
    ),
    "packages": (
        {
            "packages": ["nginx", ["curl", "8.1-2"], {"apt": ["jq", ["vim", 9]]}],
            "package_update": True,
            "package_reboot_if_required": True,
        },
        System(
            packages=Packages(
                (
                    Package("nginx"),
                    Package("curl", "8.1-2"),
                    Package("jq", manager="apt"),
                    Package("vim", "9", "apt"),
                ),
                update=True,
                reboot=True,
            )
        ),
    ),
    "one package": ({"packages": "nginx"}, System(packages=Packages((Package("nginx"),)))),
    "an upgrade by its former name": ({"apt_upgrade": True}, System(packages=Packages(upgrade=True))),
    "apt": (
        {
            "apt": {
                "sources": {
                    "one.list": {
                        "source": "deb [arch=amd64] http://192.0.2.1/d $RELEASE main",
                        "key": ARMORED,
                    },
                    "two": {"source": "deb http://192.0.2.1/e ./", "filename": "/etc/x/my two.list"},
                },
                "http_proxy": "http://192.0.2.2:3128",
                "conf": 'APT::Install-Recommends "0";',
                "preserve_sources_list": True,
            }
        },
        System(
            apt=Apt(
                (
                    AptSource("one", "deb [arch=amd64] http://192.0.2.1/d $RELEASE main", ARMORED),
                    AptSource("my-two", "deb http://192.0.2.1/e ./"),
                ),
                (("http", "http://192.0.2.2:3128"),),
                'APT::Install-Recommends "0";',
            )
        ),
    ),
    "mirrors": (
        {
            "apt": {
                "primary": [{"arches": ["default"], "uri": "http://192.0.2.3/debian"}],
                "security": [{"uri": "http://192.0.2.3/security"}],
            }
        },
        System(
            apt=Apt(
                mirrors=(
                    ("primary", "http://192.0.2.3/debian"),
                    ("security", "http://192.0.2.3/security"),
                )
            )
        ),
    ),
    "filesystems": (
        {
            "fs_setup": [
                {"device": "vdb", "filesystem": "ext4", "label": "data", "partition": "none"},
                {"device": "/dev/disk/by-id/x", "filesystem": "xfs", "partition": 1, "overwrite": True},
            ]
        },
        System(
            filesystems=(
                Filesystem("/dev/vdb", "ext4", "data"),
                Filesystem("/dev/disk/by-id/x", "xfs", "", "1", overwrite=True),
            )
        ),
    ),
    "mounts": (
        {"mounts": [["vdb", "/data"], ["UUID=1-2", "/srv/b", "ext4", "ro", 0, 2], ["h:/x", "/n", "nfs"]]},
        System(
            mounts=(
                Mount("/dev/vdb", "/data"),
                Mount("UUID=1-2", "/srv/b", "ext4", "ro", 0, 2),
                Mount("h:/x", "/n", "nfs"),
            )
        ),
    ),
    "mounts with defaults": (
        {"mounts": [["/dev/vdb", "/d", None, "ro"]], "mount_default_fields": ["xfs", None, "0", "2"]},
        System(mounts=(Mount("/dev/vdb", "/d", "xfs", "ro", 0, 2),)),
    ),
    "mounts with all default fields": (
        {
            "mounts": [["/dev/vdb", "/d", "ext4"], ["/dev/vdc", "/e", None, None, 1]],
            "mount_default_fields": [None, None, "xfs", "ro", "0", 2],
        },
        System(
            mounts=(Mount("/dev/vdb", "/d", "ext4", "ro", 0, 2), Mount("/dev/vdc", "/e", "xfs", "ro", 1, 2))
        ),
    ),
    "former and current names": (
        {"apt_update": True, "package_update": False, "apt_upgrade": False, "package_upgrade": True},
        System(packages=Packages((), update=True, upgrade=True)),
    ),
    "swap": (
        {"swap": {"filename": "/swap.img", "size": "auto", "maxsize": "2G"}},
        System(swap=SwapFile("/swap.img", None, 2 << 30)),
    ),
    "no swap": ({"swap": {"filename": "/swap.img", "size": 0}}, None),
    "power": (
        {"power_state": {"mode": "reboot", "delay": "+5", "timeout": 10, "condition": "test -e /x"}},
        System(power=Power("reboot", 5, "", 10, ("/bin/sh", "-c", "test -e /x"))),
    ),
    "power without a condition": (
        {"power_state": {"mode": "poweroff", "delay": "now", "condition": True, "message": "bye"}},
        System(power=Power("poweroff", message="bye")),
    ),
    "power that is never meant": (
        {"power_state": {"mode": "halt", "condition": False}},
        System(power=Power("halt", condition=("false",))),
    ),
    "phone home": (
        {"phone_home": {"url": "http://192.0.2.1/$INSTANCE_ID"}},
        System(phone_home=PhoneHome("http://192.0.2.1/$INSTANCE_ID", POSTED, 10)),
    ),
    "phone home, some of it": (
        {"phone_home": {"url": "https://a.test?x", "post": ["pub_key_dsa", "fqdn", "fqdn"], "tries": "3"}},
        System(phone_home=PhoneHome("https://a.test?x", ("fqdn",), 3)),
    ),
    "phone home in words": (
        {"phone_home": {"url": "https://a.test/", "post": "hostname, instance_id", "tries": None}},
        System(phone_home=PhoneHome("https://a.test/", ("hostname", "instance_id"), 10)),
    ),
    "final message": ({"final_message": "up $UPTIME\n"}, System(final_message="up $UPTIME")),
    "growpart off": ({"growpart": {"mode": False}}, System(grow_root=False)),
    "growpart of no device": ({"growpart": {"devices": []}}, System(grow_root=False)),
    "growpart": ({"growpart": {"mode": "auto", "devices": ["/"], "ignore_growroot_disabled": False}}, None),
    "not resized": ({"resize_rootfs": False}, System(grow_root=False)),
    "resized": ({"resize_rootfs": "noblock"}, None),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_what_a_document_says(name: str) -> None:
    document, meant = SAMPLES[name]
    found, reading = read(**document)
    assert [problem for problem in reading.problems if not problem.harmless] == []
    assert found == meant


def _without_each_leaf(value: Any) -> Any:
    """Yield the document without one of its values, each in turn."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            less = {**value} if isinstance(value, dict) else [*value]
            if isinstance(value[key], dict | list) and value[key]:
                for inner in _without_each_leaf(value[key]):
                    less[key] = inner
                    yield {**less} if isinstance(less, dict) else [*less]
            else:
                del less[key]
                yield less


#: Values that are the default, or that another value of the sample makes superfluous.
SUPERFLUOUS = {
    "no locale": 1,
    "former and current names": 2,
    "ntp": 1,
    "ntp off": 1,
    "no swap": 1,
    "filesystems": 1,
    "mirrors": 1,
    "power without a condition": 2,
    "power that is never meant": 0,
    "growpart": 1,
    "resized": 1,
    "swap": 1,
    "phone home, some of it": 3,
    "phone home in words": 1,
}


@pytest.mark.parametrize("name", SAMPLES)
def test_no_value_is_lost(name: str) -> None:
    document, meant = SAMPLES[name]
    _, whole = read(**document)
    same = []
    for less in _without_each_leaf(document):
        found, reading = read(**less)
        if found == meant and reading.problems == whole.problems:
            same.append(less)
    assert len(same) == SUPERFLUOUS.get(name, 0), same


@pytest.mark.parametrize(
    ("document", "path", "said", "left"),
    [
        ({"locale": "/etc"}, "locale", "not a locale", None),
        ({"phone_home": {"url": "ftp://192.0.2.1/"}}, "phone_home.url", "not a URL", None),
        ({"phone_home": {"post": "all"}}, "phone_home.url", "missing", None),
        ({"phone_home": {"url": "http://a/", "post": ["fqdn", "x"]}}, "phone_home.post", "known word", None),
        ({"phone_home": {"url": "http://a/", "header": "x"}}, "phone_home.header", "left out", None),
        ({"keyboard": {"model": "pc104"}}, "keyboard.layout", "missing", None),
        ({"keyboard": {"layout": "f r"}}, "keyboard.layout", "xkeyboard-config", None),
        (
            {"ntp": {"servers": ["a b", "192.0.2.1"]}},
            "ntp.servers[0]",
            "not a host name",
            System(ntp=Ntp(("192.0.2.1",))),
        ),
        ({"ntp": {"servers": ["192.0.2.1"], "peers": ["x"]}}, "ntp.peers", "left out", None),
        ({"ntp": {"servers": ["192.0.2.1"], "ntp_client": "ntpd"}}, "ntp.ntp_client", "known word", None),
        (
            {"ca_certs": {"trusted": ["x", PEM]}},
            "ca_certs.trusted[0]",
            "PEM",
            System(ca_certs=CaCerts((PEM,))),
        ),
        (
            {"packages": ["-o", "a"]},
            "packages[0]",
            "not a package",
            System(packages=Packages((Package("a"),))),
        ),
        ({"packages": [{"snap": ["x"]}]}, "packages[0]", "other than apt", None),
        (
            {"packages": [{"apt": ["a", "b c"]}]},
            "packages[1]",
            "not a package",
            System(packages=Packages((Package("a", manager="apt"),))),
        ),
        ({"apt": {"sources": {"x": {"source": "ppa:a/b"}}}}, "apt.sources.x.source", "PPA", None),
        ({"apt": {"sources": {"x": {"source": "http://x"}}}}, "apt.sources.x.source", "sources.list", None),
        (
            {"apt": {"sources": {"x": {"source": "deb http://x ./", "keyid": "1"}}}},
            "apt.sources.x.keyid",
            "not fetched",
            None,
        ),
        ({"apt": {"primary": [{"search": ["http://x"]}]}}, "apt.primary[0].search", "no list", None),
        (
            {"apt": {"security": [{"arches": ["arm64"], "uri": "http://x/y"}]}},
            "apt.security[0].arches",
            "some architectures",
            None,
        ),
        ({"apt": {"proxy": "x y"}}, "apt.proxy", "proxy", None),
        ({"mounts": [["ephemeral0", "/d"]]}, "mounts[0]", "metadata service", None),
        ({"mounts": [["vdb", None]]}, "mounts[0]", "removes an entry", None),
        ({"mounts": [["vdb", "/"]]}, "mounts[0]", "not an absolute path", None),
        ({"mounts": [["vdb", "/d", "ext4", "a b"]]}, "mounts[0]", "blanks", None),
        ({"mounts": [["vdb", "/d", "ext4", "ro", "x"]]}, "mounts[0]", "not numbers", None),
        ({"apt": {"sources": {"": {"source": "deb http://x a b"}}}}, "apt.sources", "without a name", None),
        ({"apt": {"sources": {"x": {"filename": "x"}}}}, "apt.sources.x", "no source and no key", None),
        (
            {"fs_setup": [{"device": "vdb", "filesystem": "ext4", "overwrite": True}]},
            "fs_setup[0]",
            "another name",
            None,
        ),
        (
            {"fs_setup": [{"device": "vdb", "filesystem": "ext4", "cmd": "mkfs"}]},
            "fs_setup[0].cmd",
            "no other command",
            None,
        ),
        (
            {"fs_setup": [{"device": "ephemeral0", "filesystem": "ext4"}]},
            "fs_setup[0].device",
            "metadata",
            None,
        ),
        (
            {"fs_setup": [{"device": "vdb", "filesystem": "ext4", "partition": "auto"}]},
            "fs_setup[0].partition",
            "searched",
            None,
        ),
        (
            {"fs_setup": [{"device": "vdb", "filesystem": "swap"}]},
            "fs_setup[0].filesystem",
            "made swap",
            None,
        ),
        ({"swap": {"filename": "swap", "size": 1}}, "swap.filename", "absolute", None),
        ({"swap": {"filename": "/swap"}}, "swap.size", "missing", None),
        ({"keyboard": {"layout": ""}}, "keyboard.layout", "empty", None),
        ({"swap": {"filename": "/s", "size": "big"}}, "swap.size", "not a size", None),
        ({"power_state": {"mode": "sleep"}}, "power_state.mode", "known word", None),
        ({"power_state": {"mode": "reboot", "delay": "noon"}}, "power_state.delay", "not a delay", None),
        ({"power_state": {"mode": "reboot", "condition": []}}, "power_state.condition", "empty", None),
        ({"final_message": "## template: jinja\n{{ version }}"}, "final_message", "template", None),
        ({"growpart": {"devices": ["/dev/vdb1"]}}, "growpart.devices[0]", "only /", System(grow_root=False)),
    ],
)
def test_a_wrong_value(document: dict[str, Any], path: str, said: str, left: System | None) -> None:
    found, reading = read(**document)
    told = {problem.path: problem for problem in reading.problems}
    assert said in told[f"user-data: {path}"].message, told
    assert told[f"user-data: {path}"].severity == ERROR
    assert told[f"user-data: {path}"].hint
    assert found == left


@pytest.mark.parametrize("key", sorted(cloud_unhandled.REFUSED))
def test_a_key_that_is_refused_is_named(key: str) -> None:
    found, reading = read(hostname="vm1", **{key.replace("_", "-"): {"a": 1}})
    (problem,) = reading.problems
    assert (problem.severity, problem.path) == (UNSUPPORTED, f"user-data: {key.replace('_', '-')}")
    assert cloud_unhandled.REFUSED[key] in problem.message
    assert found is None
    assert reading.config is not None
    assert reading.config.hostname == "vm1"


@pytest.mark.parametrize("key", sorted(cloud_unhandled.HARMLESS))
def test_a_key_without_effect_is_named(key: str) -> None:
    given: dict[str, Any] = {key: 1}
    _, reading = read(**given)
    assert [problem.severity for problem in reading.problems] == [HARMLESS]


def test_vendor_data_add_what_the_user_data_do_not_say() -> None:
    vendor = {"ntp": {"servers": ["192.0.2.9"], "pools": ["p.example.org"]}, "locale": "de_DE.UTF-8"}
    found, _ = read(vendor, ntp={"servers": ["192.0.2.1"]})
    assert found == System(locale="de_DE.UTF-8", ntp=Ntp(("192.0.2.1",), ("p.example.org",)))


def test_vendor_data_that_the_user_data_switch_off() -> None:
    found, reading = read({"locale": "de_DE.UTF-8"}, vendor_data={"enabled": False})
    assert found is None
    assert [(p.path, p.severity) for p in reading.problems] == [("vendor-data", HARMLESS)]


def test_what_is_too_large_is_left_out() -> None:
    body = "QUJD" * 15_000
    many = [PEM.replace("MIIB", f"{body}{n:04}") for n in range(20)]
    found, reading = read(locale="fr_FR.UTF-8", ca_certs={"trusted": many})
    assert found is None
    assert [p.message for p in reading.problems] == [
        f"packages, certificates and mounts of more than {cloud_system._ALL} bytes in all: left out"
    ]


def test_a_document_without_these_keys_is_stored_as_before() -> None:
    _, reading = read(hostname="vm1")
    assert reading.config is not None
    assert "system" not in model.to_dict(reading.config)
    assert merged(None, System(locale="C")) == System(locale="C")
