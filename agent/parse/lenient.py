"""One bad item does not spoil the rest: validate, leave out what is wrong by its path, validate again.

pydantic tells all errors of a document at once with their paths, so a document is declared strictly, in one
place, and still applied as far as it is good.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from agent.parse.problem import Problem, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Problems that are told one by one; the rest is counted.
TOLD = 50
#: Each round leaves out at least one item on each path that was wrong; nesting bounds their number.
_ROUNDS = 20


class Strict(BaseModel):
    """A part of a delivered document: an unknown key is an error here, and left out by ``validate``."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


Model = TypeVar("Model", bound=Strict)


def validate(model: type[Model], document: dict[str, Any]) -> tuple[Model, list[Problem]]:
    """The document as far as it is good, and each item that had to be left out.

    Every field of ``model`` needs a default, or lies in a list whose items may be None: that is what a list
    item becomes that is wrong as a whole. ``document`` is changed.
    """
    known = frozenset(_keys(model))
    problems: list[Problem] = []
    told: set[tuple[int | str, ...]] = set()
    for _ in range(_ROUNDS):
        try:
            return model.model_validate(document), _bounded(problems)
        except ValidationError as error:
            for wrong in error.errors(include_url=False, include_context=False, include_input=False):
                missing = wrong["type"] == "missing"
                # What was left out a round ago may be missing now: the item around it goes, told already.
                if not (missing and wrong["loc"] in told):
                    problems.append(_problem(wrong["type"], wrong["loc"], wrong["msg"], known))
                told.add(wrong["loc"])
                _leave_out(document, wrong["loc"][:-1] if missing else wrong["loc"])
    return model(), [*_bounded(problems), Problem("the document", "wrong throughout", "see the format")]


def path(location: Iterable[int | str]) -> str:
    """A place in a document as people write it: ``vif[0].pna[1].pna_address``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{shown(step)}" for step in location)
    return text.removeprefix(".")


def _problem(kind: str, location: tuple[int | str, ...], message: str, known: frozenset[str]) -> Problem:
    if kind == "extra_forbidden":
        return Problem(path(location), "unknown key", _near(str(location[-1]), known), harmless=True)
    if kind == "missing":
        return Problem(path(location), "missing", "without it the item around it is left out")
    said = message.removeprefix("Value error, ")
    said, _, hint = said.partition("; ")
    return Problem(path(location), said, hint or "correct it in the document and deliver it again")


def _near(key: str, known: frozenset[str]) -> str:
    near = difflib.get_close_matches(key[:80], known, n=1)
    return f"did you mean {near[0]}?" if near else "it has no effect"


def _leave_out(document: Any, location: tuple[int | str, ...]) -> None:
    """Remove the item; one of a list becomes None, so that the others keep their numbers."""
    *above, last = location
    for step in above:
        document = document[step] if _has(document, step) else None
    if _has(document, last):
        if isinstance(last, int):
            document[last] = None
        else:
            del document[last]


def _has(container: Any, step: int | str) -> bool:
    match container, step:
        case list(), int():
            return step < len(container)
        case dict(), str():
            return step in container
    return False


def _bounded(problems: list[Problem]) -> list[Problem]:
    once = list(dict.fromkeys(problems))
    more = len(once) - TOLD
    tail = (
        [Problem("the document", f"{more} more problems", "correct those above first")] if more > 0 else []
    )
    return once[:TOLD] + tail


def _keys(model: type[BaseModel]) -> Iterable[str]:
    """Every key of the model and of the models within it."""
    for name, declared in model.model_fields.items():
        yield name
        yield from _within(declared.annotation)


def _within(annotation: Any) -> Iterable[str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from _keys(annotation)
    for inner in getattr(annotation, "__args__", ()):
        yield from _within(inner)
