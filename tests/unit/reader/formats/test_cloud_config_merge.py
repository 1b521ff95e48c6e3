"""The rules of merging, each on values that show it, and what they may not be."""

from __future__ import annotations

from typing import Any

import pytest

from agent.reader.formats import cloud_config_merge as merging


def merged(*documents: dict[str, Any], header: str = "") -> dict[str, Any]:
    parts = []
    for number, one in enumerate(documents):
        document = dict(one)
        rules = merging.rules(document, header)
        parts.append((f"part {number}", document, rules))
    return merging.combine(parts)[0]


FIRST: dict[str, Any] = {
    "runcmd": ["a", "b"],
    "hostname": "one",
    "chpasswd": {"expire": "false", "list": ["x"], "deep": {"k": "1"}},
    "timezone": "Etc/UTC",
}
SECOND: dict[str, Any] = {
    "runcmd": ["c"],
    "hostname": "two",
    "chpasswd": {"list": ["y"], "more": "1", "deep": {"l": "2"}},
    "locale": "C",
}


@pytest.mark.parametrize(
    ("how", "runcmd", "hostname", "chpasswd"),
    [
        ("", ["c"], "two", SECOND["chpasswd"]),
        ("dict(replace)+list()+str()", ["c"], "two", SECOND["chpasswd"]),
        (
            "list()+dict()+str()",
            ["a", "b"],
            "one",
            {"expire": "false", "list": ["x"], "deep": {"k": "1", "l": "2"}, "more": "1"},
        ),
        (
            "list(append)+dict(no_replace,recurse_list)+str()",
            ["a", "b", "c"],
            "one",
            {"expire": "false", "list": ["x", "y"], "deep": {"k": "1", "l": "2"}, "more": "1"},
        ),
        (
            "List(prepend) + Dict(recurse-array, recurse_str) + str(append)",
            ["c", "a", "b"],
            "onetwo",
            {"expire": "false", "list": ["y", "x"], "deep": {"k": "1", "l": "2"}, "more": "1"},
        ),
        (
            "m_list(replace)+dict(recurse_list,recurse_str)+str()",
            ["c", "b"],
            "two",
            {"expire": "false", "list": ["y"], "deep": {"k": "1", "l": "2"}, "more": "1"},
        ),
        (
            "list(no_replace)+dict(recurse_list)",
            ["a", "b"],
            "one",
            {"expire": "false", "list": ["x"], "deep": {"k": "1", "l": "2"}, "more": "1"},
        ),
    ],
)
def test_the_rules(how: str, runcmd: list[str], hostname: str, chpasswd: dict[str, Any]) -> None:
    wanted = {
        "runcmd": runcmd,
        "hostname": hostname,
        "chpasswd": chpasswd,
        "timezone": "Etc/UTC",
        "locale": "C",
    }
    assert merged(FIRST, SECOND, header=how) == wanted
    assert merged(FIRST, SECOND | {"merge_how": how}) == wanted
    assert merged(FIRST, SECOND | {"merge-type": how}) == wanted


def test_the_rules_as_a_list() -> None:
    named = [{"name": "list", "settings": ["append"]}, {"name": "dict", "settings": "recurse_list"}]
    short = [["list", "append"], ["dict", "recurse_list"]]
    for how in (named, short):
        assert merged(FIRST, SECOND | {"merge_how": how})["runcmd"] == ["a", "b", "c"]


def test_a_null_deletes_only_if_that_is_allowed() -> None:
    nothing = {"hostname": None}
    assert merged(FIRST, nothing, header="dict(allow_delete)").keys() == FIRST.keys() - {"hostname"}
    assert merged(FIRST, nothing, header="dict()")["hostname"] == "one"


def test_items_at_the_same_place_are_merged_if_the_list_says_so() -> None:
    first, second = {"users": [{"name": "a"}, "b"]}, {"users": [{"uid": "7"}]}
    how = "list(recurse_dict)+dict(recurse_list)"
    assert merged(first, second, header=how) == {"users": [{"name": "a", "uid": "7"}, "b"]}


def test_a_key_in_another_spelling_is_the_same_key() -> None:
    found = merged({"ssh_authorized_keys": ["x"]}, {"ssh-authorized-keys": ["y"]})
    assert found == {"ssh_authorized_keys": ["y"]}


def test_what_is_replaced_is_named_with_the_part_that_has_precedence() -> None:
    parts = [
        ("one", {"a": "1", "b": "1", "c": "1"}, merging.default()),
        ("two", {"a": "2", "b": "1"}, merging.default()),
        ("three", {"a": "3", "c": "3"}, merging.rules({}, "dict(no_replace)")),
    ]
    _, lost = merging.combine(parts)
    assert lost == [
        ("one", "a", "replaced by that of two"),
        ("three", "a", "replaced by that of two"),
        ("three", "c", "replaced by that of one"),
    ]


@pytest.mark.parametrize(
    ("how", "first", "second", "leaves_out"),
    [
        ("dict(recurse_list)+list(append)", ["a"], ["b"], False),
        ("dict(recurse_str)+str(append)", "a", "b", False),
        ("dict()", {"k": "1"}, {"l": "2"}, False),
        ("dict()", {"k": "1"}, {"k": "1", "l": "2"}, False),
        ("dict()", {"k": "1", "m": "3"}, {"k": "2", "l": "2"}, True),
        ("dict(recurse_list)+list()", ["a", "b"], ["c"], True),
        ("dict(recurse_list)+list()", ["a"], ["a", "b"], True),
        ("dict()", {"k": ["1"]}, {"k": "1", "l": "2"}, True),
    ],
)
def test_what_rules_leave_out_is_reported(how: str, first: Any, second: Any, leaves_out: bool) -> None:
    parts = [("one", {"a": first}, merging.default()), ("two", {"a": second}, merging.rules({}, how))]
    assert bool(merging.combine(parts)[1]) is leaves_out


@pytest.mark.parametrize(
    "how",
    [
        "append",
        "list[append]",
        "set(append)+dict()",
        "dict(append)",
        "list(append)",
        [["list", 1]],
        [{"settings": ["append"]}],
        [3],
        {"list": "append"},
    ],
)
def test_rules_that_cannot_be_read(how: Any) -> None:
    with pytest.raises(ValueError, match=r"the (rules|settings) .*; write for example"):
        merging.rules({"merge_how": how}, "")
