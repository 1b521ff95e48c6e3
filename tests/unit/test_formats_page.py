"""docs/formats.md says of each key what the readers do with it, and has every documented key."""

from __future__ import annotations

import pytest

from tests import corpus, formats_page
from tests.corpus import outcome
from tests.formats_page import ANY_OTHER, DOCUMENTED, HANDLED, REFUSED, UNSUPPORTED, Block, plain

PAGE = formats_page.PAGE.read_text()
PARTS = formats_page.parts()
BLOCKS = [block for _, block in formats_page.blocks(PAGE)]
TABLES = [block for block in BLOCKS if block.kind == "part"]
REMEDY = "make the tables again: python -m tests.formats_page"
#: A part of a message for each type of user data.
USER_DATA = {
    "text/cloud-config-archive": '- {type: text/cloud-config, content: "hostname: vm7"}',
    "text/cloud-config": "hostname: vm7",
    "text/jinja2": "## template: jinja\n#cloud-config\nhostname: {{ instance_id }}",
    "text/x-include-url": "http://192.0.2.1/",
    "text/x-include-once-url": "http://192.0.2.1/",
    "text/cloud-config-jsonp": '[{"op": "add", "path": "/hostname", "value": "vm7"}]',
}
SCRIPT = "#!/bin/sh\necho corpus"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB me"
METADATA = {"public-keys": KEY, "local-ipv4": "192.0.2.10", "public-ipv4": "192.0.2.10"}


def _under(name: str) -> list[Block]:
    """Return the tables of the page in which the documented keys of that name are."""
    return [block for block in BLOCKS if block.documented == name]


def _becomes(name: str) -> dict[str, str]:
    return {plain(row.key): row.becomes for block in _under(name) for row in block.rows}


def test_every_part_has_one_table() -> None:
    names = [block.name for block in TABLES]
    assert sorted(names) == sorted(set(names))
    assert set(names) == set(PARTS), REMEDY


@pytest.mark.parametrize("block", TABLES, ids=lambda one: one.name.removeprefix("agent.reader."))
def test_a_table_says_what_the_code_does(block: Block) -> None:
    given = {plain(row.key): row for row in block.rows}
    assert list(block.rows) == formats_page.rows(PARTS[block.name], block.documented, given), REMEDY
    assert all(row.note for row in block.rows if row.becomes != HANDLED and row.key != ANY_OTHER)


def test_the_page_is_as_it_is_written() -> None:
    assert formats_page.written(PAGE) == PAGE, REMEDY


def test_what_the_page_calls_documented_is_known() -> None:
    assert {block.name for block in BLOCKS if block.kind == "documented"} <= set(DOCUMENTED)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_documented_key_is_in_a_table(name: str) -> None:
    """Those of a part that is not handled need none."""
    if not _under(name):
        above, _, key = name.partition(" (")[0].rpartition(".")
        assert _becomes(above).get(plain(key), HANDLED) != HANDLED, f"no table for the keys of {name}"
        return
    missing = {plain(key) for key in DOCUMENTED[name]} - set(_becomes(name))
    assert not missing, name


@pytest.mark.parametrize("kind", DOCUMENTED["user-data"])
def test_a_type_of_user_data_is_treated_as_the_page_says(kind: str) -> None:
    message = f"Content-Type: {kind}\nMIME-Version: 1.0\n\n{USER_DATA.get(kind, SCRIPT)}\n"
    drive = {"meta-data": corpus.META_DATA, "user-data": message.encode()}
    problems = [one for one in outcome.read("nocloud", drive).problems if not one.harmless]
    lost = REFUSED if any(one.is_error for one in problems) else UNSUPPORTED
    assert _becomes("user-data")[plain(kind)] == (lost if problems else HANDLED), problems


@pytest.mark.parametrize("name", DOCUMENTED["cloudstack"])
def test_a_file_of_cloudstack_is_used_as_the_page_says(name: str) -> None:
    others = {"cloudstack/metadata/hypervisor-host-name.txt": b"host7"}
    if name == "hypervisor-host-name":
        others = {"cloudstack/metadata/instance-id.txt": b"i-1"}
    drive = others | {f"cloudstack/metadata/{name}.txt": METADATA.get(name, "vm7").encode()}
    is_used = outcome.read("cloudstack", drive).config != outcome.read("cloudstack", others).config
    assert is_used
    assert _becomes("cloudstack")[plain(name)] == HANDLED
