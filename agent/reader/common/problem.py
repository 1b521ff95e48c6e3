"""Problems of a delivered document, for the person who wrote it. They never contain a value, which may be
a secret.
"""

from __future__ import annotations

from agent.lib.records import dataclass
from agent.lib.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: The severities of problems. An *error* means that something delivered is lost; *unsupported*, that
#: something well-formed will not happen; *harmless*, that nothing is missing.
ERROR, UNSUPPORTED, HARMLESS = "error", "unsupported", "harmless"
#: Maximum characters of delivered text (a key, a member's name) in a message.
_SHOWN = 80
#: Problems that are listed; the others are only counted.
MAX_PROBLEMS = 50


@dataclass(frozen=True, slots=True)
class Problem:
    """``path`` is the place (``vif[0].pna[1].pna_address``), ``hint`` the remedy."""

    path: str
    message: str
    hint: str = ""
    severity: str = ERROR

    @property
    def harmless(self) -> bool:
        """Whether nothing that was delivered is missing."""
        return self.severity == HARMLESS

    @property
    def is_error(self) -> bool:
        """Whether something that was delivered is lost."""
        return self.severity == ERROR


def shown(text: str) -> str:
    """Return delivered text for a log line: printable, one line, at most 80 characters."""
    safe = printable(text[: _SHOWN + 1])
    return safe if len(safe) <= _SHOWN else safe[:_SHOWN] + "…"


def path(location: Iterable[int | str]) -> str:
    """Return a place in a document as messages show it: ``vif[0].pna[1].pna_address``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{shown(step)}" for step in location)
    return text.removeprefix(".")


def bounded(problems: list[Problem]) -> list[Problem]:
    """Return the problems without duplicates, at most ``MAX_PROBLEMS`` and the number of the others."""
    once = list(dict.fromkeys(problems))
    more = len(once) - MAX_PROBLEMS
    if more <= 0:
        return once
    # Problems that leave something out come before harmless ones.
    once.sort(key=lambda problem: (ERROR, UNSUPPORTED, HARMLESS).index(problem.severity))
    return [
        *once[:MAX_PROBLEMS],
        Problem("the document", f"{more} more problems", "correct those above first"),
    ]
