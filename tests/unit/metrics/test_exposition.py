"""The text of the metrics: Prometheus' own parser, its rules for names, and the golden file metrics.prom."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.metrics.exposition import Counts, grown, render

GOLDEN = Path(__file__).parent / "metrics.prom"
PROJECT = Path(__file__).parents[3]
STAGES: dict[str, Any] = {
    "bootstrap": {
        "state": "done",
        "ended": 1003,
        "seconds": 8.4104,
        "steps": [{"items": [{"outcome": "changed"}, {"outcome": "kept"}]}, {"items": []}],
    },
    "mount": {
        "state": "failed",
        "ended": 1004,
        "seconds": 0.3,
        "steps": [{"items": [{"outcome": "failed"}]}],
    },
    "config": {"state": "running", "since": 1005, "steps": []},
}
DISKS = {"mounted": 2, "released": 0, "failed": 1}
COUNTS = Counts({"disk changed": 3, "disk failed": 1, "cpu unchanged": 1}, growths=2, last_error=1004)


def check(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return the values by name and labels' values, after Prometheus' parser and rules have passed them."""
    found = {}
    assert text.endswith("\n")
    for family in text_string_to_metric_families(text):
        assert re.fullmatch(r"gandi_agent_[a-z][a-z_]*[a-z]", family.name), family.name
        assert family.documentation.endswith("."), family.name
        assert family.type in ("gauge", "counter"), family.name
        for sample in family.samples:
            assert sample.name.endswith("_total") is (family.type == "counter"), sample.name
            assert not re.search(r"_(?:milliseconds|ms|minutes|count|gauge|counter)(?:_|$)", sample.name)
            key = sample.name, tuple(sample.labels.values())
            assert key not in found, "the same series twice"
            found[key] = sample.value
    return found


def test_the_text_is_that_of_the_golden_file() -> None:
    assert render("0.2.0", STAGES, DISKS, COUNTS) == GOLDEN.read_text()


def test_prometheus_parser_reads_every_value() -> None:
    found = check(render("0.2.0", STAGES, DISKS, COUNTS))
    assert found["gandi_agent_info", ("0.2.0",)] == 1
    assert found["gandi_agent_stage_duration_seconds", ("bootstrap",)] == 8.41
    assert found["gandi_agent_stage_success", ("mount",)] == 0
    assert ("gandi_agent_stage_success", ("config",)) not in found
    assert found["gandi_agent_items", ("kept",)] == 1
    assert found["gandi_agent_items", ("skipped",)] == 0
    assert found["gandi_agent_disks", ("mounted",)] == 2
    assert found["gandi_agent_growths_total", ()] == 2
    assert found["gandi_agent_events_total", ("disk", "failed")] == 1
    assert found["gandi_agent_last_error_timestamp_seconds", ()] == 1004


def test_nothing_yet_is_valid_too() -> None:
    assert check(render("0.2.0", {}, {}, Counts()))["gandi_agent_last_error_timestamp_seconds", ()] == 0


def test_the_check_would_see_a_wrong_name() -> None:
    with pytest.raises(AssertionError):
        check("# HELP gandi_agent_new New.\n# TYPE gandi_agent_new gauge\ngandi_agent_new_total 1\n")
    # Some versions of the parser take it for a family without a text.
    with pytest.raises((ValueError, AssertionError), match=r".+"):
        check('# TYPE gandi_agent_items gauge\ngandi_agent_items{outcome="changed} 1\n')


def test_growth_is_seen_in_what_the_agent_says_of_it() -> None:
    """The texts are those in agent/disks/growth."""
    sources = "".join(path.read_text() for path in (PROJECT / "agent/disks/growth").glob("*.py"))
    assert len(re.findall(r'f"[^"]*grown (?:from|by) \{', sources)) == 3
    assert grown(["grown from 1.00 GiB to 2.00 GiB", "physical volume of vg grown by 1.00 GiB; x"]) == 2
    assert grown(["not grown: the disk has not grown", "mounted at /srv/overgrown from x", ""]) == 0
