"""A timeline as one drawing: SVG, light or dark as the reader prefers, without a script. Pure functions."""

from __future__ import annotations

from html import escape

from agent.lib.text import printable
from agent.timeline.critical import INITRD, KERNEL, SYSTEMD, total
from agent.timeline.text import shortened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agent.timeline.assembled import Timeline
    from agent.timeline.critical import Part
    from agent.timeline.events import Event

_WIDTH, _LEFT, _RIGHT, _MARGIN = 1080, 330, 90, 14
#: Height of a bar, of a row, and of what stands between two groups.
_BAR, _ROW, _SPACE = 12, 18, 20
#: Characters of a name beside its bar, and of a line across the drawing.
_NAME, _LINE = 42, 140
#: Marks of an axis, at most.
_TICKS = 8
#: Names of classes: colours on a light ground, on a dark one.
_COLOURS = {
    "back": ("#ffffff", "#0d1117"),
    "ink": ("#1f2328", "#e6edf3"),
    "soft": ("#59636e", "#9198a1"),
    "rule": ("#d8dee4", "#2a313a"),
    "kernel": ("#57606a", "#b1bac4"),
    "systemd": ("#8250df", "#ab7df8"),
    "unit": ("#2da44e", "#3fb950"),
    "waited": ("#d1d9e0", "#3d444d"),
    "own": ("#0969da", "#4493f8"),
    "disk": ("#bf6a02", "#f0883e"),
    "failed": ("#cf222e", "#ff7b72"),
}
_TEXT = """text { font: 12px system-ui, "DejaVu Sans", sans-serif; }
.head { font-weight: 600; font-size: 14px; }
.end { text-anchor: end; }
.middle { text-anchor: middle; }"""
_KEYS = (
    ("kernel", "kernel"),
    ("systemd", "systemd"),
    ("unit", "unit"),
    ("own", "gandi-agent"),
    ("disk", "disk"),
    ("waited", "waited"),
    ("failed", "failed"),
)
#: Colours between the marks of an event, by the mark before.
_BETWEEN = {"kernel": "kernel", "udev": "systemd", "daemon": "unit", "begun": "own"}


