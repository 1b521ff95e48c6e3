"""The table of what tests cost: what is counted, and what is shown first."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests import cost


class Terminal:
    """What would be written to the terminal."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.section = self.write_line = self.lines.append


def report(name: str, duration: float, *cpu: float) -> pytest.TestReport:
    return pytest.TestReport(
        name, ("", 0, name), {}, "passed", None, "call", duration=duration,
        user_properties=[("rounds", "3 of 10"), *((cost.PROPERTY, seconds) for seconds in cpu)],
    )  # fmt: skip


def test_a_childs_cpu_is_counted_and_what_was_waited_for_is_not() -> None:
    meter = cost.Meter()
    assert meter.spent() > 0
    time.sleep(0.2)
    assert meter.spent() < 0.1
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-S", "-c", busy], check=True)
    assert meter.spent() >= 0.3


def test_what_another_process_used_is_added() -> None:
    meter = cost.Meter()
    meter.spent()
    meter.add(5)
    assert 5 <= meter.spent() < 6
    assert meter.spent() < 1


def test_the_most_expensive_are_shown_first_with_all_their_phases() -> None:
    costs = cost.Costs(shown=2)
    for made in (
        report("cheap", 9, 0.1),
        report("dear", 2, 1.5),
        report("dear", 1, 1),
        report("middle", 1, 2),
    ):
        costs.pytest_runtest_logreport(made)
    terminal = Terminal()
    costs.pytest_terminal_summary(terminal)  # type: ignore[arg-type]
    title, _head, *rows = terminal.lines
    assert "4.6 in 3 tests" in title
    assert [row.split() for row in rows] == [["2.50", "3.00", "dear"], ["2.00", "1.00", "middle"]]


def test_pytest_can_choose_it_by_folder() -> None:
    """In a run of several folders it hashes its plugins."""
    assert len({cost.Costs(shown=1), cost.Costs(shown=1)}) == 2


def test_each_phase_is_reported_with_its_cost(request: pytest.FixtureRequest) -> None:
    assert request.config.pluginmanager.has_plugin("tests.cost")
    phase = cost.pytest_runtest_makereport()
    next(phase)
    cost.METER.add(7)
    with pytest.raises(StopIteration) as ended:
        phase.send(pytest.TestReport("name", ("", 0, "name"), {}, "passed", None, "call"))
    ((name, seconds),) = ended.value.value.user_properties
    assert name == cost.PROPERTY
    assert float(str(seconds)) >= 7
