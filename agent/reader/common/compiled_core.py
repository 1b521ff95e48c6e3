"""Import pydantic's compiled core without the Python modules that describe it to type checkers.

``import pydantic_core`` also imports ``core_schema``, two hundred TypedDicts and functions that return plain
dicts, and with it typing_extensions and inspect: half of the reader's cost at each first boot. The schemas
of lenient.py are such dicts already, so the package's ``__init__`` is not run. If a release has another
layout, the package is imported the usual way; if there is none, or one that is too old, the companion
package's is used. The reader is tested with the oldest release that is allowed, with Debian's and with the
newest.
"""

from __future__ import annotations

# The core imports it at its first error, when the reader can open no file any more.
import collections.abc  # noqa: F401
import sys
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_NAME = "pydantic_core"
#: The oldest release that is tested, pydantic 2.10's: major and minor number.
OLDEST = (2, 27)


def _installed() -> Iterable[str] | None:
    """Return where the distribution has the package; None without one."""
    found = next(filter(None, (finder.find_spec(_NAME, None) for finder in sys.meta_path)), None)
    return found.submodule_search_locations if found else None


def _plant(places: Iterable[str] | None) -> None:
    """Put a package with only the compiled module's two classes into ``sys.modules``.

    Raise an exception of any type if they are missing or too old, or an error has not the expected form.
    """
    package: Any = ModuleType(_NAME)
    package.__path__ = places
    sys.modules[_NAME] = package
    from pydantic_core._pydantic_core import SchemaValidator, ValidationError, __version__

    _need_recent(__version__)
    try:
        SchemaValidator({"type": "list"}, {"hide_input_in_errors": True}).validate_python(0)
    except ValidationError as error:
        (wrong,) = error.errors(include_url=False, include_context=False)
        if (wrong["type"], wrong["loc"], wrong["input"]) == ("list_type", (), 0):
            package.SchemaValidator, package.ValidationError = SchemaValidator, ValidationError
            return
    raise ImportError(f"{_NAME}: unexpected result")


def _need_recent(version: str) -> None:
    major, minor, _ = version.split(".", 2)
    if (int(major), int(minor)) < OLDEST:
        raise ImportError(f"{_NAME}: {version} is too old")


def _is_of_use() -> bool:
    """Return whether the distribution's package, imported whole, is there and recent."""
    try:
        import pydantic_core

        _need_recent(pydantic_core.__version__)
    except Exception:
        return False
    return True


if _NAME not in sys.modules:
    try:
        _plant(_installed())
    except Exception:
        # The compiled module stays in sys.modules: it can be initialised only once.
        sys.modules.pop(_NAME, None)
        if not _is_of_use():
            from agent.reader.common import companion

            companion.use(_plant, _NAME)

from pydantic_core import SchemaValidator, ValidationError  # noqa: E402

__all__ = ["SchemaValidator", "ValidationError"]
