"""Tests in the guest's tree on the build host: unit tests with Debian's own Python and packages, units and
rules with the guest's own systemd. In an emulated guest the same would take minutes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.rig import ImageSpec, newest_deb
from tests.vm.rig.paths import PROJECT
from tests.vm.rig.tree import chroot, install_debs, merged

TOOLS = (
    "lz4",
    "python3-hypothesis",
    "python3-prometheus-client",
    "python3-pytest",
    "python3-pytest-timeout",
    "python3-yaml",
    "zstd",
)
#: The sources that the unit tests need, without anything built.
SOURCES = (
    "CODING_STYLE.md",
    "HACKING.md",
    "NEWS.md",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "agent",
    "autofs",
    "bin",
    "completions",
    "debian",
    "docs",
    "etc-default",
    "etc-gandi",
    "ganeti",
    "hooks",
    "pyproject.toml",
    "rpm",
    "tests",
    "tools",
    "typings",
    "udev",
    "units",
)
INSIDE = "/usr/src/gandi-agent"
#: Tests of the sources as text, and of the soak: the same with any packages.
OF_TEXT = ["acceptance", "baking", "boundaries", "docs", "language", "licences", "pins", "security", "soak"]


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    """Debian 13 with the package installed, and its sources with pytest beside it."""
    with merged(ImageSpec(extra=TOOLS, debs=(newest_deb(),))) as root:
        for name in SOURCES:
            source, target = PROJECT / name, root / INSIDE.lstrip("/") / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        yield root


@pytest.mark.long
def test_the_unit_tests_pass_with_debians_packages(tree: Path) -> None:
    """The randomised ones with a tenth of the examples that they have with the newest packages."""
    versions = "import sys, pydantic; print(*sys.version_info[:2], *pydantic.VERSION.split('.')[:2])"
    assert chroot(tree, ["python3", "-c", versions]).split() == ["3", "13", "2", "10"]
    skipped = " ".join(f"--ignore=tests/unit/test_{name}.py" for name in OF_TEXT)
    how = f"-q -p no:cacheprovider --hypothesis-profile=few {skipped}"
    line = f"cd {INSIDE} && python3 -m pytest {how} tests/unit"
    said = chroot(tree, ["sh", "-c", f"{line} 2>&1 || {{ echo FAILED; }}"])
    assert "FAILED" not in said, said[-8000:]
    assert " passed" in said.splitlines()[-1], said[-2000:]


def test_the_units_verify_with_the_guests_systemd(tree: Path) -> None:
    """Verify them as installed and enabled, with all units of a boot: no unknown key, no cycle."""
    version = chroot(tree, ["systemd-analyze", "--version"]).split()[1]
    assert version == "257"
    kinds = (".service", ".socket")
    names = sorted(path.name for path in (PROJECT / "units").iterdir() if path.suffix in kinds)
    assert len(names) >= 6
    quiet = ["env", "SYSTEMD_LOG_LEVEL=notice", "systemd-analyze", "verify", "--man=no"]
    said = chroot(tree, ["sh", "-c", '"$@" 2>&1 || echo FAILED', "sh", *quiet, *names, "multi-user.target"])
    assert not [line for line in said.splitlines() if "gandi" in line or "cycle" in line], said
    assert "FAILED" not in said, said


def test_the_udev_rules_verify_with_the_guests_udev(tree: Path) -> None:
    rules = chroot(tree, ["sh", "-c", "ls /usr/lib/udev/rules.d/*gandi*"]).split()
    assert len(rules) == len(list((PROJECT / "udev").glob("*.rules")))
    said = chroot(tree, ["udevadm", "verify", *rules])
    assert f"{len(rules)} udev rules files have been checked" in said or "Success: " in said, said


def test_purge_leaves_nothing_but_what_is_the_customers() -> None:
    with merged(ImageSpec()) as root:
        before = _paths(root)
        install_debs(root, (newest_deb(),))
        assert "/usr/bin/gandi-agent" in _paths(root)
        for name in ("gandi/config", "var/lib/gandi/instances/one/config.json"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("{}")
        with (root / "etc/default/gandi").open("a") as settings:
            settings.write("CONFIG_GROW_ROOT=0\n")
        chroot(root, ["apt-get", "-q", "-y", "purge", "gandi-agent"])
        after = _paths(root)
    assert after - before == {"/gandi", "/gandi/config"}
    assert not before - after


def _paths(root: Path) -> set[str]:
    """Return all paths in the tree except what apt and dpkg write about every package."""
    found = (f"/{path.relative_to(root)}" for path in root.rglob("*"))
    own = ("/var/cache/", "/var/lib/apt/", "/var/lib/dpkg/", "/var/log/")
    return {name for name in found if not name.startswith(own)}
