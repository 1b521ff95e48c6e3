"""The package's own test, debian/tests, as Debian's machinery runs it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.vm.rig import ImageSpec, newest_deb
from tests.vm.rig.tree import chroot, merged

PROJECT = Path(__file__).parents[2]
PLACE = "tmp/package"


@pytest.mark.slow
def test_the_installed_package_passes_its_test() -> None:
    """The tree is the testbed: the runner null tests the system that it runs in."""
    with merged(ImageSpec(extra=("autopkgtest", "dpkg-dev"))) as tree:
        place = tree / PLACE
        shutil.copytree(PROJECT / "debian", place / "source/debian")
        shutil.copy(newest_deb(), place / "package.deb")
        argv = ["autopkgtest", "-B", f"/{PLACE}/package.deb", f"/{PLACE}/source/", "--", "null"]
        said = chroot(tree, ["sh", "-c", '"$@" 2>&1 || echo FAILED', "sh", *argv])
    assert "\ninstalled            PASS" in said, said[-4000:]
    assert "FAILED" not in said
