"""Step: who this machine is and how its agent is doing, told at login: a link to our program in the folder
of pam_motd's programs, or, where there is only one for texts, a link to its text of this boot.

The program is a small shell file that the package owns; what it says comes from a template.
"""

from __future__ import annotations

import os

from agent.report import skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.host import Host
    from agent.report import Item

PROGRAM = "/usr/lib/gandi-agent/gandi-motd"
#: Debian's, run at each login (pam_motd(8), update-motd(5)); Fedora's, read at each login.
PROGRAMS, TEXTS = "/etc/update-motd.d", "/etc/motd.d"
TEXT = "/run/gandi/motd"


def apply(ctx: Context) -> Iterator[Item]:
    """Settle the link as one item."""
    host = ctx.host
    if host.exists(PROGRAMS):
        folder, name, target = PROGRAMS, "15-gandi", PROGRAM
    elif host.exists(TEXTS):
        folder, name, target = TEXTS, "gandi", TEXT
        if host.live:
            host.write(TEXT, host.run((PROGRAM,), changes=False).stdout)
    else:
        yield skipped("motd", f"there is neither {PROGRAMS} nor {TEXTS}")
        return
    yield ctx.state.system().settle(
        "motd",
        delivered=f"{folder}/{name}",
        wanted=target,
        live=_live(host, folder, name),
        apply=lambda: host.symlink(f"{folder}/{name}", target),
        detail=f"{folder}/{name}",
    )


def _live(host: Host, folder: str, name: str) -> str | None:
    """Where the link leads; the name itself for what the administrator has put in its place."""
    path = os.path.join(host.path(folder), name)
    if os.path.islink(path):
        return os.readlink(path)
    return name if os.path.exists(path) else None
