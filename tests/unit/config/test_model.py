"""The configuration as a document, and back."""

from __future__ import annotations

import json

import pytest

from agent.config import model
from agent.config.model import (
    AccountOptions,
    File,
    Group,
    Identity,
    InstanceConfig,
    Naming,
    Script,
    Sshd,
    User,
)
from agent.config.nics import Bond, Kind, Nic, Route
from agent.config.system import System
from agent.lib.records import replace

CONFIG = InstanceConfig(
    identity=Identity("native", "vm-1"),
    hostname="vm1",
    nameservers=("192.0.2.53",),
    nics=(
        Nic(
            0,
            mac="02:00:00:00:00:01",
            addresses=("192.0.2.2/24",),
            routes=(Route("0.0.0.0/0", "192.0.2.1"),),
        ),
        Nic(1, name="bond0", kind=Kind.BOND, ports=(0,), bond=Bond(miimon=100), search=("example.org",)),
    ),
    users=(User("admin", "$6$x", ("ssh-ed25519 AAAA a",), admin=True, groups=("adm",), sudo=("ALL",)),),
    scripts=(Script("script", "00", ("a", "b")),),
    boot=(Script("boot", "01"),),
    files=(File("/etc/x", "x", "02", mode=0o600),),
    search=("example.com",),
    metadata=(("zone", "é"),),
    timezone="Europe/Paris",
    partial=True,
)


def test_a_document_and_its_bytes_are_the_same_configuration() -> None:
    document = model.to_dict(CONFIG)
    assert model.from_dict(document) == CONFIG, "without a detour by JSON"
    assert model.from_dict(json.loads(json.dumps(document))) == CONFIG
    assert model.load(model.dump(CONFIG)) == CONFIG
    assert json.loads(model.dump(CONFIG)) == json.loads(json.dumps(document))


def test_a_program_without_a_new_frequency_is_stored_as_before() -> None:
    once = model.program("once", b"", (), model.PER_ONCE)
    document = model.to_dict(replace(CONFIG, scripts=(*CONFIG.scripts, once)))
    assert ["frequency" in script for script in document["scripts"]] == [False, True]
    assert model.from_dict(document).scripts == (*CONFIG.scripts, once)
    assert once.digest == model.program("other", b"", (), model.PER_ONCE).digest, "whatever its name"


NEW = replace(
    CONFIG,
    users=(User("carol", options=AccountOptions(uid=1500, gecos="", lock="*")), User("dave")),
    groups=(Group("dev", ("carol",)), Group("ops")),
    deferred=(File("/y", "y", "03"),),
    naming=Naming("vm1.example.org", hosts="off"),
    sshd=Sshd(passwords=False, key_types=("rsa",), certificates=("/x",)),
    system=System(consoles=("ttyS0", "hvc0")),
)


def test_what_few_documents_deliver_is_stored_too() -> None:
    assert model.from_dict(model.to_dict(NEW)) == NEW
    assert model.load(model.dump(NEW)) == NEW


def test_a_document_without_it_is_stored_as_version_0_1_did() -> None:
    document = model.to_dict(CONFIG)
    assert not {"groups", "deferred", "naming", "sshd"} & document.keys()
    assert "options" not in document["users"][0]


def test_of_two_records_the_first_value_counts() -> None:
    one, other = AccountOptions(uid=1, gecos="a"), AccountOptions(uid=2, home="/x")
    assert model.merge_parts(one, other) == AccountOptions(uid=1, home="/x", gecos="a")
    assert model.merge_parts(None, other) == model.merge_parts(other, None) == other


def test_what_is_read_stays_as_it_was() -> None:
    document = model.to_dict(CONFIG)
    model.from_dict(document)
    assert document == model.to_dict(CONFIG)


def test_a_document_that_is_nested_too_deeply() -> None:
    with pytest.raises(ValueError, match="damaged document: nested too deeply"):
        model.load(b"[" * 200_000)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": model.VERSION + 1}, "written by a newer agent"),
        ({"nics": [{"number": 0}]}, "damaged document"),
        ({"colour": "blue"}, "damaged document"),
        ({"identity": None}, "damaged document"),
        ({"identity": {"source": 1}}, "damaged document"),
        ({"users": None}, "damaged document"),
        ({"users": [{"name": 5}]}, "damaged document"),
        ({"files": [None]}, "damaged document"),
        ({"hostname": ["vm1"]}, "damaged document"),
        ({"metadata": [["key"]]}, "damaged document"),
        ({"partial": "yes"}, "damaged document"),
    ],
)
def test_a_document_that_no_agent_of_this_version_wrote(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        model.from_dict(model.to_dict(CONFIG) | change)
