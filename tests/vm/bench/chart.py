"""The page's two tables as one drawing: SVG, light or dark as the reader prefers, without a script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from tests.vm.bench.contenders import Contender
from tests.vm.bench.measure import PARTS
from tests.vm.bench.page import Case, Counted, Figure, figures, shares

_WIDTH, _LABELS, _GAP = 1080, 300, 44
#: Height of a bar, and of what stands between two kinds of boot.
_BAR, _ROW, _SPACE = 15, 19, 16
_SHADES = ("own", "udevd", "pid1", "services", "kernel")
#: Names of classes: colours on a light ground, on a dark one.
_COLOURS = {
    "back": ("#ffffff", "#0d1117"),
    "ink": ("#1f2328", "#e6edf3"),
    "soft": ("#59636e", "#9198a1"),
    "other": ("#aab4be", "#59636e"),
    "target": ("#cf222e", "#ff7b72"),
    "own": ("#0969da", "#4493f8"),
    "udevd": ("#e16f24", "#f0883e"),
    "pid1": ("#8250df", "#ab7df8"),
    "services": ("#2da44e", "#3fb950"),
    "kernel": ("#57606a", "#b1bac4"),
}
_TEXT = """text { font: 13px system-ui, "DejaVu Sans", sans-serif; }
.head { font-weight: 600; font-size: 15px; }
.end { text-anchor: end; }"""


def svg(counted: Counted) -> str:
    """The drawing: above the agent beside cloud-init with a mark at each target, below what the delay of ssh
    is made of.
    """
    compared = list(figures(counted))
    names = list(dict.fromkeys(figure.name for figure in compared))[:2]
    wide = (_WIDTH - _LABELS - 2 * _GAP) / 2
    parts: list[str] = []
    y = 30.0
    parts += _legend(y)
    top = y + 40
    for index, name in enumerate(names):
        left = _LABELS + index * (wide + _GAP)
        y = top
        parts += _bars(
            [figure for figure in compared if figure.name == name], left, top, wide, is_named=not index
        )
    y = top + 24 + len(Case) * (2 * _ROW + _SPACE) + 30
    parts += [
        _text(10, y, "What the delay of ssh is made of (M instructions over the plain image)", "head ink")
    ]
    parts += _keys(y + 24)
    stacked = list(_stacks(counted))
    parts += _stacked(stacked, y + 44)
    height = y + 60 + len(stacked) * _ROW + _SPACE * (len(Case) - 1)
    size = f'viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" height="{height:.0f}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        "<title>What gandi-agent and cloud-init cost a boot</title>",
        f"<style>\n{_TEXT}\n{_fills(0)}\n@media (prefers-color-scheme: dark) {{\n{_fills(1)}\n}}\n</style>",
        _rect(0, 0, _WIDTH, height, "back"),
        *parts,
        "</svg>\n",
    ]
    return "\n".join(lines)


def _fills(ground: int) -> str:
    return "\n".join(f".{name} {{ fill: {colours[ground]}; }}" for name, colours in _COLOURS.items())


# -- the agent beside cloud-init -----------------------------------------------------------------


def _legend(y: float) -> Iterator[str]:
    for x, colour, text in ((10, "own", "gandi-agent"), (140, "other", "cloud-init")):
        yield _rect(x, y - 11, 13, 13, colour)
        yield _text(x + 20, y, text)
    yield _rect(257, y - 14, 3, 18, "target")
    yield _text(
        267, y, "target: the agent's bar ends before it. The percentage is the agent's of cloud-init's."
    )


def _bars(
    of_one: Sequence[Figure], left: float, top: float, width: float, *, is_named: bool
) -> Iterator[str]:
    yield _text(left, top, f"{of_one[0].name} ({of_one[0].unit})", "head ink")
    compared = [figure for figure in of_one if figure.target is not None]
    scale = (width - 110) / max(max(figure.of.values()) for figure in compared)
    y = top + 18
    for figure in of_one:
        if is_named:
            yield _text(_LABELS - 12, y + _ROW + 3, figure.case, "end ink")
        if figure.target is not None:
            agent, other = (figure.of[who] for who in (Contender.AGENT, Contender.CLOUD_INIT))
            number, mark = ".1f" if figure.unit == "s" else ".0f", other * figure.target * scale
            yield _rect(left, y, agent * scale, _BAR, "own")
            yield _rect(left + mark - 1.5, y - 3, 3, _BAR + 6, "target")
            beyond = left + max(agent * scale, mark) + 8
            yield _text(beyond, y + 12, f"{agent:{number}} = {figure.ratio:.0%}")
            yield _rect(left, y + _ROW, other * scale, _BAR, "other")
            yield _text(left + other * scale + 8, y + _ROW + 12, f"{other:{number}}", "soft")
        else:
            yield _text(left, y + _ROW + 3, "not compared: the time of an RSA key is chance", "soft")
        y += 2 * _ROW + _SPACE


# -- what the delay is made of -------------------------------------------------------------------


def _stacks(counted: Counted) -> Iterator[tuple[str, str, list[float]]]:
    """The kind of boot where it begins, who, and the parts; one below zero has no bar."""
    for case in Case:
        if case is not Case.KEYS:
            title = str(case)
            for who, parts in shares(counted, case).items():
                yield title, str(who), [parts[name] for name in PARTS]
                title = ""


def _keys(y: float) -> Iterator[str]:
    x = 10.0
    for name, colour in zip(PARTS, _SHADES, strict=True):
        yield _rect(x, y - 11, 13, 13, colour)
        yield _text(x + 20, y, name)
        x += 46 + 8 * len(name)


def _stacked(rows: Sequence[tuple[str, str, list[float]]], top: float) -> Iterator[str]:
    left = _LABELS + 140
    scale = (_WIDTH - left - 70) / max(sum(_drawn(parts)) for _, _, parts in rows)
    y = top - _SPACE
    for title, who, parts in rows:
        if title:
            y += _SPACE
            yield _text(_LABELS - 12, y + 12, title, "end ink")
        yield _text(left - 12, y + 12, who, "end soft")
        x = float(left)
        for used, colour in zip(_drawn(parts), _SHADES, strict=True):
            yield _rect(x, y, used * scale, _BAR, colour)
            x += used * scale
        yield _text(x + 8, y + 12, f"{sum(parts):.0f}")
        y += _ROW


def _drawn(parts: Sequence[float]) -> list[float]:
    return [max(0.0, part) for part in parts]


# -- words ---------------------------------------------------------------------------------------


def _rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    where = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{colour}" {where}/>'


def _text(x: float, y: float, text: str, kind: str = "ink") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
