"""tools/pins: what is installed for development is chosen by version and digest."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.fuzz.engine import VERSION
from tests.unit.reader.common.test_compiled_core import DEBIAN, OLDEST

PROJECT = Path(__file__).parents[2]
PINS = sorted((PROJECT / "tools/pins").glob("*.txt"))
#: One package: its version, then the digests of the files that may be installed.
PIN = re.compile(r"([a-z0-9-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n")


def _pins(list_of_them: Path) -> dict[str, str]:
    return {name: version for name, version, _ in PIN.findall(list_of_them.read_text())}


@pytest.mark.parametrize("pins", PINS, ids=lambda pins: pins.name)
def test_a_list_has_versions_with_digests_and_nothing_else(pins: Path) -> None:
    """No address of an index, no folder, no option of the place where it was made."""
    assert _pins(pins)
    assert PIN.sub("", pins.read_text()) == ""


def test_each_requirement_is_pinned_to_a_version_that_it_allows() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    pinned = _pins(PROJECT / "tools/pins/development.txt")
    asked = [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["dev"]]
    assert len(asked) > 10
    for requirement in asked:
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}: {version}"


def test_the_companions_core_is_the_one_that_the_reader_is_tested_with_and_its_package_says_so() -> None:
    """All tests of the reader run with the newest, which is installed."""
    (version,) = _pins(PROJECT / "tools/pins/core.txt").values()
    assert version == _pins(PROJECT / "tools/pins/development.txt")["pydantic-core"]
    first = (PROJECT / "core/debian/changelog").read_text().splitlines()[0]
    assert re.match(rf"gandi-agent-core \({re.escape(version)}(?:\+[0-9]+)?\) ", first)
    assert f"Version {version}," in (PROJECT / "core/debian/copyright").read_text()


def test_what_is_beside_the_development_tools_is_pinned() -> None:
    lists = {pins.name for pins in PINS} - {"development.txt", "core.txt"}
    assert lists == {f"pydantic-{version}.txt" for version in (OLDEST, DEBIAN)} | {f"atheris-{VERSION}.txt"}
    assert _pins(PROJECT / f"tools/pins/atheris-{VERSION}.txt") == {"atheris": VERSION}
    for version in (OLDEST, DEBIAN):
        assert _pins(PROJECT / f"tools/pins/pydantic-{version}.txt")["pydantic"] == version
