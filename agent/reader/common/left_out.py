"""Leave items out of a document."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def leave_out(document: Any, location: tuple[int | str, ...]) -> None:
    """Remove an item; in a list it becomes None, so that the others keep their numbers."""
    *above, last = location
    for step in above:
        document = document[step] if _has(document, step) else None
    if _has(document, last):
        if isinstance(last, int):
            document[last] = None
        else:
            del document[last]


def _has(container: Any, step: int | str) -> bool:
    if isinstance(step, int):
        return isinstance(container, list) and step < len(container)
    return isinstance(container, dict) and step in container
