"""Commands that only add or delete a route, as the ``up`` lines of interfaces(5) have them: read by words,
never run.

Format: ip-route(8), route(8).
"""

from __future__ import annotations

import re

from agent.config.nics import Route, RouteOptions
from agent.lib import text
from agent.reader.common import fields, network_fields
from agent.reader.common.values import Choice, Whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_FOLDERS = ("/sbin/", "/usr/sbin/", "/bin/", "/usr/bin/")
#: What a word may consist of. The shell treats any other character specially.
_WORD = re.compile(r"[A-Za-z0-9_./:@+-]+")
_OWN_NAME = ("$IFACE", '"$IFACE"', "${IFACE}", '"${IFACE}"')
#: Follows a command of which the failure does not matter.
_OR_TRUE = (["||", "true"], ["||", ":"], ["||", "/bin/true"])
#: ip(8) accepts its objects cut short.
_OBJECT = ("route", "rout", "rou", "ro", "r")
_TYPES = ("unicast", "local", "blackhole", "unreachable", "prohibit", "throw")
_EVERYWHERE = ("default", "any", "all")
_TABLES = {"default": 253, "main": 254, "local": 255}
_COUNT = Whole(1, 2**32 - 1)
_MAIN = 254


def added(command: str, device: str) -> Route:
    """Return the route of this NIC that the command adds. Raise ValueError for any other command."""
    return _route(command, device, ("add", "append", "replace"))


def is_deletion(command: str, device: str) -> bool:
    """Return whether the command only deletes a route, which goes with its NIC anyway."""
    try:
        _route(command, device, ("del", "delete"))
    except ValueError:
        return False
    return True


def _other() -> ValueError:
    return ValueError(
        "not a command that only adds a route; write for example ip route add 10.0.0.0/8 via …"
    )


def _route(command: str, device: str, verbs: tuple[str, ...]) -> Route:
    words = [device if word in _OWN_NAME else word for word in text.words(command)]
    if words[-2:] in _OR_TRUE:
        words = words[:-2]
    if not words or not all(map(_WORD.fullmatch, words)):
        raise _other()
    program, *words = words
    for folder in _FOLDERS:
        program = program.removeprefix(folder)
    try:
        if program == "ip":
            return _by_ip(words, device, verbs)
        if program == "route":
            return _by_route(words, device, verbs)
    except IndexError:
        pass
    raise _other()


def _by_ip(words: list[str], device: str, verbs: tuple[str, ...]) -> Route:
    version = 4
    while words[0] in ("-4", "-6"):
        version = int(words.pop(0)[1:])
    if words[0] not in _OBJECT or words[1] not in verbs:
        raise _other()
    words = words[2:]
    kind = words.pop(0) if words[0] in _TYPES else "unicast"
    if words[0] == "to":
        words.pop(0)
    written = words.pop(0)
    said = _ip_options(words)
    if said.get("dev", device) != device:
        raise ValueError("a route of another NIC; write it into the stanza of that one")
    options = RouteOptions(
        source=said.get("src"),
        scope=said.get("scope"),
        mtu=said.get("mtu"),
        initcwnd=said.get("initcwnd"),
        initrwnd=said.get("initrwnd"),
    )
    table = said.get("table")
    gateway = said.get("via")
    to = network_fields.destination(network_fields.DEFAULT if written in _EVERYWHERE else written)
    return Route(
        network_fields.toward(to, gateway, version),
        str(gateway) if gateway else None,
        on_link=said.get("onlink", False),
        metric=said.get("metric"),
        table=None if table == _MAIN else table,
        type=kind,
        options=None if options == RouteOptions() else options,
    )


def _ip_options(words: list[str]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    while words:
        key = words.pop(0)
        if key == "onlink":
            said[key] = True
        elif key in _IP_READERS:
            if key == "via" and words[0] in ("inet", "inet6"):
                words.pop(0)
            said[key] = _IP_READERS[key](words.pop(0))
        else:
            raise _other()
    return said


_IP_READERS: dict[str, Callable[[str], Any]] = {
    "via": fields.address,
    "dev": str,
    "metric": network_fields.METRIC,
    "table": lambda word: _TABLES.get(word) or _COUNT(word),
    "src": lambda word: str(fields.address(word)),
    "scope": Choice(("global", "link", "host")),
    "mtu": network_fields.MTU,
    "initcwnd": _COUNT,
    "initrwnd": _COUNT,
    # It only says where a route comes from.
    "proto": str,
}


def _by_route(words: list[str], device: str, verbs: tuple[str, ...]) -> Route:
    version, words = _family(words)
    if words.pop(0) not in verbs:
        raise _other()
    more, words = _family(words)
    version = max(version, more)
    flag = words.pop(0) if words[0] in ("-net", "-host") else ""
    written = words.pop(0)
    said: dict[str, str] = {}
    while words:
        key = words.pop(0)
        if key in ("netmask", "gw", "metric", "dev"):
            said[key] = words.pop(0)
        elif key == device and not words:
            said["dev"] = key
        else:
            raise _other()
    if said.get("dev", device) != device:
        raise ValueError("a route of another NIC; write it into the stanza of that one")
    gateway = fields.address(said["gw"]) if "gw" in said else None
    if written == network_fields.DEFAULT:
        to = network_fields.toward(written, gateway, version)
    elif "netmask" in said and "/" not in written:
        to = network_fields.destination(f"{written}/{network_fields.prefix(said['netmask'], version)}")
    elif flag == "-net" and "/" not in written:
        raise ValueError("a network without a netmask; write its prefix, for example 10.0.0.0/8")
    else:
        to = network_fields.destination(written)
    metric = network_fields.METRIC(said["metric"]) if "metric" in said else None
    return Route(to, str(gateway) if gateway else None, metric=metric)


def _family(words: list[str]) -> tuple[int, list[str]]:
    """Return the IP version that the options say, 4 by default, and the words after them."""
    if words[0] in ("-4", "-6"):
        return int(words[0][1:]), words[1:]
    if words[0] in ("--inet", "--inet6"):
        return 6 if words[0].endswith("6") else 4, words[1:]
    if words[0] == "-A" and words[1] in ("inet", "inet6"):
        return 6 if words[1] == "inet6" else 4, words[2:]
    return 4, words
