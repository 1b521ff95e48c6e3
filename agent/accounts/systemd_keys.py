"""Root's keys of systemd's credential ssh.authorized_keys.root. systemd-tmpfiles writes them to a file only
while there is none (its provision.conf), and may come after the agent.
"""

from __future__ import annotations

from agent.accounts import authorized_keys, passwd
from agent.lib.text import lines
from agent.report import changed, unchanged
from agent.systemd.credentials import KEYS, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.host.host import Host
    from agent.report import Item


def keys(host: Host) -> list[str]:
    """Return the credential's lines that have a key."""
    return [line for line in lines(text(host, KEYS)) if passwd.key_blob(line)]


def write_first(host: Host) -> Iterator[Item]:
    """Write root's file of keys, if there is none yet: systemd would leave the agent's without its own."""
    found, owner = keys(host), passwd.account(host, "root")
    if not found or owner is None:
        return
    number = f"{len(found)} key{'' if len(found) == 1 else 's'}"
    # An empty file is the administrator's, who has removed the keys.
    if host.exists(passwd.keys_file(host, owner)):
        there = authorized_keys.lines(host, owner)
        left = sum(key in there for key in found)
        yield unchanged(KEYS, f"root has {left} of the {number} of systemd's credential")
        return
    authorized_keys.add(host, owner, "\n".join(found))  # all or none: the next boot finds a file
    yield changed(KEYS, f"written as systemd would: {number} of its credential")
