"""How one item's values compare: delivered now, delivered when it was last applied, live. No value is kept.

``State.reconcile`` makes one for its line of debugging, and for ``State.watch``.
"""

from __future__ import annotations

from agent.lib.records import dataclass
from agent.state.adopted import BEFORE_US
from agent.state.json_file import digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SAME, DIFFERS = "same", "differs"
NEVER, MISSING, AS_WANTED, UNKNOWN = "never", "missing", "as wanted", "unknown"


@dataclass(frozen=True, slots=True)
class Compared:
    """One item. ``delivered``: never, same or differs, against the last time; ``live``: missing, as wanted
    or differs; ``left``: whether live is as it was left then: unknown, same or differs.
    """

    name: str
    delivered: str
    live: str
    left: str
    #: Unix time in seconds of the record, None if version 0.1 wrote it or there is none.
    at: int | None = None
    #: It was as wanted when it was first compared: the agent has not written it.
    is_found: bool = False
    #: It stays as it was before the agent (an adopted machine).
    is_before_us: bool = False

    @property
    def is_recorded(self) -> bool:
        """Whether the agent has left the item in some state."""
        return self.delivered != NEVER and not self.is_before_us

    @property
    def has_drifted(self) -> bool:
        """Whether the item is no longer as the agent left it, nor as it is wanted now."""
        return self.is_recorded and self.live != AS_WANTED and self.left != SAME

    def line(self, *, was_cut: bool = False) -> str:
        """Return the line for debugging."""
        cut = ", begun and not ended" if was_cut else ""
        return (
            f"item {self.name}: delivered when last applied: {self.delivered}; live: {self.live};"
            f" live as last left: {self.left}{cut}"
        )


def compare(
    name: str,
    known: Mapping[str, Any] | None,
    *,
    delivered: str | None,
    wanted: str | None,
    live: str | None,
) -> Compared:
    """Compare the values with the item's record ``known``, None if it was never applied.

    ``delivered`` and ``wanted`` are None if they are not known now: the first counts as the same.
    """
    then = NEVER if known is None else SAME
    if known is not None and delivered is not None and known["delivered"] != digest(delivered):
        then = DIFFERS
    now = MISSING if live is None else AS_WANTED if live == wanted else DIFFERS
    left = UNKNOWN
    if known is not None and live is not None:
        left = SAME if known["left"] == digest(live) else DIFFERS
    at = known.get("at") if known else None
    return Compared(
        name,
        then,
        now,
        left,
        at=at if isinstance(at, int) else None,
        is_found=known is not None and "found" in known,
        is_before_us=known is not None and known["left"] == digest(BEFORE_US),
    )
