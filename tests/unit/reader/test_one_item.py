"""In each dialect one invalid key or password of a list, or one invalid byte, affects nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.reader.common.result import Reading
from agent.reader.dialects import cloudstack, gandi, native, nocloud, openstack
from agent.reader.formats import yaml_events
from tests.unit.reader import drives
from tests.unit.reader.dialects.test_gandi import key

#: A key that key() does not make.
TWO = key("two").replace("AQEB", "AgIC")
ODD = ["no key", 5, {"a": "b"}, ["c"], None, "\udce9", "a\0b", "\x01"]


def _keys(reading: Reading) -> list[str]:
    assert reading.config is not None
    return [line for user in reading.config.users for line in user.keys]


def _nocloud(**documents: str) -> Reading:
    yaml_events.load()
    files = {
        name.replace("_", "-"): text.encode("utf-8", "surrogateescape") for name, text in documents.items()
    }
    return nocloud.parse_files({"meta-data": b"instance-id: i-1\n"} | files)


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_a_wrong_item_in_a_list_of_keys(odd: Any) -> None:
    listed = json.dumps([key("one"), odd, TWO]).replace(r"\udce9", "\udce9")
    for reading in (
        _nocloud(user_data=f'#cloud-config\n{{"ssh_authorized_keys": {listed}}}'),
        _nocloud(
            user_data=f'#cloud-config\n{{"users": [{{"name": "bob", "ssh_authorized_keys": {listed}}}]}}'
        ),
        _nocloud(meta_data=f'{{"instance-id": "i-1", "public-keys": {listed}}}'),
    ):
        assert _keys(reading) == [key("one"), TWO]
        assert len(reading.problems) == (odd is not None)


@pytest.mark.parametrize("odd", [one for one in ODD if isinstance(one, str)], ids=ascii)
def test_a_wrong_line_in_a_text_of_keys(odd: str) -> None:
    text = json.dumps("\n".join((key("one"), odd, TWO)))
    document = f'{{"vm_hostname": "vm1", "vif": [], "vm_conf": {{"user": "root", "ssh_key": {text}}}}}'
    metadata = f'{{"uuid": "i-1", "public_keys": {{"a": {text}}}}}'
    for reading in (
        gandi.parse_files({"gandi/config": document.encode()}),
        openstack.parse_files({"openstack/latest/meta_data.json": metadata.encode()}),
    ):
        assert _keys(reading) == [key("one"), TWO]
        assert len(reading.problems) == 1


def test_a_comment_in_latin_1() -> None:
    """In the comment of a key, or in a comment of the document."""
    lines = f"{key('one')}\n{TWO} Andr\udce9\n"
    found = cloudstack.parse_files(drives.cloudstack(public_keys=lines.encode("utf-8", "surrogateescape")))
    assert _keys(found) == [key("one")]
    items = "".join(f"- {line}\n" for line in lines.rstrip("\n").split("\n"))
    found = _nocloud(user_data=f"#cloud-config\n# \udce9\nhostname: vm1\nssh_authorized_keys:\n{items}")
    assert _keys(found) == [key("one")]
    assert found.config is not None
    assert found.config.hostname == "vm1"
    (problem,) = found.problems
    assert problem.path == "user-data: ssh_authorized_keys line 2"


@pytest.mark.parametrize("odd", ["no colon", 5, {"a": "b"}, "eve:\udce9", "eve:a\0b"], ids=ascii)
def test_a_wrong_item_in_a_list_of_passwords(odd: Any) -> None:
    listed = json.dumps(["ann:first pass", odd, "bob:second pass"]).replace(r"\udce9", "\udce9")
    found = _nocloud(user_data=f'#cloud-config\n{{"chpasswd": {{"list": {listed}}}}}')
    assert found.secrets == {"ann": "first pass", "bob": "second pass"}
    assert [problem.path for problem in found.problems if not problem.harmless] == [
        "user-data: chpasswd.list line 2"
    ]


@pytest.mark.parametrize(
    ("field", "odd"),
    [
        ("permissions", "u=rw"),
        ("permissions", ["0600"]),
        ("append", "maybe"),
        ("encoding", "rot13"),
        ("owner", ["bob"]),
        ("content", {"a": "b"}),
        ("content", "\udce9"),
    ],
    ids=ascii,
)
def test_a_file_is_not_written_with_another_meaning(field: str, odd: Any) -> None:
    """Not with another mode, not empty, and not in place of a file to append to."""
    good = {"path": "/a", "content": "a"}
    files = json.dumps([{"path": "/b", "content": "b"} | {field: odd}, good]).replace(r"\udce9", "\udce9")
    found = _nocloud(user_data=f'#cloud-config\n{{"write_files": {files}}}')
    assert found.config is not None
    assert [file.path for file in found.config.files] == ["/a"]
    (problem,) = found.problems
    assert problem.path == f"user-data: write_files[0].{field}"
    assert problem.message.endswith("the item around it is left out")


@pytest.mark.parametrize(
    ("key_", "odd"),
    [
        ("files", {"mode": 600}),
        ("files", {"append": 5}),
        ("files", {"encoding": "x"}),
        ("files", {"owner": "a b"}),
        ("files", {"group": 5}),
        ("files", {"content": 5}),
        ("scripts", {"encoding": "x"}),
    ],
    ids=ascii,
)
def test_a_native_file_or_program_is_not_taken_with_another_meaning(key_: str, odd: dict[str, Any]) -> None:
    item = {"content": "b"} | ({"path": "/b"} if key_ == "files" else {})
    document = {"version": 1, "id": "1", key_: [item | odd]}
    found = native.parse_files({"gandi.json": json.dumps(document).encode()})
    assert found.config is not None
    assert (found.config.files, found.config.scripts) == ((), ())
    assert [problem.path for problem in found.problems] == [f"{key_}[0].{next(iter(odd))}"]


def test_too_many_accounts_leave_room_for_the_one_that_is_not_named() -> None:
    """Without its keys there might be no way to log in."""
    users = "".join(f"- name: u{number}\n" for number in range(300))
    found = _nocloud(user_data=f"#cloud-config\nusers:\n{users}ssh_authorized_keys: ['{key('one')}']\n")
    assert _keys(found) == [key("one")]
    assert found.config is not None
    assert len(found.config.users) == 257
    assert [problem.path for problem in found.problems] == ["the accounts"]
