"""Find files on a drive by name, in each spelling that ISO 9660 allows.

Plain ISO 9660 has upper case and ``_`` for a hyphen (level 2 and 3), or eight and three characters (level
1). The kernel's isofs shows the names in lower case or unchanged, with or without ``;1``.
"""

from __future__ import annotations

import operator
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_SHORT_STEM, _SHORT_END = 8, 3


class DriveNames:
    """The file names of a drive."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = sorted(names)
        self._folded = {name: [_folded(step) for step in name.split("/")] for name in self._names}

    def find(self, wanted: str) -> str | None:
        """Return the drive's spelling of a path: exact, folded or cut to 8.3 characters. None if missing."""
        if wanted in self._folded:
            return wanted
        steps = [_folded(step) for step in wanted.split("/")]
        for alike in (operator.eq, _cut):
            for name in self._names:
                found = self._folded[name]
                if len(found) == len(steps) and all(map(alike, found, steps)):
                    return name
        return None

    def below(self, folder: str) -> list[str]:
        """Return the names of the folders directly below a folder, folded."""
        steps = [_folded(step) for step in folder.split("/")]
        found = [folded for folded in self._folded.values() if len(folded) > len(steps) + 1]
        return sorted({f[len(steps)] for f in found if all(map(_cut, f, steps))})


def _folded(step: str) -> str:
    return re.sub(r";[0-9]+\Z", "", step).rstrip(".").lower().replace("-", "_")


def _cut(found: str, wanted: str) -> bool:
    """Return whether the found name is the wanted one, or that cut to eight and three characters."""
    stem, _, end = found.rpartition(".") if "." in found else (found, "", "")
    whole, _, whole_end = wanted.rpartition(".") if "." in wanted else (wanted, "", "")
    cut_stem = len(stem) >= _SHORT_STEM and whole.startswith(stem)
    cut_end = len(end) == _SHORT_END and whole_end.startswith(end)
    return (stem == whole or cut_stem) and (end == whole_end or cut_end)
