"""The rounds of a soak, as in tests/vm."""

from __future__ import annotations

from tests.vm.campaign import collected, pytest_runtest_teardown, rounds

__all__ = ["collected", "pytest_runtest_teardown", "rounds"]
