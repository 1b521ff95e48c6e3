"""Files of assignments, such as /etc/default/keyboard."""

from __future__ import annotations

from agent.lib import assignments

TEXT = "# a comment\nXKBLAYOUT=us\nexport LANG='C'\nOTHER=1\n"


def test_values() -> None:
    assert assignments.value(TEXT, "XKBLAYOUT") == "us"
    assert assignments.value(TEXT, "LANG") == "C"
    assert assignments.value(TEXT + 'LANG="de"\n', "LANG") == "de", "the last one counts"
    assert assignments.value(TEXT, "LAYOUT") is None


def test_lines_are_replaced_or_added() -> None:
    changed = assignments.with_values(TEXT, {"XKBLAYOUT": "fr", "NEW": "x,y"})
    assert changed == '# a comment\nXKBLAYOUT="fr"\nexport LANG=\'C\'\nOTHER=1\nNEW="x,y"\n'
    assert assignments.with_values("", {"A": "1"}) == 'A="1"\n'
    assert assignments.with_values("\n# x\n\n", {"A": "1"}) == '\n# x\nA="1"\n', "its beginning stays"
    assert assignments.with_values("A=0", {"A": "1"}) == 'A="1"\n', "also without a line end"
