"""The SPDX document beside the package that `make deb` has made."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.vm.rig import newest_deb

PROJECT = Path(__file__).parents[2]
TOOL = PROJECT / "tools/sbom.py"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    deb = newest_deb()
    return dict(json.loads(deb.with_suffix(".spdx.json").read_text()))


def test_spdxs_own_validator_accepts_it() -> None:
    document = newest_deb().with_suffix(".spdx.json")
    argv = [str(PROJECT / ".venv/bin/pyspdxtools"), "--infile", str(document)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_it_is_that_of_the_package_and_the_same_each_time() -> None:
    deb = newest_deb()
    made = [subprocess.run([TOOL, deb], capture_output=True, check=True).stdout for _ in range(2)]
    assert made == [deb.with_suffix(".spdx.json").read_bytes()] * 2


def test_it_names_each_file_with_its_digest_and_the_licence(document: dict[str, Any]) -> None:
    packed = subprocess.run(["dpkg-deb", "--fsys-tarfile", newest_deb()], capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as tar:
        digests = {
            member.name: hashlib.sha256(content.read()).hexdigest()
            for member in tar
            if member.isreg() and (content := tar.extractfile(member))
        }
    named = {
        file["fileName"]: [sum["checksumValue"] for sum in file["checksums"] if sum["algorithm"] == "SHA256"]
        for file in document["files"]
    }
    assert len(digests) > 300
    assert named == {name: [digest] for name, digest in digests.items()}
    assert {file["licenseConcluded"] for file in document["files"]} == {"Apache-2.0"}
    package = document["packages"][0]
    assert package["licenseDeclared"] == "Apache-2.0"
    assert package["checksums"][0]["checksumValue"] == hashlib.sha256(newest_deb().read_bytes()).hexdigest()


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_the_companions_names_what_was_linked_into_it(architecture: str) -> None:
    (deb,) = (PROJECT / "dist").glob(f"gandi-agent-core_*_{architecture}.deb")
    made = deb.with_suffix(".spdx.json")
    argv = [str(PROJECT / ".venv/bin/pyspdxtools"), "--infile", str(made)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    document = json.loads(made.read_text())
    assert document["packages"][0]["licenseDeclared"] == "MIT"
    pinned = (PROJECT / "tools/pins/core.txt").read_text().partition(" ")[0]
    linked = {
        reference["referenceLocator"]: package["licenseDeclared"]
        for package in document["packages"]
        if package["SPDXID"].startswith("SPDXRef-Linked-")
        for reference in package["externalRefs"]
    }
    assert linked[f"pkg:pypi/{pinned.replace('==', '@')}"] == "MIT"
    crates = [locator for locator in linked if locator.startswith("pkg:cargo/")]
    assert any(locator.startswith("pkg:cargo/pyo3@") for locator in crates)
    assert len(crates) == len(linked) - 1 > 50
    assert all(linked.values())


def test_it_names_what_the_package_depends_on_recommends_and_suggests(document: dict[str, Any]) -> None:
    packages = {package["SPDXID"]: package["name"] for package in document["packages"]}
    for field, relation, own, other in (
        ("Depends", "DEPENDS_ON", "spdxElementId", "relatedSpdxElement"),
        ("Recommends", "OPTIONAL_DEPENDENCY_OF", "relatedSpdxElement", "spdxElementId"),
        ("Suggests", "OPTIONAL_DEPENDENCY_OF", "relatedSpdxElement", "spdxElementId"),
    ):
        argv = ["dpkg-deb", "--field", str(newest_deb()), field]
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        asked = {re.split(r"[ :(]", one)[0] for one in re.split(r", | \| ", said.strip())}
        found = {
            packages[relationship[other]]
            for relationship in document["relationships"]
            if relationship["relationshipType"] == relation
            and packages.get(relationship[own]) == "gandi-agent"
            and f"-{field}-" in relationship[other]
        }
        assert found == asked
