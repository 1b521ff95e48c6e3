"""The settings in force as assignments of sh(1), for the operator's programs in that language.

The settings file itself is no answer for them: it has no line for a setting with its default, an invalid
line has no effect on the agent, and what a shell would expand in it is plain text here. Each value is in
single quotes, in which a shell expands nothing.
"""

from __future__ import annotations

import re

from agent.config.settings import FIELDS, assigned
from agent.lib.errors import ConfigError, HostError
from agent.lib.text import WHITE, lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.config.settings import Settings, SettingsFile

#: Where a program of the operator finds them, and the variable of its environment that has this path. The
#: mode is 0600: a setting may hold a token, and the settings file may be closed to users.
FILE, VARIABLE = "/run/gandi/settings.sh", "GANDI_SETTINGS"
MODE = 0o600
_EXPORTED = re.compile(r"export[ \t]")


def shell_text(file: SettingsFile) -> str:
    """Return the assignments: first the file's variables that are no settings, then every setting in force,
    with ``export`` where the file has it. A line that cannot be read as one assignment has none here.
    """
    settings, own, exported = file.current(), dict[str, str](), set[str]()
    try:
        text = file.host.read(file.name) or ""
    except HostError:
        text = ""  # it is among the file's problems, which ``status`` reports
    for line in lines(text):
        try:
            name, value = assigned(line)
        except ConfigError:
            continue
        if not name:
            continue
        if _EXPORTED.match(line.strip(WHITE)):
            exported.add(name)
        if name not in FIELDS:
            own[name] = value
    found = own | {name: spelled(settings, field) for name, field in FIELDS.items()}
    return "".join(
        f"{'export ' if name in exported else ''}{name}={_quoted(value)}\n" for name, value in found.items()
    )


def spelled(settings: Settings, name: str) -> str:
    """Return the value of a field as the settings file has it: 1 or 0 for a switch, words with blanks."""
    value = getattr(settings, name)
    if isinstance(value, bool):
        return str(int(value))
    if name == "disk_format" and not value:
        return "0"
    return " ".join(value) if isinstance(value, tuple) else str(value)


def _quoted(value: str) -> str:
    """Return the value as one word of sh(1), without NUL, which no variable can have."""
    return "'" + value.replace("\0", "").replace("'", "'\\''") + "'"
