"""Files of ``NAME=value`` lines that a shell could read, such as /etc/default/keyboard."""

from __future__ import annotations

import re

from agent.lib.text import WHITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def value(text: str, name: str) -> str | None:
    """Return a name's last value without its quotes, None if it has none."""
    found = re.findall(rf"(?m)^[ \t]*(?:export[ \t]+)?{name}=(.*)$", text)
    return found[-1].strip(WHITE).strip("\"'") if found else None


def with_values(text: str, values: Mapping[str, str]) -> str:
    """Return the text with these values, each quoted, in place of the lines that set the names, or at its
    end. The values must be free of quotes, dollars and backslashes.
    """
    for name, new in values.items():
        line = f'{name}="{new}"\n'
        text, count = re.subn(rf"(?m)^[ \t]*(?:export[ \t]+)?{name}=.*\n?", lambda _, line=line: line, text)  # type: ignore[misc]
        if not count:
            text = f"{text.rstrip(WHITE)}\n{line}" if text.strip(WHITE) else line
    return text
