"""pydantic's compiled core, without the modules that describe it to people and type checkers.

``import pydantic_core`` also imports ``core_schema``, two hundred TypedDicts and functions that make plain
dicts of their arguments, and with it typing_extensions and inspect: half of what the reader cost at each
first boot. The schemas of lenient.py are such dicts already. The package's own ``__init__`` is left out,
nothing of it is replaced: type checkers see the library as it is.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pydantic_core import SchemaValidator, ValidationError
else:
    # The core imports it at its first error, when nothing can be opened any more.
    import collections.abc  # noqa: F401

    if "pydantic_core" not in sys.modules:
        found = PathFinder.find_spec("pydantic_core")
        if found is None:
            raise ModuleNotFoundError("pydantic_core (the distribution's python3-pydantic-core)")
        package = sys.modules["pydantic_core"] = ModuleType("pydantic_core")
        package.__path__ = found.submodule_search_locations
    from pydantic_core._pydantic_core import SchemaValidator, ValidationError

__all__ = ["SchemaValidator", "ValidationError"]
