"""The text of ``gandi-agent timeline``, for terminals of 80 columns. Pure functions."""

from __future__ import annotations

from agent.lib.records import replace
from agent.lib.text import printable
from agent.timeline.critical import total

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.timeline.assembled import Timeline
    from agent.timeline.critical import Part
    from agent.timeline.events import Event

_WIDTH = 80
#: Characters before the name: three columns of numbers.
_NUMBERS = 30
#: Seconds from which a step is shown.
_SHOWN = 0.01


def render(found: Timeline) -> Iterator[str]:
    """Yield the lines."""
    if found.path:
        yield f"ssh: reachable {found.reached:.3f} s after the kernel's start ({found.goal})"
    if found.finished:
        yield f"boot: ended after {found.finished:.3f} s"
    yield from found.notes
    if found.path:
        yield from ("", "critical path to ssh: each part waited for the one above it", _HEAD)
        yield from _rows(found.path)
        yield f"{'':10}{_seconds(total(found.path)):>20}  in all"
    shown = {part.name for part in found.path if part.inner}
    stages = [replace(s, inner=()) if f"gandi-{s.name}.service" in shown else s for s in found.stages]
    for name, parts in (("stages", stages), ("disks", found.disks), ("scripts", found.scripts)):
        if parts:
            yield from ("", f"{name}:", _HEAD, *_rows(parts))
    if found.events:
        yield from ("", "device events, each with its seconds since the first mark:")
        for event in found.events:
            yield from _event(event)


_HEAD = f"{'at s':>10}{'waited':>10}{'took':>10}  what"


def _rows(parts: Iterable[Part], indent: int = 0) -> Iterator[str]:
    for part in parts:
        if indent and part.seconds < _SHOWN and not part.note:
            continue
        waited = f"{part.waited:.3f}" if part.waited >= 0.0005 else ""
        numbers = f"{part.begin:10.3f}{waited:>10}{_seconds(part.seconds):>10}  {'':{indent}}"
        note = f" ({part.note})" if part.note else ""
        yield numbers + shortened(part.name + note, _WIDTH - _NUMBERS - 2 - indent)
        yield from _rows(part.inner, indent + 2)


def _event(event: Event) -> Iterator[str]:
    first = event.marks[0][1]
    shown = ": ".join(filter(None, (event.device, event.outcome, event.text)))
    rough = " (to the second)" if event.is_rough else ""
    yield f"{first:10.3f}  {shortened(shown, _WIDTH - 12 - len(rough))}{rough}"
    yield f"{'':12}" + ", ".join(f"{name} {at - first:.3f}" for name, at in event.marks)


def _seconds(value: float) -> str:
    return f"{value:.3f}"


def shortened(text: str, width: int) -> str:
    """Return printable text of at most ``width`` characters, with its middle left out if it is longer."""
    safe = printable(text)
    if len(safe) <= width:
        return safe
    half = (width - 3) // 2
    return f"{safe[: width - 3 - half]}...{safe[-half:]}"
