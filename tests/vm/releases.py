"""The releases of Debian on their architectures, their images, and the table in README.md of what was shown
on each.

A test of ``test_releases.py`` records below build/releases each promise that held, or not; ``make test-all``
writes the table from that (``python -m tests.vm.releases``). What was not run again keeps its cell.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from tests.vm import plugged, sample
from tests.vm.rig import (
    GIB,
    Architecture,
    Image,
    ImageSpec,
    Machine,
    MachineSpec,
    Release,
    RigError,
    build,
    newest_deb,
)
from tests.vm.rig.paths import PROJECT, locked

FOUND = PROJECT / "build/releases"
README = PROJECT / "README.md"
BEGIN, END = "<!-- made by make test-all -->\n", "<!-- until here -->\n"
#: The primes of an RSA key take an emulated machine of another architecture a minute.
NO_RSA_KEY = "systemd.mask=gandi-sshdkeygen-rsa.service"


@dataclass(frozen=True, slots=True)
class Target:
    """A release on an architecture."""

    release: Release
    architecture: Architecture = Architecture.AMD64

    def __str__(self) -> str:
        """Return it as in the names of tests and files."""
        foreign = "" if self.architecture is Architecture.AMD64 else f"-{self.architecture}"
        return f"{self.release}{foreign}"

    @property
    def spec(self) -> MachineSpec:
        """Return the sample's machine."""
        if self.architecture is Architecture.AMD64:
            return sample.SPEC
        return replace(sample.SPEC, cmdline=(*sample.SPEC.cmdline, NO_RSA_KEY))


BOOKWORM, TRIXIE, TESTING = (Target(release) for release in Release)
ARM64 = Target(Release.TRIXIE, Architecture.ARM64)
NAMES = {
    BOOKWORM: "Debian 12",
    TRIXIE: "Debian 13",
    TESTING: "Debian testing",
    ARM64: "Debian 13 on arm64",
}
_TESTS = "tests/vm/test_releases.py"
#: The rows of the table: what is promised, and the test that shows it.
VERSIONS = "systemd, Python, kernel"
CORE = "pydantic's core"
FIRST_BOOT = "first boot from the archive in the swap disk"
DISK = "a disk attached, grown, detached"
NIC = "a network interface attached, detached"
LATER_BOOT = "a later boot with nothing new"
UPGRADE = "the package upgraded with a disk mounted"
DRIVE = "first boot from a configuration drive"
NEXT_RELEASE = "upgraded to the next release of Debian with the package on it"
ROWS = {
    VERSIONS: "",
    CORE: "",
    FIRST_BOOT: "test_the_core_promises",
    DISK: "test_the_core_promises",
    NIC: "test_the_core_promises",
    LATER_BOOT: "test_the_core_promises",
    UPGRADE: "test_the_core_promises",
    DRIVE: "test_a_configuration_drive",
    NEXT_RELEASE: "test_the_next_release",
}
NOTHING = "-"


def debs(target: Target) -> tuple[Path, ...]:
    """Return the packages for a release. Raise RigError if one was not built."""
    if target.release is not Release.BOOKWORM:
        return (newest_deb(),)
    pattern = f"gandi-agent-core_*_{target.architecture}.deb"
    built = sorted((PROJECT / "dist").glob(pattern), key=lambda deb: deb.stat().st_mtime)
    if not built:
        raise RigError(f"no {pattern} in {PROJECT / 'dist'}; run: make deb")
    return newest_deb(), built[-1]


def image(target: Target) -> Image:
    """Return the sample's image of a release. The agent alone configures NICs."""
    files = (*sample.FILES, plugged.NOBODYS)
    return build(
        ImageSpec(release=target.release, architecture=target.architecture, debs=debs(target), files=files)
    )


def image_before(target: Target, following: Release) -> Image:
    """Return the sample's image of a release, with the packages of the following one downloaded: no guest
    has a network.
    """
    lines = (
        f"sed -i 's/{target.release}/{following}/' /etc/apt/sources.list",
        "apt-get -q update",
        # Of no use to the rig, and the longest part in an emulated guest.
        "echo update_initramfs=no > /etc/initramfs-tools/update-initramfs.conf",
        "DEBIAN_FRONTEND=noninteractive apt-get -q -y --download-only full-upgrade",
    )
    files = (*sample.FILES, plugged.NOBODYS)
    return build(
        ImageSpec(release=target.release, debs=debs(target), files=files, commands=lines, size=2 * GIB)
    )


class Shown:
    """What was shown on one release, in a file of its own: workers run several at a time."""

    def __init__(self, target: Target) -> None:
        self._file = FOUND / f"{target}.json"

    @contextmanager
    def promise(self, row: str) -> Iterator[None]:
        """Record whether the block, which shows what the row says, held."""
        today = datetime.now(UTC).date().isoformat()
        try:
            yield
        except BaseException:
            self._record(row, f"failed {today}")
            raise
        self._record(row, today)

    def versions(self, vm: Machine) -> None:
        """Record what the guest has."""
        systemd = vm.output("systemctl --version").split()[1]
        python = vm.output("python3 -V").split()[1]
        kernel = ".".join(vm.output("uname -r").split(".")[:2])
        self._record(VERSIONS, f"{systemd}, {'.'.join(python.split('.')[:2])}, {kernel}")
        core = "gandi-agent-core python3-pydantic-core"
        query = f"dpkg-query -W -f '${{db:Status-Status}} ${{Package}} ${{Version}}\\n' {core}"
        (installed,) = vm.output(f"{query} 2>/dev/null | grep '^installed '").splitlines()
        _, package, version = installed.split()
        self._record(CORE, f"{package} {re.split('[-+]', version)[0]}")

    def _record(self, row: str, cell: str) -> None:
        FOUND.mkdir(parents=True, exist_ok=True)
        with locked(f"shown-{self._file.stem}"):
            rows = json.loads(self._file.read_text()) if self._file.exists() else {}
            self._file.write_text(json.dumps(rows | {row: cell}, indent=1))


def table(page: str, found: dict[Target, dict[str, str]]) -> str:
    """Return the page with the table renewed; what was not found keeps its cell."""
    head, _, rest = page.partition(BEGIN)
    old, _, tail = rest.partition(END)
    cells = _cells(old)
    lines = [
        f"| | {' | '.join(NAMES.values())} | test |",
        f"|---|{'---|' * (len(NAMES) + 1)}",
    ]
    for row, test in ROWS.items():
        now = [found.get(r, {}).get(row) or cells.get((row, name), NOTHING) for r, name in NAMES.items()]
        lines.append(f"| {row} | {' | '.join(now)} | {f'`{_TESTS}::{test}`' if test else ''} |")
    return f"{head}{BEGIN}" + "".join(f"{line}\n" for line in lines) + f"{END}{tail}"


def _cells(old: str) -> dict[tuple[str, str], str]:
    """Return the cells of a table by the names of their row and column."""
    head, *rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in old.splitlines()] or [
        []
    ]
    return {
        (row[0], name): cell
        for row in rows
        if row[0] in ROWS
        for name, cell in zip(head[1:], row[1:], strict=True)
    }


def main() -> None:
    """Renew the table in README.md."""
    found = {
        target: json.loads(file.read_text())
        for target in NAMES
        if (file := FOUND / f"{target}.json").exists()
    }
    README.write_text(table(README.read_text(), found))


if __name__ == "__main__":
    main()
