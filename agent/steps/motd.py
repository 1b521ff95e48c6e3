"""Step: who this machine is and how its agent is doing, told at login: a file among pam_motd's programs, or,
where there is only a folder for texts, a link to the text of this boot.

What is said, and how, is a shell file of the package's and a template, which the operator may replace.
"""

from __future__ import annotations

import os
from functools import partial

from agent.report import skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

PROGRAM = "/usr/lib/gandi-agent/gandi-motd"
#: Debian's programs, run at each login (pam_motd(8), update-motd(5)); Fedora's texts, read at each login.
PROGRAMS, TEXTS = "/etc/update-motd.d", "/etc/motd.d"
FILE, LINK = f"{PROGRAMS}/15-gandi", f"{TEXTS}/gandi"
TEXT = "/run/gandi/motd"
#: It says nothing, and no error, once the package is gone.
LINES = f"""\
#!/bin/sh
# Written by gandi-agent; once changed or removed, it is left alone. Its text: /etc/gandi/motd.template
[ ! -x {PROGRAM} ] || exec {PROGRAM}
"""


def apply(ctx: Context) -> Iterator[Item]:
    """Settle the file, or the link, as one item."""
    host, settle = ctx.host, partial(ctx.state.system().settle, "motd")
    if host.exists(PROGRAMS):
        live, write = host.read(FILE), partial(host.write, FILE, LINES, mode=0o755)
        yield settle(delivered=FILE, wanted=LINES, live=live, apply=write, detail=FILE)
    elif host.exists(TEXTS):
        if host.live:
            host.write(TEXT, host.run((PROGRAM,), changes=False).stdout)
        live, link = _live(host), partial(host.symlink, LINK, TEXT)
        yield settle(delivered=LINK, wanted=TEXT, live=live, apply=link, detail=LINK)
    else:
        yield skipped("motd", f"there is neither {PROGRAMS} nor {TEXTS}")


def _live(host: Host) -> str | None:
    """Where the link leads; "" for what the administrator has put in its place."""
    path = os.path.join(host.path(TEXTS), os.path.basename(LINK))
    if os.path.islink(path):
        return os.readlink(path)
    return "" if os.path.exists(path) else None
