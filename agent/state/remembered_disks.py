"""What is remembered of data disks, by the UUID of a filesystem: its mountpoint, its size and others.

A machine may see any number of disks in its life, so only the latest are kept.
"""

from __future__ import annotations

from agent.state import json_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from agent.host.host import Host

FILE = f"{json_file.FOLDER}/disks.json"
#: Filesystems at most: several times as many as a machine has at once.
MOST = 1024


def load(host: Host) -> dict[str, Any]:
    """Return the facts. Raise Damaged, or HostError, as ``json_file.load``."""
    return json_file.section(host, FILE, "disks", dict)


def add(host: Host, uuid: str, facts: Mapping[str, object]) -> None:
    """Add facts about a filesystem; None removes one. Of more than MOST, those are forgotten of which the
    facts changed longest ago, but for those with a folder of the agent's ("made"), which is removed with its
    disk.
    """
    disks = load(host)
    entry = {k: v for k, v in (disks.get(uuid, {}) | facts).items() if v is not None}
    if entry == disks.get(uuid):
        return
    disks[uuid] = entry
    order = _in_order(host, disks, uuid)
    old = [one for one in order[:-1] if not disks[one].get("made")]
    for one in old[: max(0, len(disks) - MOST)]:
        del disks[one]
        order.remove(one)
    json_file.store(host, FILE, {"disks": disks, "order": order})


def _in_order(host: Host, disks: Mapping[str, Any], latest: str) -> list[str]:
    """Return the UUIDs of these filesystems in the order of their last change. Those that an older agent has
    stored come first.
    """
    found: object = (json_file.load(host, FILE) or {}).get("order")
    texts = [one for one in found if isinstance(one, str)] if isinstance(found, list) else []
    known = [one for one in dict.fromkeys(texts) if one in disks and one != latest]
    return [*sorted(disks.keys() - {latest, *known}), *known, latest]
