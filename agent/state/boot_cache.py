"""The CPUs, memory and NICs seen so far in this boot: a JSON file for each kind below /run/gandi.

The files outlive the daemon: what the administrator has taken offline stays so after a restart of the
agent, and after any ``udevadm trigger``.
"""

from __future__ import annotations

import json

from agent.lib.canonical_json import parsed_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from agent.host.host import Host

CPUS, MEMORY, NICS, QUEUES = "cpus", "memory", "nics", "queues"


def load(host: Host, kind: str) -> dict[str, Any] | None:
    """Return what was stored for a kind in this boot; None before the first scan, or if the file is
    damaged.
    """
    text = host.read(_file(kind))
    if text is None:
        from agent.state import settled  # late: needed in a boot without a stage only

        return settled.seen_at_boot(host, kind)
    return parsed_object(text)


def store(host: Host, kind: str, value: Mapping[str, Any]) -> None:
    """Store the value of a kind for the rest of this boot."""
    host.mkdir("/run/gandi")
    host.write(_file(kind), json.dumps(value, sort_keys=True) + "\n", mode=0o600)


def _file(kind: str) -> str:
    return f"/run/gandi/{kind}.json"
