"""Compare what two machines became: each difference is listed in docs/formats.md, or a fault."""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[3] / "docs/formats.md"
#: The table's rows: seed, place (both may be globs), and what each does.
_ROW = re.compile(r"^\| `(?P<seed>[^`]+)` \| `(?P<place>[^`]+)` \|", re.MULTILINE)
_HEADING = "## Beside cloud-init\n"


@dataclass(frozen=True)
class Intended:
    """A row of the page's table."""

    seed: str
    place: str

    def fits(self, seed: str, place: str) -> bool:
        """Return whether the row is about this place of this seed."""
        return fnmatchcase(seed, self.seed) and fnmatchcase(place, self.place)


def intended() -> list[Intended]:
    """Return the rows of the table of intended differences."""
    text = PAGE.read_text().partition(_HEADING)[2].partition("\n## ")[0]
    return [Intended(row["seed"], row["place"]) for row in _ROW.finditer(text)]


def differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[object, object]]:
    """Return each place in which the two machines differ, with both values; None for none."""
    left, right = (
        dict(_flat(machine | {"network": _network(machine["network"])})) for machine in (one, other)
    )
    return {
        place: (left.get(place), right.get(place))
        for place in sorted(left.keys() | right.keys())
        if left.get(place) != right.get(place)
    }


def _flat(value: object, at: str = "") -> Iterator[tuple[str, object]]:
    match value:
        case dict():
            for key, inner in value.items():
                yield from _flat(inner, f"{at}.{key}" if at else key)
        case _:
            yield at, value


def _network(files: dict[str, str]) -> dict[str, dict[str, list[str]]]:
    """Return what the files of systemd-networkd say, by the NIC's MAC address or name."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for text in files.values():
        sections = list(_sections(text))
        nic = next((value for _, pairs in sections for key, value in pairs if key in _NAMES), "")
        for section, pairs in sections:
            if section == "Route":
                found[nic]["routes"].append(_route(dict(pairs)))
            for key, value in pairs if section != "Route" else ():
                _note(found[nic], section, key, value)
    return {nic: {key: sorted(set(values)) for key, values in said.items()} for nic, said in found.items()}


_NAMES = ("MACAddress", "Name")
_PLAIN = {
    ("Network", "Address"): "addresses",
    ("Address", "Address"): "addresses",
    ("Network", "VLAN"): "vlans",
    ("VLAN", "Id"): "id",
    ("NetDev", "Kind"): "kind",
    ("Link", "MTUBytes"): "mtu",
}


def _note(said: dict[str, list[str]], section: str, key: str, value: str) -> None:
    if (section, key) in _PLAIN:
        said[_PLAIN[section, key]].append(value)
    elif (section, key) == ("Network", "Gateway"):
        said["routes"].append(_route({"Gateway": value}))
    elif (section, key) in (("Network", "DNS"), ("Network", "Domains")):
        said[key].extend(value.split())
    elif (section, key) == ("Network", "DHCP"):
        kinds = {"yes": ["ipv4", "ipv6"], "no": []}
        said["dhcp"].extend(kinds.get(value, [value]))


def _route(pairs: dict[str, str]) -> str:
    gateway = pairs.get("Gateway", "")
    everything = "::/0" if ":" in gateway else "0.0.0.0/0"
    destination = ipaddress.ip_network(pairs.get("Destination", everything), strict=False)
    more = [f"{key.lower()} {pairs[key]}" for key in ("Metric", "Table", "Type") if key in pairs]
    return " ".join([str(destination), *(["via", gateway] if gateway else []), *more])


def _sections(text: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    for part in re.split(r"^\[", text, flags=re.MULTILINE)[1:]:
        name, _, body = part.partition("]\n")
        yield name, re.findall(r"^([A-Za-z0-9]+)=(.*)$", body, re.MULTILINE)
