"""The platform's metadata of the machine (service offering, zone, tags), for programs in it.

The stored configuration is readable by root only. The metadata holds no secrets, so a copy in /run is
readable by all users; the user data, which often holds some, is for root.
"""

from __future__ import annotations

import os

from agent.lib.canonical_json import canonical, parsed
from agent.lib.errors import ConfigError, HostError
from agent.state.store import USER_DATA

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.host.host import Host
    from agent.state.store import State

FILE = "/run/gandi/metadata.json"


def publish(host: Host, values: Mapping[str, str]) -> None:
    """Write the values to FILE, readable by all users until the next boot."""
    host.write(FILE, canonical(dict(values)))


def keys(host: Host, state: State) -> list[str]:
    """Return the keys that this user may read, sorted; for root that includes the user data."""
    user_data = os.geteuid() == 0 and _user_data(state) is not None
    return sorted([*_values(host), *([USER_DATA] if user_data else [])])


def value(host: Host, state: State, key: str) -> bytes:
    """Return the value of ``key``. Raise ConfigError if it was not delivered or is not for this user."""
    if key == USER_DATA:
        if os.geteuid():
            raise ConfigError(f"{key}: must be run as root", hint=f"sudo gandi-agent get {key}")
        data = _user_data(state)
        if data is not None:
            return data
    elif (found := _values(host).get(key)) is not None:
        return found.encode("utf-8", "surrogateescape")
    known = ", ".join(keys(host, state)) or "nothing"
    raise ConfigError(f"{key}: not delivered by the platform", hint=f"delivered: {known}")


def _user_data(state: State) -> bytes | None:
    return None if state.identity() is None else state.host.read_bytes(state.user_data())


def _values(host: Host) -> dict[str, str]:
    try:
        found = parsed(host.read(FILE) or "{}")
    except (ValueError, RecursionError) as error:
        raise HostError(f"{FILE}: damaged", hint="run: systemctl restart gandi-bootstrap") from error
    return found if isinstance(found, dict) else {}
