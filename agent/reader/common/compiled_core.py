"""Import pydantic's compiled core without the Python modules that describe it to type checkers.

``import pydantic_core`` also imports ``core_schema``, two hundred TypedDicts and functions that return plain
dicts, and with it typing_extensions and inspect: half of the reader's cost at each first boot. The schemas
of lenient.py are such dicts already, so the package's ``__init__`` is not run. If a release has another
layout, the package is imported the usual way. The reader is tested with the oldest release that is allowed,
with Debian's and with the newest.
"""

from __future__ import annotations

# The core imports it at its first error, when the reader can open no file any more.
import collections.abc  # noqa: F401
import sys
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NAME = "pydantic_core"


def _plant() -> None:
    """Put a package with only the compiled module's two classes into ``sys.modules``.

    Raise an exception of any type if they are missing or an error has not the expected form.
    """
    found = next(filter(None, (finder.find_spec(_NAME, None) for finder in sys.meta_path)), None)
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
    raise ImportError(f"{_NAME}: unexpected result")


if _NAME not in sys.modules:
    try:
        _plant()
    except Exception:
        # The compiled module stays in sys.modules: it can be initialised only once.
        sys.modules.pop(_NAME, None)

from pydantic_core import SchemaValidator, ValidationError  # noqa: E402

__all__ = ["SchemaValidator", "ValidationError"]
