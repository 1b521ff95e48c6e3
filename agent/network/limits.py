"""A NIC's rare values: each renderer names those that its manager cannot express. Pure.

The ordinary values, which every manager can express, are not listed.
"""

from __future__ import annotations

import re

from agent.config.nics import Nic
from agent.lib.records import fields, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

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


def left_out(link: Link, paths: Iterable[str]) -> Link:
    """Return the link without the values of these paths."""
    nic = link.nic
    for path in paths:
        nic = without(nic, path)
    pairs = [(planned, route) for planned, route in zip(link.routes, nic.routes, strict=True) if route]
    lists = {
        name: tuple(one for one in getattr(nic, name) if one is not None)
        for name in ("addresses", "routes", "rules", "nameservers")
    }
    routes = tuple(replace(route, metric=planned.metric) for planned, route in pairs)
    return replace(link, nic=_changed(nic, **lists), routes=routes)


def without(nic: Nic, path: str) -> Nic:
    """Return the NIC without the value of a path, in lists with None in its place. A route or a rule without
    its type, its table or one of its conditions would be another one: it goes as a whole.
    """
    found = re.fullmatch(r"([a-z0-9_]+)(?:\[([0-9]+)\])?\.?(.*)", path)
    if not found:
        raise ValueError(path)
    key, rest = found[1], found[3]
    record: Any = nic.options if nic.options and hasattr(nic.options, key) else nic
    changed = getattr(record, key)
    if found[2]:
        place = int(found[2])
        whole = key == "rules" or rest in ("type", "table", "") or changed[place] is None
        one = None if whole else _reset(changed[place], rest)
        changed = (*changed[:place], one, *changed[place + 1 :])
    else:
        changed = _reset(changed, rest) if rest else _default(record, key)
    record = _changed(record, **{key: changed})
    return record if isinstance(record, Nic) else _changed(nic, options=record)


def _reset(record: Any, name: str) -> Any:
    """Return the record with the default of a field that it, or the record in its ``options``, has."""
    if hasattr(record, name):
        return _changed(record, **{name: _default(record, name)})
    return _changed(record, options=_reset(record.options, name))


def _changed(record: Any, **values: object) -> Any:
    return replace(record, **values)


def _default(record: Any, name: str) -> object:
    return next(field.default for field in fields(record) if field.name == name)


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
