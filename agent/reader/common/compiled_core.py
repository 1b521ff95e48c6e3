"""pydantic's compiled core, without the modules that describe it to people and type checkers.

``import pydantic_core`` also imports ``core_schema``, two hundred TypedDicts and functions that make plain
dicts of their arguments, and with it typing_extensions and inspect: half of what the reader cost at each
first boot. The schemas of lenient.py are such dicts already. So the package's own ``__init__`` is left out.
The compiled module is tried first; a release with another layout is imported as everyone does. What is read
in the reader is tested with the oldest release that is allowed, Debian's and the newest.
"""

from __future__ import annotations

# The core imports it at its first error, when nothing can be opened any more.
import collections.abc  # noqa: F401
import sys
from importlib.machinery import PathFinder
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NAME = "pydantic_core"


def _plant() -> None:
    """Make a package of the compiled module's two classes. Raise an exception of any type where they are not
    there, or do not answer as they should.
    """
    found = PathFinder.find_spec(_NAME)
    package: Any = ModuleType(_NAME)
    package.__path__ = found and found.submodule_search_locations
    sys.modules[_NAME] = package
    from pydantic_core._pydantic_core import SchemaValidator, ValidationError

    try:
        SchemaValidator({"type": "list"}, {"hide_input_in_errors": True}).validate_python(0)
    except ValidationError as error:
        (wrong,) = error.errors(include_url=False, include_context=False)
        if (wrong["type"], wrong["loc"], wrong["input"]) == ("list_type", (), 0):
            package.SchemaValidator, package.ValidationError = SchemaValidator, ValidationError
            return
    raise ImportError(f"{_NAME}: another answer than expected")


if _NAME not in sys.modules:
    try:
        _plant()
    except Exception:
        # The compiled module stays where it was loaded: it can be initialised only once.
        sys.modules.pop(_NAME, None)

from pydantic_core import SchemaValidator, ValidationError  # noqa: E402

__all__ = ["SchemaValidator", "ValidationError"]
