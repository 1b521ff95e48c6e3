"""What of this machine's CPUs, memory and NICs has been seen in this boot: a file for each kind below
/run/gandi, gone with the power.

It outlives the daemon, so that what the administrator took away stays away whoever looks next, and however
often udev is told to say everything again.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from agent.host.host import Host

CPUS, MEMORY, NICS, QUEUES = "cpus", "memory", "nics", "queues"


def load(host: Host, kind: str) -> dict[str, Any] | None:
    """What was stored of that kind in this boot; None where nobody has looked yet, or the file is
    damaged.
    """
    text = host.read(_file(kind))
    if text is None:
        from agent.state import settled  # in a boot in which no stage looked

        return settled.seen_at_boot(host, kind)
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def store(host: Host, kind: str, value: Mapping[str, Any]) -> None:
    """Remember it for the rest of this boot."""
    host.mkdir("/run/gandi")
    host.write(_file(kind), json.dumps(value, sort_keys=True) + "\n", mode=0o600)


def _file(kind: str) -> str:
    return f"/run/gandi/{kind}.json"
