"""The verb ``withdraw``, run by the RPM before it is erased: remove what the agent wrote on its own account.

docs/removal.md has the table of what goes and what stays; on Debian postrm does the same at a purge. A file
goes if it is as the agent left it, by the digest in its record. The record goes with it: otherwise a later
installation would take the missing file for one that the administrator has removed.
"""

from __future__ import annotations

import os

from agent.config.settings import SettingsFile
from agent.disks.base.automounter import AUTOFS_LINK
from agent.host import terminal
from agent.lib.errors import HostError
from agent.metrics.exposition import PREFIX
from agent.report import changed, failed, kept
from agent.state.store import State
from agent.steps import motd, plugins, sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.host.host import Host
    from agent.report import Item

#: Files, each with its item in the record of the system's own items.
FILES = {sysctl.FILE: "sysctl", motd.FILE: "motd"}
#: Links, each with its target, which is the package's, the agent's or only read because of the link.
LINKS = {
    AUTOFS_LINK: "/usr/share/gandi-agent/gandi.autofs",
    plugins.LIB: plugins.SHIPPED_LIB,
    sysctl.LINK: sysctl.CUSTOMERS,
    motd.LINK: motd.TEXT,
}
#: The item of a link that is reconciled.
_ITEMS = {motd.LINK: "motd"}
#: How a file of metrics begins (agent/metrics/exposition.py), and bytes that are read of it.
_METRICS, _HEAD = f"# HELP {PREFIX}", 64


def withdraw(host: Host) -> int:
    """Remove the files and links, print each, and return 1 if one could not be removed."""
    status = 0
    for name, remove in (
        *((name, _file) for name in FILES),
        *((name, _link) for name in LINKS),
        (SettingsFile(host).current().metrics_file, _metrics),
    ):
        try:
            terminal.print_lines(*remove(host, name))
        except HostError as error:
            terminal.print_error(failed(name, error.message, error.hint))
            status = 1
    return status


def _file(host: Host, name: str) -> Iterator[Item]:
    state, live = State(host).system(), host.read(name)
    if live is None or _target(host, name):
        return
    if state.is_as_applied(FILES[name], live):
        host.remove(name)
        state.forget(FILES[name])
        yield changed(name, "removed")
    else:
        yield kept(name)


def _link(host: Host, name: str) -> Iterator[Item]:
    if _target(host, name) == LINKS[name]:
        host.remove(name)
        if name in _ITEMS:
            State(host).system().forget(_ITEMS[name])
        yield changed(name, "removed")


def _metrics(host: Host, name: str) -> Iterator[Item]:
    """Remove the file of CONFIG_METRICS_FILE: no process will replace its values any more."""
    if name and not _target(host, name) and (host.read(name, limit=_HEAD) or "").startswith(_METRICS):
        host.remove(name)
        yield changed(name, "removed")


def _target(host: Host, name: str) -> str:
    """Return the target of the link, "" if the name is no link."""
    folder, _, last = name.rpartition("/")
    try:
        return os.readlink(os.path.join(host.path(folder), last))
    except OSError:
        return ""
