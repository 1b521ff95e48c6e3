"""The lines of interfaces(5), sorted into stanzas; see interfaces_text.py."""

from __future__ import annotations

import re

from agent.lib.records import dataclass, field
from agent.lib.text import WHITE, words
from agent.reader.common.problem import UNSUPPORTED, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from agent.reader.common.merge import Draft

#: The subnet's type, by the IP version's name and the method.
_METHODS = {
    ("inet", "loopback"): "loopback",
    ("inet", "static"): "static",
    ("inet", "dhcp"): "dhcp4",
    ("inet", "manual"): "manual",
    ("inet6", "loopback"): "loopback",
    ("inet6", "static"): "static6",
    ("inet6", "dhcp"): "dhcp6",
    ("inet6", "auto"): "ipv6_slaac",
    ("inet6", "manual"): "manual",
}
COMMANDS = ("up", "post_up", "pre_up", "down", "pre_down", "post_down")
#: Options that may appear more than once in a stanza.
_REPEATED = (*COMMANDS, "address", "bridge_pathcost", "bridge_portprio")
_GROUPED = re.compile(r"(bond|bridge)_.+")
#: Maximum stanzas: more than one for each NIC that a machine may have, for both IP versions.
_STANZAS = 1000
#: Maximum lines, and maximum characters of one with those that continue it.
_LINES, _LONGEST = 10_000, 4000
_HINT = "only auto, allow-hotplug and iface are read"


@dataclass(slots=True)
class Iface:
    """A stanza as it is written: the options of a bond or bridge are in ``groups``. ``spelled`` has each
    other key as it is written, by the key with ``_``.
    """

    place: str
    name: str
    type: str
    options: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    spelled: dict[str, str] = field(default_factory=dict)

    @property
    def device(self) -> str:
        return self.name.partition(":")[0]


def scan(text: str, document: str, draft: Draft) -> Scan:
    """Return the stanzas of the text; lines that belong to none, or are not handled, are problems."""
    scanned = Scan(document, draft)
    lines = text.split("\n", _LINES)
    if len(lines) > _LINES:
        what = f"more than {_LINES} lines: left out from here on"
        draft.add_problem(f"{document}: line {_LINES + 1}", what, "write fewer")
    for number, line in _logical(lines[:_LINES]):
        if len(line) > _LONGEST:
            what = f"more than {_LONGEST} characters: left out"
            draft.add_problem(f"{document}: line {number}", what, "write a shorter line")
        elif found := words(line):
            scanned.add(number, found)
    return scanned


def _logical(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Yield the lines that say something, each with the lines that continue it and its first number."""
    pieces: list[str] = []
    first = 0
    for number, line in enumerate(lines, start=1):
        bare = line.strip(WHITE)
        if not pieces and (not bare or bare.startswith("#")):
            continue
        first = first if pieces else number
        pieces.append(bare.removesuffix("\\"))
        if not bare.endswith("\\"):
            yield first, "".join(pieces)
            pieces = []
    if pieces:
        yield first, "".join(pieces)


class Scan:
    """The lines of the file, sorted into stanzas."""

    def __init__(self, document: str, draft: Draft) -> None:
        self.document = document
        self.draft = draft
        self.auto: set[str] = set()
        self.hotplug: set[str] = set()
        self.stanzas: list[Iface] = []
        #: The stanza that options belong to; None after one that is left out, "" before the first.
        self._open: Iface | str | None = ""

    def control(self, name: str) -> str:
        return "auto" if name in self.auto else "hotplug" if name in self.hotplug else "manual"

    def _report(self, number: int, what: str, hint: str, **more: str) -> None:
        self.draft.add_problem(f"{self.document}: line {number}", what, hint, **more)

    def add(self, number: int, found: list[str]) -> None:
        """Add one line."""
        written, *rest = found
        key = written.lower()
        if key in ("auto", "allow-auto", "allow-hotplug"):
            (self.hotplug if key == "allow-hotplug" else self.auto).update(rest)
            self._open = ""
        elif key == "iface":
            self._begin(number, rest)
        elif key in ("source", "source-directory"):
            self._open = ""
            self._report(number, f"{key}: nothing is included", _HINT, severity=UNSUPPORTED)
        elif key in ("mapping", "template", "rename", "no-auto-down", "no-scripts") or key[:6] == "allow-":
            self._open = None
            self._report(number, f"{shown(key)}: not supported", _HINT, severity=UNSUPPORTED)
        elif isinstance(self._open, Iface):
            self._add_option(number, written, " ".join(rest), self._open)
        elif self._open is not None:
            what = f"{shown(written)}: in no stanza, and left out"
            self._report(number, what, "write it below an iface line")

    def _begin(self, number: int, given: list[str]) -> None:
        self._open = None
        if len(given) != 3:
            what, hint = "not an interface, IP version and method", "write for example iface eth0 inet dhcp"
            self._report(number, f"{what}: left out", hint)
        elif (kind := _METHODS.get((given[1].lower(), given[2].lower()))) is None:
            what = f"{shown(given[1])} {shown(given[2])} is not supported: left out"
            self._report(number, what, "write static, dhcp, manual, loopback, or for inet6 auto")
        elif len(self.stanzas) >= _STANZAS:
            self._report(number, f"more than {_STANZAS} stanzas: left out", "write fewer")
        else:
            place = f"line {number}: iface {shown(given[0])} {given[1].lower()}"
            self._open = Iface(place, given[0], kind)
            self.stanzas.append(self._open)

    def _add_option(self, number: int, key: str, written: str, stanza: Iface) -> None:
        name = key.lower().replace("-", "_")
        if name == "slaves":
            name = "bond_slaves"
        if grouped := _GROUPED.fullmatch(name):
            options, spelled = stanza.groups.setdefault(grouped[1], {}), name
        else:
            options, spelled = stanza.options, stanza.spelled.setdefault(name, key)
        if name in _REPEATED:
            options.setdefault(spelled, []).append(written)
        elif spelled in options:
            self._report(number, f"{shown(key)} appears twice; the first is used", "write it once")
        else:
            options[spelled] = written
