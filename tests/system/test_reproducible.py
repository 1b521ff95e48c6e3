"""The package is the same bytes wherever, whenever and by whomever it is built from the same files."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
#: Of an account that this host need not have.
UID = 4321
#: How much later the second build is than the first.
LATER = "+400d"


@dataclass(frozen=True, slots=True)
class Builder:
    """Where and as what a build runs. ``modified``: seconds since 1970 of each source file."""

    folder: Path
    umask: int
    environment: dict[str, str]
    modified: int
    uid: int = 0
    clock: tuple[str, ...] = ()


def _agent() -> list[str]:
    """Return tar's arguments for the source of the package, as `make deb` copies it."""
    copied = re.findall(r"^PACKAGED := (.*)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)[0].split()
    return ["-C", str(PROJECT), *copied]


def _companion() -> list[str]:
    """Return the same for the companion."""
    (wheels,) = (PROJECT / ".cache/core").glob("*[0-9]")
    names = [f"{wheels.name}/{wheel.name}" for wheel in wheels.glob("*.whl")]
    renamed = f"--transform=s,^{re.escape(wheels.name)}/,wheels/,"
    return [renamed, "-C", str(PROJECT / "core"), "debian", "-C", str(wheels.parent), *names]


def _build(builder: Builder, package: list[str], *options: str) -> bytes:
    """Build a package as `make deb` does and return it."""
    source = builder.folder / "source"
    source.mkdir(parents=True)
    tar = subprocess.run(["tar", "-c", "--exclude=__pycache__", *package], check=True, capture_output=True)
    unpack = ["tar", "-C", str(source), "-x", "--no-same-permissions", "--no-same-owner", "--touch"]
    subprocess.run(unpack, input=tar.stdout, check=True, umask=builder.umask)
    for path in builder.folder.rglob("*"):
        os.utime(path, (builder.modified, builder.modified), follow_symlinks=False)
        os.chown(path, builder.uid, builder.uid, follow_symlinks=False)
    os.chown(builder.folder, builder.uid, builder.uid)
    done = subprocess.run(
        [*builder.clock, "dpkg-buildpackage", "-b", "-us", "-uc", *options],
        cwd=source,
        env={"PATH": os.environ["PATH"], "HOME": str(builder.folder)} | builder.environment,
        umask=builder.umask,
        user=builder.uid,
        group=builder.uid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (deb,) = builder.folder.glob("*.deb")
    return deb.read_bytes()


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a folder that another user reaches, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="gandi-agent-build-", dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "options"),
    [(_agent, ()), (_companion, ("-d", "-aamd64")), (_companion, ("-d", "-aarm64"))],
    ids=["agent", "companion-amd64", "companion-arm64"],
)
def test_the_same_files_make_the_same_package(
    place: Path, package: Callable[[], list[str]], options: tuple[str, ...]
) -> None:
    """In another folder, at another time, with another umask, locale and time zone, as another user, from
    files that are older or newer.
    """
    usual = Builder(place / "a", 0o022, {"LC_ALL": "C.UTF-8", "TZ": "UTC"}, 1_600_000_000)
    another = Builder(
        place / "another-folder/of-another-length",
        0o077,
        {"LC_ALL": "tr_TR.UTF-8", "LANGUAGE": "tr", "TZ": "Pacific/Kiritimati", "USER": "builder"},
        2_000_000_000,
        UID,
        ("faketime", "-f", LATER),
    )
    assert _build(usual, package(), *options) == _build(another, package(), *options)
