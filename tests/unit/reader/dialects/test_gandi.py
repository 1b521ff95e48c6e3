"""The Gandi dialect: an invalid item is left out and reported by its path, and the rest is applied."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import model
from agent.config.model import InstanceConfig, User
from agent.config.nics import Nic, Route
from agent.reader.common.problem import UNSUPPORTED, Problem
from agent.reader.dialects.gandi import parse, reading

HASH = "$y$j9T$abcdefghijklmnop$" + "a" * 43


def key(comment: str = "me", filler: bytes = b"\1") -> str:
    """Return a public key line as ssh-keygen writes it."""
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + filler * 32
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} {comment}"


DOCUMENT: dict[str, Any] = {
    "vm_hostname": "vm1",
    "nameservers": ["217.70.186.193", "2001:4b98:dc2:49::193"],
    "vif": [
        {
            "vif_number": 0,
            "pna": [
                {
                    "pna_address": "203.0.113.10",
                    "pbn": {"pbn_network": "203.0.113.0/24", "pbn_gateway": "203.0.113.254"},
                },
                {
                    "pna_address": "2001:db8::10",
                    "pbn": {"pbn_network": "2001:db8::/64", "pbn_gateway": "fe80::1"},
                },
            ],
        },
        {"vif_number": 1, "pna": [{"pna_address": "192.168.1.5", "pvn": {"pvn_network": "192.168.1.0/24"}}]},
    ],
    "vm_conf": {
        "user": "admin1",
        "password": HASH,
        "ssh_key": key(),
        "script_args": "a 'b c'",
        "run": "touch /x",
    },
}


def read(**changes: Any) -> tuple[InstanceConfig, dict[str, bytes], list[Problem]]:
    """Parse the document with these changes at their paths (``vif__0__pna__1``)."""
    document = copy.deepcopy(DOCUMENT)
    for path, value in changes.items():
        *above, last = path.split("__")
        place: Any = document
        for step in above:
            place = place[int(step)] if isinstance(place, list) else place[step]
        if isinstance(place, list):
            place[int(last)] = value
        else:
            place[last] = value
    return parse(document, b"#!/bin/sh\n")


def nics(*vifs: dict[str, Any]) -> tuple[Nic, ...]:
    config, _, problems = read(vif=list(vifs))
    assert not problems
    return config.nics


def vif(
    number: int, address: str, network: str = "", gateway: str = "", kind: str = "pbn"
) -> dict[str, Any]:
    inside = {f"{kind}_network": network, f"{kind}_gateway": gateway}
    return {"vif_number": number, "pna": [{"pna_address": address, kind: inside}]}


def test_the_whole_document() -> None:
    config, files, problems = read()
    assert not problems
    assert config.hostname == "vm1"
    assert config.nameservers == ("217.70.186.193", "2001:4b98:dc2:49::193")
    first, second = config.nics
    assert first.addresses == ("203.0.113.10/24", "2001:db8::10/64")
    assert first.routes == (Route("0.0.0.0/0", "203.0.113.254"), Route("::/0", "fe80::1", on_link=True))
    assert (first.accept_ra, first.ra_address, first.ra_dns, first.ra_gateway) == (True, False, False, False)
    assert second.addresses == ("192.168.1.5/24",)
    assert second.routes == ()
    assert config.users == (User("root", HASH, (key(),)), User("admin1", HASH, (key(),), admin=True))
    assert files == {"script": b"#!/bin/sh\n", "run": b"touch /x\n"}
    assert [(s.name, s.arguments) for s in config.scripts] == [("script", ("a", "b c")), ("run", ())]
    assert config.timezone is None
    assert model.load(model.dump(config)) == config


def test_private_wins_over_public() -> None:
    both = vif(0, "10.0.0.5", "203.0.113.0/24", "203.0.113.1")
    both["pna"][0]["pvn"] = {"pvn_network": "10.0.0.0/16"}
    (nic,) = nics(both)
    assert nic.addresses == ("10.0.0.5/16",)
    assert nic.routes == ()


@pytest.mark.parametrize(
    ("network", "prefix"), [("", 24), ("203.0.113.0", 24), ("203.0.113.0/28", 28), ("203.0.113.10/32", 32)]
)
def test_prefix(network: str, prefix: int) -> None:
    assert nics(vif(0, "203.0.113.10", network))[0].addresses == (f"203.0.113.10/{prefix}",)


@pytest.mark.parametrize(
    ("address", "network", "gateway", "on_link"),
    [
        ("203.0.113.10", "203.0.113.0/24", "203.0.113.1", False),
        ("203.0.113.10", "203.0.113.10/32", "203.0.113.1", True),
        ("203.0.113.10", "203.0.113.0/25", "203.0.113.254", True),
        ("203.0.113.10", "203.0.113.0/24", "169.254.1.1", True),
        ("2001:db8::10", "2001:db8::/64", "fe80::1", True),
        ("2001:db8::10", "2001:db8::/64", "2001:db8::1", False),
        ("2001:db8::10", "2001:db8::10/128", "2001:db8::1", True),
    ],
)
def test_on_link_gateways(address: str, network: str, gateway: str, on_link: bool) -> None:
    (nic,) = nics(vif(0, address, network, gateway))
    assert [(r.gateway, r.on_link) for r in nic.routes] == [(gateway, on_link)]


def test_a_default_route_over_each_public_nic_in_the_order_of_their_numbers() -> None:
    found = nics(
        vif(2, "203.0.113.10", "203.0.113.0/24", "203.0.113.1"),
        vif(1, "198.51.100.10", "198.51.100.0/24", "198.51.100.1"),
        vif(0, "10.0.0.5", "10.0.0.0/24", "10.0.0.1", kind="pvn"),
    )
    assert [nic.number for nic in found] == [0, 1, 2]
    assert [[r.gateway for r in nic.routes] for nic in found] == [[], ["198.51.100.1"], ["203.0.113.1"]]


def test_a_nic_has_one_default_route_of_a_family() -> None:
    (nic,) = nics(
        vif(0, "203.0.113.10", "203.0.113.0/24", "203.0.113.1")
        | {
            "pna": [
                *vif(0, "203.0.113.10", "203.0.113.0/24", "203.0.113.1")["pna"],
                *vif(0, "198.51.100.10", "198.51.100.0/24", "198.51.100.1")["pna"],
            ]
        }
    )
    assert [route.gateway for route in nic.routes] == ["203.0.113.1"]


def test_a_private_gateway_where_there_is_no_public_one() -> None:
    (nic,) = nics(vif(0, "10.0.0.5", "10.0.0.0/24", "10.0.0.1", kind="pvn"))
    assert nic.routes == (Route("0.0.0.0/0", "10.0.0.1"),)


@pytest.mark.parametrize(
    ("path", "value", "told", "said"),
    [
        ("vm_hostname", 5, "vm_hostname", "not a string"),
        ("vm_hostname", "", "vm_hostname", "missing"),
        ("vm_hostname", None, "vm_hostname", "missing"),
        ("vm_hostname", "a b", "vm_hostname", "not a host name"),
        ("vm_hostname", "../../etc", "vm_hostname", "not a host name"),
        ("vm_hostname", "vm1\n127.0.0.1 bank", "vm_hostname", "not a host name"),
        ("vm_hostname", "x" * 70, "vm_hostname", "not a host name"),
        ("nameservers", {"a": 1}, "nameservers", "list"),
        ("nameservers__1", "nine", "nameservers[1]", "not an IP address"),
        ("nameservers__0", 3, "nameservers[0]", "not an IP address"),
        ("vif", {"a": 1}, "vif", "list"),
        ("vif__0", 5, "vif[0]", "dictionary"),
        ("vif__1__vif_number", "one", "vif[1].vif_number", "whole number"),
        ("vif__1__vif_number", True, "vif[1].vif_number", "whole number"),
        ("vif__1__vif_number", -1, "vif[1].vif_number", "whole number"),
        ("vif__1__vif_number", 0, "vif[1].vif_number", "twice"),
        ("vif__0__vif_mac", "no", "vif[0].vif_mac", "MAC"),
        ("vif__0__pna", "x", "vif[0].pna", "list"),
        ("vif__0__pna__1", {}, "vif[0].pna[1].pna_address", "missing"),
        ("vif__0__pna__1__pna_address", "fe80::1%eth0", "vif[0].pna[1].pna_address", "address"),
        ("vif__0__pna__1__pna_address", "0.0.0.0", "vif[0].pna[1].pna_address", "not the address of a host"),
        ("vif__0__pna__0__pna_address", "203.0.113.10/24", "vif[0].pna[0].pna_address", "not an IP address"),
        ("vif__0__pna__0__pbn__pbn_network", "203.0.113.0/99", "vif[0].pna[0].pbn.pbn_network", "CIDR"),
        ("vif__0__pna__0__pbn__pbn_network", "2001:db8::/64", "vif[0].pna[0].pbn.pbn_network", "IPv4"),
        ("vif__0__pna__0__pbn__pbn_gateway", "router", "vif[0].pna[0].pbn.pbn_gateway", "not an IP address"),
        ("vif__0__pna__0__pbn__pbn_gateway", "fe80::1", "vif[0].pna[0].pbn.pbn_gateway", "IPv4"),
        ("vif__0__pna__0__pbn__pbn_gateway", "203.0.113.10", "vif[0].pna[0].pbn.pbn_gateway", "itself"),
        ("vm_conf", [], "vm_conf", "dictionary"),
        ("vm_conf__user", "Root User", "vm_conf.user", "useradd"),
        ("vm_conf__user", "a:0:0", "vm_conf.user", "useradd"),
        ("vm_conf__user", "-rf", "vm_conf.user", "useradd"),
        ("vm_conf__user", "u" * 33, "vm_conf.user", "useradd"),
        ("vm_conf__user", 0, "vm_conf.user", "not a string"),
        ("vm_conf__password", "hunter2", "vm_conf.password", "crypt(3)"),
        ("vm_conf__password", "$6$a$b:0:0:root", "vm_conf.password", "crypt(3)"),
        ("vm_conf__password", "$6$a$b\nroot::", "vm_conf.password", "crypt(3)"),
        ("vm_conf__password", "!", "vm_conf.password", "crypt(3)"),
        ("vm_conf__password", "*", "vm_conf.password", "crypt(3)"),
        ("vm_conf__ssh_key", 5, "vm_conf.ssh_key", "not a string"),
        ("vm_conf__ssh_key", f"{key()}\nssh-rsa AAAA me", "vm_conf.ssh_key line 2", "base64|cut short"),
        (
            "vm_conf__ssh_key",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            "vm_conf.ssh_key line 1",
            "not an OpenSSH",
        ),
        ("vm_conf__script_args", "'open", "vm_conf.script_args", "no closing quotation"),
        ("vm_conf__run", ["a"], "vm_conf.run", "not a string"),
        ("vm_conf__run", "a\0b", "vm_conf.run", "NUL"),
        ("vm_conf__run", "\ud800", "vm_conf.run", "surrogate"),
    ],
)
def test_a_bad_item_is_named_and_left_out(path: str, value: Any, told: str, said: str) -> None:
    config, _, problems = read(**{path: value})
    assert [p.path for p in problems] == [told]
    assert any(part in problems[0].message for part in said.split("|")), problems[0].message
    assert problems[0].hint
    assert not problems[0].harmless
    assert config.partial
    good, _, _ = read()
    same = [
        getattr(config, name) == getattr(good, name)
        for name in ("hostname", "nameservers", "nics", "users", "scripts")
    ]
    assert same.count(False) <= (2 if path == "vm_conf" else 1), "nothing but the bad item's part differs"


@pytest.mark.parametrize("arguments", ["'open", 5, ["a"]])
def test_a_script_whose_arguments_cannot_be_read_is_not_run(arguments: Any) -> None:
    config, files, _ = read(vm_conf__script_args=arguments)
    assert [script.name for script in config.scripts] == ["run"]
    assert set(files) == {"run"}


@pytest.mark.parametrize(
    ("path", "value", "told", "hint"),
    [
        ("vm_hostnme", "x", "vm_hostnme", "did you mean vm_hostname?"),
        ("vif__0__qos", {"a": [1]}, "vif[].qos", "remove it"),
        ("vm_conf__pasword", "hunter2", "vm_conf.pasword", "did you mean password?"),
        ("vif__0__pna__0__pbn__pbn_vlan", 7, "vif[].pna[].pbn.pbn_vlan", ""),
    ],
)
def test_unknown_keys_cost_nothing_else(path: str, value: Any, told: str, hint: str) -> None:
    config, _, problems = read(**{path: value})
    assert config == read()[0]
    assert [(p.path, p.severity) for p in problems] == [(told, UNSUPPORTED)]
    assert hint in problems[0].hint


def test_missing_parts() -> None:
    config, files, problems = parse({}, None)
    assert [p.path for p in problems] == ["vm_hostname", "vif"]
    assert (config.hostname, config.nics, config.users, config.scripts, files) == (None, (), (), (), {})


@pytest.mark.parametrize("document", [{}, {"theme": "dark"}, {"VM_HOSTNAME": "vm1"}], ids=str)
def test_a_document_without_any_key_of_the_format_is_none(document: dict[str, Any]) -> None:
    """A backup of a folder gandi may contain a file config; its disk would be wiped."""
    found = reading(document, b"#!/bin/sh\n")
    assert (found.config, found.files) == (None, {})
    assert [(problem.path, problem.harmless) for problem in found.problems] == [("gandi/config", False)]


def test_a_numeric_string_is_a_number() -> None:
    config, _, problems = read(vif__1__vif_number="1")
    assert not problems
    assert config == read()[0]


def test_empty_means_not_given() -> None:
    conf = dict.fromkeys(("user", "password", "ssh_key", "run", "script_args"), "")
    config, files, problems = read(vm_conf=conf)
    assert not problems
    assert config.users == ()
    assert files == {"script": b"#!/bin/sh\n"}


def test_each_key_once_and_options_kept() -> None:
    option = f'command="echo \\"a b\\"",no-pty {key(filler=bytes([2]))}'
    lines = f"# mine\n{key('one')}\r\n\n{key('two')}\n{option}\n"
    config, _, problems = read(vm_conf__ssh_key=lines)
    assert not problems
    assert config.users[0].keys == (key("one"), option)


def test_root_is_one_account() -> None:
    config, _, _ = read(vm_conf__user="root")
    assert config.users == (User("root", HASH, (key(),)),)


def test_a_programs_digest_follows_its_content_and_arguments() -> None:
    one = read()[0].scripts
    assert one == read()[0].scripts
    assert one[0].digest != read(vm_conf__script_args="a b")[0].scripts[0].digest
    assert one[1].digest != read(vm_conf__run="touch /y")[0].scripts[1].digest


def test_no_problem_quotes_a_value() -> None:
    secret = "s3cr3t-value"
    document = {
        "vm_hostname": secret + " ",
        "vif": [{"vif_number": secret, "vif_mac": secret, "pna": [{"pna_address": secret}, secret]}],
        "nameservers": [secret],
        "vm_conf": {
            "user": secret + "!",
            "password": secret,
            "ssh_key": secret,
            "script_args": f"'{secret}",
        },
    }
    document["vm_hostname"] = f"{secret} {secret}"
    _, _, problems = parse(document, b"x")
    assert len(problems) >= 9
    assert not [p for p in problems if secret in f"{p}"]


def test_problems_are_bounded() -> None:
    _, _, problems = parse({"vm_hostname": "a", "vif": [], "nameservers": ["x"] * 10_000}, None)
    assert len(problems) == 51
    assert "9950 more" in problems[-1].message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
PLACES = [
    *("vm_hostname", "nameservers", "nameservers__0", "vif", "vif__0", "vif__0__vif_number", "vif__0__pna"),
    *("vif__0__pna__0", "vif__0__pna__0__pna_address", "vif__0__pna__0__pbn", "vif__1__pna__0__pvn"),
    *("vif__0__pna__0__pbn__pbn_network", "vif__0__pna__1__pbn__pbn_gateway", "vm_conf", "vif__0__vif_mac"),
]


@given(st.sampled_from(PLACES), JSON)
def test_anything_anywhere_gives_a_model(path: str, value: Any) -> None:
    config, files, problems = read(**{path: value})
    assert model.load(model.dump(config)) == config
    assert set(files) >= {s.name for s in config.scripts}
    json.dumps([p.message for p in problems])
    assert all(p.path.isprintable() for p in problems)
