"""What a contender adds to an image: the packages that its dependencies bring, and their Installed-Size."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tests.vm.bench.contenders import Contender
from tests.vm.rig import Machine
from tests.vm.rig.tree import BASE_PACKAGES

_KIB = 1024
_PACKAGE = {Contender.AGENT: "gandi-agent", Contender.CLOUD_INIT: "cloud-init"}
#: The base of the images has the agent's libraries too, so that a changed package is installed quickly; and
#: xfsprogs, which would make Python itself a part of the plain image.
_NOT_PLAIN = ("python3-", "xfsprogs")
_FIELDS = ("Package", "Installed-Size", "Priority", "Provides", "Pre-Depends", "Depends")


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes that a contender's packages take, and without those of python3 itself; their names."""

    all: int
    without_python: int
    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Package:
    size: int
    required: bool
    provides: frozenset[str]
    #: Alternatives of each dependency.
    depends: tuple[frozenset[str], ...]


def added(who: Contender, machine: Machine) -> Size:
    """From the package database of the contender's machine."""
    shown = "\\t".join(f"${{{name}}}" for name in _FIELDS) + "\\n"
    installed = _parse(machine.output(["dpkg-query", "--show", f"--showformat={shown}"]))
    plain = [name for name in BASE_PACKAGES if not name.startswith(_NOT_PLAIN)]
    required = [name for name, package in installed.items() if package.required]
    base = _closure(installed, [*plain, *required])
    new = _closure(installed, [_PACKAGE[who]]) - base
    python = _closure(installed, ["python3"])
    return Size(
        sum(installed[name].size for name in new),
        sum(installed[name].size for name in new - python),
        tuple(sorted(new)),
    )


def _parse(shown: str) -> dict[str, _Package]:
    packages = {}
    for line in shown.splitlines():
        name, size, priority, provides, *depends = line.split("\t")
        packages[name] = _Package(
            int(size or 0) * _KIB,
            priority == "required",
            frozenset(_names(provides, ",")),
            tuple(frozenset(_names(one, "|")) for text in depends for one in text.split(",") if one.strip()),
        )
    return packages


def _names(text: str, separator: str) -> Iterable[str]:
    """Names of packages, without versions and architectures."""
    return [
        match[0] for part in text.split(separator) if (match := re.search(r"[a-z0-9][a-z0-9+.-]*", part))
    ]


def _closure(installed: dict[str, _Package], names: Iterable[str]) -> set[str]:
    """The installed packages among ``names``, with all that they depend on."""
    found: set[str] = set()
    waiting = [name for name in names if name in installed]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            for alternatives in installed[name].depends:
                waiting += _satisfying(installed, alternatives)
    return found


def _satisfying(installed: dict[str, _Package], alternatives: frozenset[str]) -> list[str]:
    return [name for name in alternatives if name in installed] or [
        name for name, package in installed.items() if package.provides & alternatives
    ]
