"""Lines of the kernel's files that have another form than its documentation says: left out, and reported."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host

#: The files that were reported by this process.
_reported = set[str]()


def report(host: Host, name: str, line: str) -> None:
    """Say in the journal that a line of the file ``name`` is left out; once for each file, since the file is
    read again for each event.
    """
    if name in _reported:
        return
    _reported.add(name)
    from agent.systemd.journal import Journal

    Journal(host).unread(name, line)
