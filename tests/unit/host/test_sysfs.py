"""Names as sysfs spells them."""

from __future__ import annotations

from agent.host import sysfs


def test_a_slash_in_a_name_is_an_exclamation_mark_in_sysfs() -> None:
    assert sysfs.devnode("vdb1") == "/dev/vdb1"
    assert sysfs.devnode("cciss!c0d0p1") == "/dev/cciss/c0d0p1"
