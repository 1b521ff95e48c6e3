"""Step: show the machine's name and the agent's state at login (pam_motd(8)).

On Debian a program in /etc/update-motd.d; if there is only /etc/motd.d, a link to a text that is written
at each boot. The text comes from the package's gandi-motd and a template that the operator may replace.
"""

from __future__ import annotations

from functools import partial

from agent.host.chroot_path import link_target
from agent.report import skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

PROGRAM = "/usr/lib/gandi-agent/gandi-motd"
#: Debian's programs, run at each login (update-motd(5)); Fedora's texts, read at each login.
PROGRAMS, TEXTS = "/etc/update-motd.d", "/etc/motd.d"
FILE, LINK = f"{PROGRAMS}/15-gandi", f"{TEXTS}/gandi"
TEXT = "/run/gandi/motd"
#: The program of PROGRAMS; it prints nothing, and no error, once the package is removed.
LINES = f"""\
#!/bin/sh
# Written by gandi-agent; once changed or removed, it is left alone. Its text: /etc/gandi/motd.template
[ ! -x {PROGRAM} ] || exec {PROGRAM}
"""


def apply(ctx: Context) -> Iterator[Item]:
    """Reconcile the program, or the link, as one item."""
    host, reconcile = ctx.host, partial(ctx.state.system().reconcile, "motd")
    if host.exists(PROGRAMS):
        live, write = host.read(FILE), partial(host.write, FILE, LINES, mode=0o755)
        yield reconcile(delivered=FILE, wanted=LINES, live=live, apply=write, detail=FILE)
    elif host.exists(TEXTS):
        if host.live:
            host.write(TEXT, host.run((PROGRAM,), changes=False).stdout)
        live, link = _live(host), partial(host.symlink, LINK, TEXT)
        yield reconcile(delivered=LINK, wanted=TEXT, live=live, apply=link, detail=LINK)
    else:
        yield skipped("motd", f"there is neither {PROGRAMS} nor {TEXTS}")


def _live(host: Host) -> str | None:
    """Return the link's target, "" for anything else in its place, None if there is nothing."""
    target = link_target(host, LINK)
    return "" if target is None and host.exists(LINK) else target
