"""The compiled core alone: the releases that are allowed read alike; another layout is imported whole."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import pytest

from agent.reader import client
from agent.reader.common import compiled_core
from tests.media import OFFSET, make_archive, swap_image
from tests.unit.reader import drives
from tests.unit.reader.dialects.test_gandi import DOCUMENT

PROJECT = Path(__file__).parents[4]
PINS = PROJECT / "tools/pins"
WHEELS = PROJECT / ".cache/pydantic"
OLDEST, DEBIAN = "2.10.0", "2.10.6"
#: The wheels that the package gandi-agent-core is made of.
COMPANION = PROJECT / ".cache/core"
INSTALLED = Path(str(getattr(PathFinder.find_spec("pydantic_core"), "origin", ""))).parents[1]
#: A guest's tree has Debian's release alone, and all tests of the reader run with it.
IN_GUEST = INSTALLED.name == "dist-packages"
WRONG = {
    "vm_hostnme": 1,
    "nameservers": ["x"],
    "vif": [{"vif_number": [], "pna": 3}, 4],
    "vm_conf": {"user": "-", "password": "x", "ssh_key": "y", "script_args": "'", "run": 5},
}
DOCUMENTS = {"gandi": DOCUMENT, "native": drives.NATIVE, "wrong": WRONG}
#: What the reader has loaded of the library, as JSON.
LOADED = """
import json, sys
sys.path[:0] = sys.argv[1:]
from agent.reader.common import compiled_core
core = sys.modules["pydantic_core._pydantic_core"]
print(json.dumps([core.__version__, core.__file__, "pydantic_core.core_schema" in sys.modules]))
"""
#: Run before: where the companion's modules are.
AS_COMPANION = "from agent.reader.common import companion; companion.FOLDER = {!r}\n"


def _answer(document: dict[str, Any], image: Path, packages: Path) -> dict[str, Any]:
    """The reader's answer for a disk with that document, with the modules of that folder alone."""
    swap_image(image, 8 << 20, OFFSET, archive=make_archive(document, b"#!/bin/sh\n"))
    dialect = "native" if "version" in document else "gandi"
    reader = str(Path(client.__file__).parent / "__main__.py")
    with image.open("rb") as disk:
        done = subprocess.run(
            (sys.executable, "-I", "-S", reader, dialect, "disk", "", str(packages)),
            stdin=disk,
            capture_output=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr.decode()
    answer: dict[str, Any] = json.loads(done.stdout)
    assert "defect" not in answer
    return answer


def _loaded(packages: Path) -> tuple[str, Path, bool]:
    """The core's version and file, and whether the package's descriptions were loaded as well."""
    argv = (sys.executable, "-I", "-S", "-c", LOADED, str(PROJECT), str(packages))
    done = subprocess.run(argv, capture_output=True, check=True, timeout=60)
    version, file, is_whole = json.loads(done.stdout)
    return version, Path(file), is_whole


@pytest.fixture(scope="module")
def unpacked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a release's modules; "" for the installed ones."""
    if not request.param:
        return INSTALLED
    if IN_GUEST:
        pytest.skip("a guest's tree: Debian's release alone")
    wheels = sorted((WHEELS / request.param).glob("*.whl"))
    assert any(wheel.name.startswith("pydantic_core-") for wheel in wheels), "run: make setup"
    folder = tmp_path_factory.mktemp(f"pydantic-{request.param}")
    for wheel in wheels:
        zipfile.ZipFile(wheel).extractall(folder)
    return folder


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize(
    "unpacked", ["", OLDEST, DEBIAN], indirect=True, ids=["installed", "oldest", "debian"]
)
def test_each_release_reads_alike_without_its_package(unpacked: Path, document: str, tmp_path: Path) -> None:
    _, file, is_whole = _loaded(unpacked)
    assert file.is_relative_to(unpacked), "the release that is meant"
    assert not is_whole
    here = _answer(DOCUMENTS[document], tmp_path / "disk", INSTALLED)
    assert _answer(DOCUMENTS[document], tmp_path / "disk", unpacked) == here
    assert here["problems"] if document == "wrong" else here["config"]


def test_the_oldest_that_is_tested_is_the_oldest_that_is_allowed() -> None:
    required = re.search(r'"pydantic>=([0-9.]+),<3"', (PROJECT / "pyproject.toml").read_text())
    assert required
    assert required[1] == OLDEST.removesuffix(".0")
    pinned = re.search(r"^pydantic-core==(\S+)", (PINS / f"pydantic-{OLDEST}.txt").read_text(), re.MULTILINE)
    assert pinned
    core = pinned[1].removesuffix(".0")
    depends = f"python3-pydantic-core (>= {core}) | gandi-agent-core (>= {core}),"
    assert depends in (PROJECT / "debian/control").read_text()
    assert tuple(int(part) for part in core.split(".")) == compiled_core.OLDEST
    assert f"for version in {OLDEST} {DEBIAN};" in (PROJECT / "tools/setup").read_text()


@pytest.mark.skipif(not IN_GUEST, reason="not in a guest's tree")
def test_debians_release_is_the_one_that_is_tested() -> None:
    import pydantic

    assert pydantic.VERSION == DEBIAN


#: What a later release might look like: its ``__init__``, its compiled module, and where that lies.
COMPILED = next(path.name for path in (INSTALLED / "pydantic_core").glob("_pydantic_core.*.so"))
LAYOUTS = {
    "in a folder": (
        "from pydantic_core.native._pydantic_core import SchemaValidator, ValidationError\n",
        f"native/{COMPILED}",
        "",
    ),
    "behind a module": (
        "ready = True\nfrom pydantic_core._pydantic_core import SchemaValidator, ValidationError\n",
        f"native/{COMPILED}",
        "import pydantic_core\npydantic_core.ready\n"
        "from pydantic_core.native._pydantic_core import SchemaValidator, ValidationError\n",
    ),
    "under other names": (
        "from pydantic_core.native import _pydantic_core as core\n"
        "SchemaValidator, ValidationError = core.SchemaValidator, core.ValidationError\n",
        f"native/{COMPILED}",
        "Validator = None\n",
    ),
    "with another answer": (
        "from pydantic_core.native._pydantic_core import SchemaValidator, ValidationError\n",
        f"native/{COMPILED}",
        "class ValidationError(Exception): pass\n"
        "class SchemaValidator:\n"
        "    def __init__(self, *_given): pass\n"
        "    def validate_python(self, _given): return None\n",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_another_layout_is_imported_as_everyone_does(layout: str, tmp_path: Path) -> None:
    package, place, module = LAYOUTS[layout]
    folder = tmp_path / "packages/pydantic_core"
    (folder / place).parent.mkdir(parents=True)
    shutil.copy(INSTALLED / "pydantic_core" / COMPILED, folder / place)
    (folder / "__init__.py").write_text(package)
    if module:
        (folder / "_pydantic_core.py").write_text(module)
    for name, document in DOCUMENTS.items():
        there = _answer(document, tmp_path / "disk", tmp_path / "packages")
        assert there == _answer(document, tmp_path / "disk", INSTALLED), name


#: The distribution has no core, or an older one that would be taken otherwise, or one that is recent.
DISTRIBUTIONS = {
    "none": ("", True),
    "old": (
        '__version__ = "2.14.6"\nclass SchemaValidator: pass\nclass ValidationError(Exception): pass\n',
        True,
    ),
    "broken": ("raise ImportError\n", True),
    "recent": (None, False),
}


@pytest.mark.skipif(IN_GUEST, reason="a guest's tree: Debian's release alone")
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_companion_is_used_only_without_a_core_that_is_recent(distribution: str, tmp_path: Path) -> None:
    own, packages = tmp_path / "own", tmp_path / "packages"
    wheels = list(COMPANION.glob("*/pydantic_core-*-cp311-cp311-*_x86_64.whl"))
    assert len(wheels) == 1, "run: make setup"
    zipfile.ZipFile(wheels[0]).extractall(own)
    module, is_companion = DISTRIBUTIONS[distribution]
    if module is None:
        shutil.copytree(INSTALLED / "pydantic_core", packages / "pydantic_core")
    elif module:
        for name in ("__init__.py", "_pydantic_core.py"):
            (packages / "pydantic_core").mkdir(parents=True, exist_ok=True)
            (packages / "pydantic_core" / name).write_text(module)
    elsewhere = f"import sys; sys.path[:0] = sys.argv[1:]\n{AS_COMPANION.format(str(own))}{LOADED}"
    argv = (sys.executable, "-I", "-S", "-c", elsewhere, str(PROJECT), str(packages))
    done = subprocess.run(argv, capture_output=True, check=True, timeout=60)
    version, file, is_whole = json.loads(done.stdout)
    assert Path(file).is_relative_to(own if is_companion else packages)
    assert version == wheels[0].parent.name if is_companion else version
    assert not is_whole


def test_no_library_at_all_is_an_end(tmp_path: Path) -> None:
    done = subprocess.run(
        (sys.executable, "-I", "-S", "-c", LOADED, str(PROJECT), str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ModuleNotFoundError: No module named 'pydantic_core'" in done.stderr
