"""What was wrong with delivered bytes, told so that the person who wrote them can act. Never a value: it
may be a secret.
"""

from __future__ import annotations

from agent.lib.records import dataclass
from agent.lib.text import printable

#: Characters of delivered text (a key, a member's name) that go into a message.
_SHOWN = 80
#: Problems that are told one by one; the rest is counted.
TOLD = 50


@dataclass(frozen=True, slots=True)
class Problem:
    """``path`` names the place (``vif[0].pna[1].pna_address``), ``hint`` the remedy.

    ``harmless`` marks what was only ignored (an unknown key): nothing that was asked for is missing.
    """

    path: str
    message: str
    hint: str = ""
    harmless: bool = False


def shown(text: str) -> str:
    """Delivered text as it may stand in a log line: one line, printable, short."""
    safe = printable(text[: _SHOWN + 1])
    return safe if len(safe) <= _SHOWN else safe[:_SHOWN] + "…"


def bounded(problems: list[Problem]) -> list[Problem]:
    """Each once, and no more than people read."""
    once = list(dict.fromkeys(problems))
    more = len(once) - TOLD
    if more <= 0:
        return once
    # What is missing comes before what was only ignored.
    once.sort(key=lambda problem: problem.harmless)
    return [*once[:TOLD], Problem("the document", f"{more} more problems", "correct those above first")]
