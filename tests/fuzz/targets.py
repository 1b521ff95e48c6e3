"""All targets by name, and the kept inputs of each."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz import disks, drives, images, machine, system_files
from tests.fuzz.target import Target

CORPUS = Path(__file__).parent / "corpus"
_MODULES = (drives, images, disks, system_files, machine)
TARGETS: dict[str, Target] = {target.name: target for module in _MODULES for target in module.TARGETS}


def module_of(name: str) -> str:
    """Return the name of the module that has a target."""
    return next(one.__name__ for one in _MODULES if any(target.name == name for target in one.TARGETS))


def kept(target: Target) -> list[bytes]:
    """Return the inputs of the target's corpus."""
    return [path.read_bytes() for path in sorted((CORPUS / target.name).glob("*"))]
