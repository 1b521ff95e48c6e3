"""The page and the drawing of the benchmark, as pure text from invented boots."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.vm.bench import chart, hotplug, measure, page
from tests.vm.bench.contenders import Contender
from tests.vm.bench.hotplug import HotPlug, Plug, Way
from tests.vm.bench.measure import PARTS, Boot
from tests.vm.bench.page import Case

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
TITLES = [
    "## Boots",
    "## CPU used when ssh started",
    "## Memory",
    "## Hot-plug",
    "## Size",
    "## Method",
]
SVG = "{http://www.w3.org/2000/svg}"


def counted(agent: float) -> page.Counted:
    """Return boots in which the agent costs that part of cloud-init's."""
    costs = {Contender.PLAIN: 0.0, Contender.AGENT: agent, Contender.EMPTY: 0.01, Contender.CLOUD_INIT: 1.0}
    boots = {
        who: Boot(
            80 + 20 * cost,
            90,
            2e9 * cost,
            9e9 + 3e9 * cost,
            2e9 * cost,
            dict.fromkeys(PARTS, 5e8 * cost),
            300 << 20,
        )
        for who, cost in costs.items()
    }
    return {case: boots for case in Case}


@pytest.mark.parametrize(
    ("agent", "missed"),
    [
        (0.079, 0),
        # Of later boots with nothing new: ssh alone.
        (0.081, 1),
        (0.5, sum(target is not None for targets in page.TARGETS.values() for target in targets)),
    ],
)
def test_the_page_says_which_targets_are_met(agent: float, missed: int) -> None:
    text = page.recounted(PAGE.read_text(), page.Results("Guest.", counted(agent), {}))
    compared = text.partition("## Boots")[2].partition("\n## ")[0]
    assert compared.count("**NOT met**") == missed
    assert f"{20 * agent:.2f} s | 0.20 s | 20.00 s | {agent:.1%}" in compared


def test_the_part_on_hotplug_stays_where_it_was_not_measured() -> None:
    before = PAGE.read_text()
    text = page.recounted(before, page.Results("Guest.", counted(0.1), {}))
    assert re.findall("^## .*", text, re.MULTILINE) == TITLES
    hotplug = before[before.index("## Hot-plug") : before.index("## Size")]
    assert hotplug in text


@pytest.mark.parametrize(("cost", "processes", "missed"), [(0.5, 0, 0), (1.3, 1, 4)])
def test_the_page_says_which_targets_of_hotplug_are_met(cost: float, processes: int, missed: int) -> None:
    plugs = {way: [Plug(cost if way in hotplug.TARGETS else 1, 1)] for way in Way}
    many = {Way.RESIDENT: {64: 10 * cost}, Way.RULE_FSCK: {64: 10.0}}
    done = HotPlug(plugs, many, memory_one=1 << 20, at_rest=processes)
    text = page.renewed(PAGE.read_text(), done).partition("## Hot-plug")[2].partition("\n## ")[0]
    assert text.count("**NOT met**") == missed
    assert f"Target, 64 at once: at most 80% of the rule; {cost:.0%}" in text


def test_shares_are_what_the_image_noted() -> None:
    noted = "cpu  100 0 50 900 10 0 0 0 0 0\nown 100000\nudevd 200000\npid1 300000\nservices 700000\n"
    assert measure.shares(noted) == {
        "own units": 12.5e6,
        "udevd": 25e6,
        "PID 1": 37.5e6,
        "other services": 50e6,
        "kernel, initrd": 62.5e6,
    }


def test_the_drawing_has_a_bar_for_each_figure_and_a_mark_at_each_target() -> None:
    root = ElementTree.fromstring(chart.svg(counted(0.5)))
    rects: dict[str, list[dict[str, str]]] = {}
    for rect in root.iter(f"{SVG}rect"):
        rects.setdefault(rect.attrib["class"], []).append(rect.attrib)
    # One of each in the legend.
    assert len(rects["target"]) == len(rects["other"]) == 1 + 5 + 4
    ours, other = (float(rects[name][1]["width"]) for name in ("own", "other"))
    assert ours == pytest.approx(other / 2, abs=0.2)
    assert "prefers-color-scheme: dark" in (root.findtext(f"{SVG}style") or "")
    assert not list(root.iter(f"{SVG}script"))
