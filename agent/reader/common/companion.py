"""The package gandi-agent-core: pydantic's compiled core for a release with none, or one that is too old.

This module is imported only if the distribution's core is of no use, so the folder never hides a newer one,
and no other program looks there.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FOLDER = "/usr/lib/gandi-agent-core"


def use(plant: Callable[[Iterable[str]], None], name: str) -> None:
    """Have ``plant`` load the package ``name`` from the folder, if that is there.

    Raise ImportError if its module is not for this Python.
    """
    place = os.path.join(FOLDER, name)
    if os.path.isdir(place):
        # An old one may have been loaded.
        for module in [one for one in sys.modules if one.partition(".")[0] == name]:
            del sys.modules[module]
        plant([place])
