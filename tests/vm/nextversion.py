"""Make a later version of the package in dist/: another version number, and newer state files."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

VERSION = "9.0.0"


def build(deb: Path, folder: Path) -> Path:
    """Make a package like ``deb`` with that version, as a file below ``folder``."""
    tree = folder / "next"
    subprocess.run(["dpkg-deb", "-R", deb, tree], check=True)
    package = tree / "usr/lib/gandi-agent/agent"
    _edit(tree / "DEBIAN/control", r"(?m)^Version: .*$", f"Version: {VERSION}")
    _edit(package / "__init__.py", r'__version__ = ".*"', f'__version__ = "{VERSION}"')
    _edit(package / "state/json_file.py", r"(?m)^VERSION = 1$", "VERSION = 2")
    sums = tree / "DEBIAN/md5sums"
    names = [line.split(maxsplit=1)[1] for line in sums.read_text().splitlines()]
    new = [f"{hashlib.md5((tree / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    sums.write_text("".join(new))
    made = folder / f"gandi-agent_{VERSION}_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, made], check=True, capture_output=True)
    return made


def _edit(file: Path, pattern: str, new: str) -> None:
    text, count = re.subn(pattern, new, file.read_text())
    assert count == 1, f"{file} is not as it was thought to be"
    file.write_text(text)
