"""sshd's files, what it makes of them, and who could log in."""

from __future__ import annotations

import re
from fnmatch import fnmatch

from agent.accounts import passwd
from agent.host.sysfs import listed
from agent.lib.text import WHITE, joined, lines, words
from agent.systemd import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.context import Context
    from agent.host.host import Host

SSHD = "/usr/sbin/sshd"
FOLDER, CONFIG = "/etc/ssh", "/etc/ssh/sshd_config"
#: The document's options (sshd_options.py): sshd reads it before the agent's other drop-in, and the first
#: value of an option counts.
DELIVERED = "/etc/ssh/sshd_config.d/00-gandi-delivered.conf"
ROOT = "PermitRootLogin"
#: Depth of Include that sshd allows (sshd_config(5)).
_DEEPEST = 16
SETTING = r"(?m)^[ \t\r]*([A-Za-z]+)(?:[ \t\r]*=[ \t\r]*|[ \t\r]+)(.*?)[ \t\r\f]*$"


def files(host: Host, name: str, depth: int = 0) -> dict[str, str]:
    """Return the text of each file of sshd's configuration, by path; Include is followed."""
    text = host.read(name)
    if text is None:
        return {}
    found = {name: text}
    if depth < _DEEPEST:
        for pattern in included({name: text}):
            for path in _matching(host, pattern):
                found |= files(host, path, depth + 1)
    return found


def included(texts: dict[str, str]) -> list[str]:
    """Return the patterns of all Include lines as absolute paths."""
    patterns = [
        word.strip('"')
        for text in texts.values()
        for name, value in re.findall(SETTING, text)
        if name.lower() == "include"
        for word in words(value)
    ]
    return [word if word.startswith("/") else f"{FOLDER}/{word}" for word in patterns]


def _matching(host: Host, pattern: str) -> list[str]:
    folder, _, last = pattern.rpartition("/")
    return [f"{folder}/{name}" for name in listed(host, folder) if fnmatch(name, last)]


def effective_options(host: Host, options: Sequence[str] = ()) -> list[tuple[str, str]] | str:
    """Return each option in force with ``options`` before the files', or, as text, why sshd would not start
    (with file and line).
    """
    given = (word for option in options for word in ("-o", option))
    done = host.run((SSHD, "-T", *given), check=False, changes=False)
    if done.returncode:
        return "; ".join(lines(done.stderr.strip(WHITE))[:2]) or f"exit status {done.returncode}"
    pairs = (line.partition(" ") for line in lines(done.stdout))
    return [(name.lower(), value) for name, _, value in pairs]


def reload(host: Host, *, wait: bool = False) -> str:
    """Reload sshd if it runs already, or start it if it has failed, without waiting for it unless ``wait``;
    return why that failed, or "".
    """
    unit = "ssh.service" if host.exists("/usr/lib/systemd/system/ssh.service") else "sshd.service"
    if not host.live or units.active_state(host, unit) not in ("active", "reloading", "failed"):
        return ""
    how = () if wait else ("--no-block",)
    done = host.run(("systemctl", *how, "reload-or-restart", unit), check=False)
    return joined(done.stderr) if done.returncode else ""


def has_another_way_in(ctx: Context, *, is_root_refused: bool = False) -> bool:
    """Return whether a delivered account can log in when root's password, or all of root, is refused."""
    for user in ctx.config.users if ctx.config else ():
        name = user.name or ctx.settings.default_user
        # The document holds no plain password: those are in ctx.secrets.
        password = (user.password and not user.locked) or ctx.secrets.get(user.name)
        # A sealed one counts if it could be opened: a new account's field is a lock.
        opened = user.sealed and not (passwd.password(ctx.host, name) or "!").startswith(("!", "*"))
        way_in = user.keys or ((password or opened) and name != "root")
        if is_root_refused and name == "root":
            continue
        if way_in and passwd.account(ctx.host, name):
            return True
    return False
