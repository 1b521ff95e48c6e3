"""A NIC's rare values: each renderer names those that its manager cannot express. Pure.

The ordinary values, which every manager can express, are not listed.
"""

from __future__ import annotations

from agent.lib.records import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from agent.config.nics import Nic
    from agent.network import Renderer
    from agent.network.interfaces import Link

    #: A value's key in the model ("routes.type"), its path ("routes[1].type"), and the value itself.
    Rare = tuple[str, str, Any]

#: Those of the ordinary values that are in the same records.
_ORDINARY = (
    *("routes.destination", "routes.gateway", "routes.on_link", "routes.metric"),
    *("bond.mode", "bond.miimon", "bond.xmit_hash_policy", "bond.lacp_rate", "bond.primary"),
    "addresses.address",
)

#: The rare values of a port of a bond or bridge, which may be one itself.
_OF_PORTS = ("bond.", "bridge.", "set_mac", "activation_mode")


def unsupported(renderer: Renderer, link: Link) -> dict[str, str]:
    """Return the values that do not apply to the NIC, by their paths, and why."""
    found = renderer.unsupported(link)
    if link.master:
        of_addresses = (path for key, path, _value in rare(link.nic) if not key.startswith(_OF_PORTS))
        found |= dict.fromkeys(of_addresses, f"a port of {link.master.name} has no addresses of its own")
    return found


def ignored_advertisements(link: Link) -> dict[str, str]:
    """Return what is lost for a manager that ignores router advertisements of which neither an address nor
    the default route is wanted.
    """
    nic = link.nic
    if link.master or nic.loopback or not nic.accept_ra or link.accepts_router_advertisements:
        return {}
    return {"ra_dns": "without an address or a default route of them"} if nic.ra_dns else {}


def rare(nic: Nic) -> list[Rare]:
    """Return the rare values that are not the default. Keys and paths leave out ``options``; what udev sets
    (link_files.py) is not listed.
    """
    found: list[Rare] = []
    for name in ("routes", "rules", "bond", "bridge", "options"):
        if part := getattr(nic, name):
            found += _values("" if name == "options" else name, part)
    return [one for one in found if one[0] not in (*_ORDINARY, "set_name", "wake_on_lan")]


def _values(key: str, value: Any, path: str = "") -> Iterator[Rare]:
    path = path or key
    if isinstance(value, tuple) and value and hasattr(value[0], "__dataclass_fields__"):
        for number, one in enumerate(value):
            yield from _values(key, one, f"{path}[{number}]")
    elif hasattr(value, "__dataclass_fields__"):
        for one in fields(value):
            inner = getattr(value, one.name)
            if inner != one.default:
                below = "" if one.name == "options" else one.name
                yield from _values(_joined(key, below), inner, _joined(path, below))
    else:
        yield key, path, value


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name
