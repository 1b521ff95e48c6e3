"""Nothing that a document says is lost silently: each value of each document of tests/corpus is removed in
turn, replaced by one that cannot be read, and given an unknown key beside it.

What is below a place that a problem names already, or in an item that is left out, is lost, but reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pytest

from agent.config.model import to_dict
from agent.reader.common import lenient, problem
from agent.reader.common.problem import HARMLESS, Problem
from agent.reader.common.result import Reading
from tests import corpus
from tests.corpus import changes, outcome
from tests.corpus.changes import Place, Tree

TREES = [found for one in corpus.documents() if (found := changes.tree(one)) is not None]
INTERFACES = [one for one in corpus.documents() if one.group == "network/interfaces"]
each_tree = pytest.mark.parametrize(
    "tree", TREES, ids=lambda one: f"{one.document.group}/{one.document.name}"
)
#: Keys with values that are the documented default: without them the document says the same.
DEFAULTS = {
    *(("control", "auto"), ("mode", "balance-rr"), ("mode", "auto"), ("users", "default")),
    *(("delay", "now"), ("timeout", "30"), ("size", "auto"), ("resize_rootfs", "noblock")),
    *(("locale", "false"), ("ssh_pwauth", "unchanged"), ("arches", "default"), ("arches", "amd64")),
    ("partition", "none"),
    *(("netmask", mask) for mask in ("255.255.255.0", "ffff:ffff:ffff:ffff::", "64", "0.0.0.0", "::")),
    *(("type", kind) for kind in ("unicast", "phy", "vif", "tap", "ovs", "hw_veb", "hash")),
    # The content says so too.
    *(("type", kind) for kind in ("text/cloud-config", "text/x-shellscript")),
}
#: Places that follow from others of their document, or that there is nothing for on the drive.
IMPLIED = {
    ("netplan_other/routed-server", "ethernets.eth0.routes[0].on-link"),
    ("netplan_other/config-disabled", "config"),
    ("netplan_other/empty-network", "network.version"),
    ("v1/without-config", "version"),
    ("config_system/vendor-data-disabled", "vendor_data.enabled"),
    ("config_system/vendor-data-prefix", "vendor_data.enabled"),
    ("config_system/ntp-disabled", "ntp.servers[0]"),
    ("scripts/archive", "[1].filename"),  # There is no other script that it could run before.
    ("scripts/archive-ordered-by-filename", "[1].filename"),
    ("scripts/archive-launch-index", "[0].launch-index"),
    ("scripts/archive-launch-index", "[1].launch-index"),
}
#: A document that nothing can be added to.
DISABLED = "config-disabled"
#: Lines of interfaces(5) that describe what is so without them.
SO_ANYWAY = {
    *("auto lo", "iface lo inet loopback", "netmask 255.255.255.0", "netmask 64"),
    # Below lo.
    "netmask 255.0.0.0",
    *("bond-slaves none", "vlan-raw-device eth0"),
}
#: The problems of a document that is refused whole.
WHOLE = ("wrong throughout", "not taken as a whole", "not a dictionary: left out")


class Named:
    """The places that problems name. An error, and a type that is not supported, may cost the item."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.places = {self._place(problem) for problem in problems}

    @staticmethod
    def _place(problem: Problem) -> str:
        place = re.sub(r" line [0-9]+$", "", problem.path.partition(": ")[2])
        above = place.rpartition(".")[0]
        costs_item = problem.is_error or (not problem.harmless and place.endswith(".type"))
        if place == "version" or not costs_item or not above:
            return place.removeprefix("version")
        item = re.match(r".*\[[0-9]*\]", above)
        return item[0] if item else ".".join(above.split(".")[:2])

    def __contains__(self, place: Place) -> bool:
        above = {problem.path(place[:n]) for n in range(len(place) + 1)}
        # Messages leave out the key that is around all of a network document.
        above |= {one.removeprefix("network.") for one in above}
        return bool(self.places & (above | {re.sub(r"\[[0-9]+\]", "[]", one) for one in above}))


