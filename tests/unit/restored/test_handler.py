"""What the daemon reports of the clock, which was set before."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.context import context
from agent.host.host import Host
from agent.restored import handler


@pytest.mark.parametrize(
    ("noted", "outcome"),
    [
        (
            "changed: was 600.2 s behind the RTC: set by date\n",
            "changed: clock: was 600.2 s behind the RTC: set by date",
        ),
        ("unchanged: 0.4 s ahead of the RTC\n", "unchanged: clock: 0.4 s ahead of the RTC"),
        (
            "failed: 600.2 s behind the RTC: date: cannot set date\n",
            f"failed: clock: 600.2 s behind the RTC: date: cannot set date ({handler._LOG})",
        ),
        ("", f"failed: clock: not compared with another ({handler._LOG})"),
        ("odd: text\n", f"failed: clock: not compared with another ({handler._LOG})"),
        ("changed", f"failed: clock: not compared with another ({handler._LOG})"),
    ],
)
def test_it_is_reported_once(tmp_path: Path, noted: str, outcome: str) -> None:
    note = tmp_path / handler._CLOCK.lstrip("/")
    note.parent.mkdir(parents=True)
    note.write_text(noted)
    (item,) = handler._clock(context(Host(tmp_path)))
    assert str(item) == outcome
    assert not note.exists()


def test_without_a_note_it_says_so(tmp_path: Path) -> None:
    (item,) = handler._clock(context(Host(tmp_path)))
    assert str(item).startswith("failed: clock: not compared")