class _Page:
    """The shapes of the drawing, and where the next row goes."""

    def __init__(self, last: float) -> None:
        self.shapes: list[str] = []
        self.y = 26.0
        #: Pixels of a second.
        self.scale = (_WIDTH - _LEFT - _RIGHT) / last

    def at(self, seconds: float) -> float:
        """Return the place of a time."""
        return _LEFT + seconds * self.scale

    def head(self, text: str) -> None:
        """Add a line in larger letters."""
        self.text(_MARGIN, self.y, shortened(text, _LINE), "head ink")
        self.y += _ROW

    def text(self, x: float, y: float, text: str, kind: str) -> None:
        """Add a text."""
        self.shapes.append(f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(printable(text))}</text>')

    def bar(self, begin: float, end: float, colour: str) -> None:
        """Add a bar of this row, visible however short it is."""
        x, width = self.at(begin), max(1.0, (end - begin) * self.scale)
        self.rect(x, self.y - _BAR + 2, width, _BAR, colour)

    def rect(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Add a filled rectangle."""
        where = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        self.shapes.append(f'<rect class="{colour}" {where}/>')

    def keys(self) -> None:
        """Add what the colours mean."""
        x = float(_MARGIN)
        for colour, text in _KEYS:
            self.rect(x, self.y - 10, 11, 11, colour)
            self.text(x + 16, self.y, text, "ink")
            x += 44 + 7 * len(text)
        self.y += _ROW

    def axis(self, last: float, height: float) -> None:
        """Add the seconds above the rows that follow, each with a line down through them."""
        step = _step(last)
        for number in range(int(last / step) + 1):
            x = self.at(number * step)
            self.text(x, self.y, f"{number * step:g} s", "middle soft")
            self.rect(x, self.y + 5, 1, height, "rule")
        self.y += _ROW + 2


def svg(found: Timeline) -> str:
    """Return the drawing."""
    groups = [
        ("Critical path to ssh: each part waited for the one above it", found.path),
        ("Stages and their steps", found.stages),
        ("Data disks", found.disks),
        ("The document's programs", found.scripts),
    ]
    rows = [part for _, parts in groups for part in _flat(parts)]
    last = max((part.end for part in rows), default=1.0) or 1.0
    page = _Page(last)
    page.head(_title(found))
    page.keys()
    for note in found.notes:
        page.text(_MARGIN, page.y, shortened(note, _LINE), "soft")
        page.y += _ROW
    for title, parts in groups:
        if parts:
            _group(page, title, parts, last)
    if found.events:
        _events(page, found.events)
    height = page.y + 6
    size = f'viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" height="{height:.0f}"'
    dark = f"@media (prefers-color-scheme: dark) {{\n{_fills(1)}\n}}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(_title(found))}</title>",
        f"<style>\n{_TEXT}\n{_fills(0)}\n{dark}\n</style>",
        f'<rect class="back" x="0" y="0" width="{_WIDTH}" height="{height:.0f}"/>',
        *page.shapes,
        "</svg>\n",
    ]
    return "\n".join(lines)


def _title(found: Timeline) -> str:
    if not found.path:
        return "Timeline of this boot"
    added = total(found.path)
    return (
        f"ssh is reachable {found.reached:.2f} s after the kernel's start; the path adds up to {added:.2f} s"
    )


def _fills(ground: int) -> str:
    return "\n".join(f".{name} {{ fill: {colours[ground]}; }}" for name, colours in _COLOURS.items())


def _step(last: float) -> float:
    """Return the seconds between two marks of an axis: 1, 2 or 5 times a power of ten."""
    power = 0.001
    while True:
        for factor in (1, 2, 5):
            if last / (factor * power) <= _TICKS:
                return factor * power
        power *= 10


def _flat(parts: Iterable[Part], depth: int = 0) -> Iterator[Part]:
    """Yield the parts that have a row: of the inner ones those that can be seen or have failed."""
    for part in parts:
        if not depth or part.seconds >= 0.01 or part.note:
            yield part
            yield from _flat(part.inner, depth + 1)


def _group(page: _Page, title: str, parts: Sequence[Part], last: float) -> None:
    page.y += _SPACE
    page.head(title)
    page.axis(last, _ROW * len(list(_flat(parts))) + 6)
    inner = {id(one) for part in parts for one in _flat(part.inner, 1)}
    for part in _flat(parts):
        is_inner = id(part) in inner
        name = part.name + (f" ({part.note})" if part.note else "")
        page.text(_LEFT - 10, page.y, shortened(name, _NAME), "end soft" if is_inner else "end ink")
        if part.waited:
            page.bar(part.begin - part.waited, part.begin, "waited")
        page.bar(part.begin, part.end, _colour(part, title, is_inner=is_inner))
        page.text(page.at(part.end) + 6, page.y, f"{part.seconds:.3f}", "soft")
        page.y += _ROW


def _colour(part: Part, title: str, *, is_inner: bool) -> str:
    if part.note == "failed":
        return "failed"
    if title == "Data disks":
        return "disk"
    if part.name in (KERNEL, INITRD):
        return "kernel"
    if part.name == SYSTEMD:
        return "systemd"
    is_own = is_inner or part.name.startswith("gandi-") or not title.startswith("Critical")
    return "own" if is_own else "unit"


def _events(page: _Page, events: Sequence[Event]) -> None:
    """Add each event on a scale of its own group: they are hours apart, and each takes moments."""
    page.y += _SPACE
    page.head("Device events, from the kernel's message, udev's record, the daemon's start, its work")
    last = max(event.seconds for event in events) or 1.0
    page.scale = (_WIDTH - _LEFT - _RIGHT) / last
    page.axis(last, _ROW * 2 * len(events) + 6)
    for event in events:
        first = event.marks[0][1]
        name = f"at {first:.1f} s: {event.device}: {event.outcome}"
        page.text(_LEFT - 10, page.y, shortened(name, _NAME), "end ink")
        for (mark, begin), (_, end) in zip(event.marks, event.marks[1:], strict=False):
            is_last = end == event.done
            colour = "failed" if event.outcome == "failed" and is_last else _BETWEEN[mark]
            page.bar(begin - first, end - first, colour)
        page.text(page.at(event.seconds) + 6, page.y, f"{event.seconds:.3f}", "soft")
        page.y += _ROW
        text = event.text + (" (to the second)" if event.is_rough else "")
        page.text(_LEFT, page.y, shortened(text, 100), "soft")
        page.y += _ROW