def _read(tree: Tree, drive: corpus.Drive) -> Reading:
    return outcome.read(tree.document.dialect, drive)


def _said(reading: Reading) -> tuple[Any, ...]:
    """Return all that is made of a drive: the model, the problems, the stored content, the passwords."""
    config = to_dict(reading.config) if reading.config else {}
    config.pop("partial", None)
    return config, set(reading.problems), outcome.stored(reading), reading.secrets


def _is_harmless(place: Place) -> bool:
    """Return whether a key of the place is on a part's list of harmless keys."""
    keys = {str(step).lower().replace("-", "_") for step in place}
    return any(keys & set(one.harmless) for one in lenient.UNUSED.values())


def _is_lost(tree: Tree, place: Place, value: Any, whole: tuple[Any, ...]) -> bool:
    """Return whether the value has no part in what is made of the document. If it may be a default that is
    written to be plain, the opposite must have a part in it.
    """
    key = next((str(step) for step in reversed(place) if isinstance(step, str)), "")
    is_implied = (
        f"{tree.document.group.partition('/')[2]}/{tree.document.name}",
        problem.path(place),
    ) in IMPLIED
    if not value or is_implied or (key, value) in DEFAULTS or _is_harmless(place):
        return False
    if _said(_read(tree, tree.without(place))) != whole:
        return False
    other = changes.opposite(value)
    return other is None or _said(_read(tree, tree.with_value(place, other))) == whole


@each_tree
def test_no_value_is_lost_silently(tree: Tree) -> None:
    reading = _read(tree, tree.drive())
    named, whole = Named(reading.problems), _said(reading)
    places = [(place, value) for place, value in tree.places() if place and place not in named]
    lost = [problem.path(place) for place, value in places if _is_lost(tree, place, value, whole)]
    assert not lost


@each_tree
def test_an_unknown_key_beside_any_other_is_reported(tree: Tree) -> None:
    """Or it has an effect, where names are keys."""
    reading = _read(tree, tree.drive())
    named, whole = Named(reading.problems), _said(reading)
    is_open = tree.document.name != DISABLED
    places = [place for place in tree.dictionaries() if is_open and place not in named]
    added = {place: tree.with_value((*place, changes.UNKNOWN), "1") for place in places}
    assert not [problem.path(place) for place, drive in added.items() if _said(_read(tree, drive)) == whole]


@each_tree
def test_a_value_that_cannot_be_read_is_reported_and_costs_no_document(tree: Tree) -> None:
    whole = _read(tree, tree.drive())
    named = Named(whole.problems)
    refused, silent = [], []
    for place, value in tree.places():
        if not place or value is None or place in named or _is_harmless(place):
            continue
        found = _read(tree, tree.with_value(place, changes.WRONG))
        new = set(found.problems) - set(whole.problems)
        if found.config is None or any(one.message.startswith(WHOLE) for one in new):
            refused.append(problem.path(place))
        if not any(one.severity != HARMLESS for one in new):
            silent.append(problem.path(place))
    assert (refused, silent) == ([], [])


@pytest.mark.parametrize("document", INTERFACES, ids=lambda one: one.name)
def test_no_line_of_interfaces_is_lost_silently(document: corpus.Document) -> None:
    """A stanza that a problem names may be lost whole."""
    lines = document.files[document.place].decode().splitlines(keepends=True)
    reading = outcome.read(document.dialect, document.files)
    whole, begun, lost = _said(reading), 0, []
    paths = " ".join(one.path for one in reading.problems if not one.harmless)
    named = {int(number) for number in re.findall(r"line ([0-9]+)", paths)}
    for number, line in enumerate(lines, start=1):
        begun = begun if line.startswith((" ", "\t")) else number
        is_content = line.strip() and not line.strip().startswith("#") and line.strip() not in SO_ANYWAY
        drive = document.with_text("".join(lines[: number - 1] + lines[number:]).encode())
        if is_content and begun not in named and _said(outcome.read(document.dialect, drive)) == whole:
            lost.append(line.strip())
    assert not lost
