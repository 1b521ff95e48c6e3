"""Report lines of the kernel's files in an undocumented format, which are left out."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host

#: The files that this process has reported.
_reported = set[str]()


def report(host: Host, name: str, line: str) -> None:
    """Write to the journal that a line of the file ``name`` is left out; once for each file, which is read
    again for each event.
    """
    if name in _reported:
        return
    _reported.add(name)
    from agent.systemd.journal import Journal

    Journal(host).unread(name, line)
