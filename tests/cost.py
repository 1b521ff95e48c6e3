"""What each test cost, for pytest: at the end of a run, a table of the most expensive ones.

The cost is CPU seconds, which say the same on a busy host: of the test's process, and of the children that
it waited for (each QEMU is one). What is set up for several tests is counted with the first of them.
"""

from __future__ import annotations

import resource
from collections import defaultdict
from collections.abc import Generator
from dataclasses import dataclass, field

import pytest

#: The name of the property of a report that has the CPU seconds of its phase.
PROPERTY = "cpu seconds"


@dataclass
class Meter:
    """The CPU seconds of this process between two readings."""

    _last: float = 0.0
    _added: float = 0.0

    def add(self, seconds: float) -> None:
        """Count CPU seconds of a process that this one does not wait for."""
        self._added += seconds

    def spent(self) -> float:
        """Return the CPU seconds since the last call."""
        uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        now = self._added + sum(use.ru_utime + use.ru_stime for use in uses)
        spent, self._last = now - self._last, now
        return spent


@dataclass
class Cost:
    """The cost of one test: its setup, itself and its teardown."""

    cpu: float = 0.0
    wall: float = 0.0


@dataclass(eq=False)  # a plugin of pytest must be hashable
class Costs:
    """The costs of all tests of a run, also of those that ran in other processes."""

    shown: int
    tests: dict[str, Cost] = field(default_factory=lambda: defaultdict(Cost))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add one phase of a test."""
        cost = self.tests[report.nodeid]
        cost.wall += report.duration
        cost.cpu += sum(float(str(value)) for name, value in report.user_properties if name == PROPERTY)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table."""
        first = sorted(self.tests.items(), key=lambda test: -test[1].cpu)[: self.shown]
        if not first:
            return
        total = sum(cost.cpu for cost in self.tests.values())
        terminalreporter.section(f"CPU seconds: {total:.1f} in {len(self.tests)} tests; the most expensive")
        terminalreporter.write_line("    CPU    wall  test (with what it was the first to set up)")
        for test, cost in first:
            terminalreporter.write_line(f"{cost.cpu:7.2f} {cost.wall:7.2f}  {test}")


#: The meter of this process: `METER.add(seconds)` is for fixtures and the rigs.
METER = Meter()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the number of tests in the table."""
    parser.addoption("--costs", type=int, default=10, metavar="N", help="show the N most expensive tests")


def pytest_configure(config: pytest.Config) -> None:
    """Collect the costs where the reports of all workers arrive."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Costs(config.getoption("costs")), "costs")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Begin to count: what was spent between two tests is not the test's."""
    METER.spent()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Send the cost of a phase with its report, which xdist takes to the main process."""
    report = yield
    report.user_properties.append((PROPERTY, METER.spent()))
    return report
