"""Read the keyfiles back that netplan generates for NetworkManager. See ``readback``.

They say less than those that the agent writes. The defaults of the model, and the agent's own metrics of
several NICs, are not compared; what a document says is.
"""

from __future__ import annotations

import configparser
import io
import re

from agent.network.interfaces import Link

from . import readback_networkmanager
from .readback import compared

_GENERATION = {"0": "eui64", "1": "stable-privacy"}


def disagreements(links: tuple[Link, ...], texts: list[str], named: dict[str, dict[str, str]]) -> list[str]:
    """Return where the keyfiles differ from planned links without what is ``named``. lo has none."""
    profiles = [_parsed(text) for text in texts]
    links = tuple(link for link in links if not link.nic.loopback)
    names = {link.key: _profile(link, profiles) for link in links}
    uuids = {names[link.key]["connection"].get("uuid", ""): link.name for link in links}
    methods = {key: profile["ipv6"]["method"] for key, profile in names.items()}
    files = {link.key: {"": _as_the_agents(link, names[link.key], uuids)} for link in links}
    read = readback_networkmanager.read(links, files)
    for link in links:
        _complete(link, read[link.key], methods[link.key], named[link.key])
    return compared("networkmanager", links, read, named)


def _parsed(text: str) -> configparser.ConfigParser:
    profile = configparser.ConfigParser(delimiters="=", interpolation=None, strict=True)
    profile.read_string(text)
    return profile


def _profile(link: Link, profiles: list[configparser.ConfigParser]) -> configparser.ConfigParser:
    """Return the NIC's profile, by its MAC or its name."""
    (found,) = (
        one
        for one in profiles
        if one["connection"].get("interface-name", "") == link.name
        or (
            one["connection"]["type"] == "ethernet"
            and one["ethernet"].get("mac-address") == link.interface.mac
        )
    )
    return found


def _as_the_agents(link: Link, profile: configparser.ConfigParser, uuids: dict[str, str]) -> str:
    """Return the keyfile in the form in which the agent writes one."""
    if "vlan" in profile:
        parent = profile["vlan"]["parent"]
        profile["vlan"]["parent"] = uuids.get(parent, parent)
    if "bond" in profile:
        # For NetworkManager the same option as num_grat_arp.
        profile["bond"].pop("num_unsol_na", None)
    for group in ("ipv4", "ipv6"):
        if link.master:
            profile.remove_section(group)
            continue
        keys = profile[group]
        keys.pop("never-default", None)
        if keys["method"] == "ignore":
            keys["method"] = "link-local"
        if "addr-gen-mode" in keys:
            keys["addr-gen-mode"] = _GENERATION[keys["addr-gen-mode"]]
        if keys.get("ip6-privacy") == "0" and not (
            link.nic.options and link.nic.options.ipv6_privacy is False
        ):
            del keys["ip6-privacy"]
        for key in keys:
            # nm-settings: hexadecimal, with and without the prefix.
            keys[key] = re.sub(r"\btos (\d)", r"tos 0x\1", keys[key])
    out = io.StringIO()
    profile.write(out, space_around_delimiters=False)
    return out.getvalue()


def _complete(link: Link, said: dict[str, object], method: str, named: dict[str, str]) -> None:
    """Add what is not in the keyfile."""
    nic, options = link.nic, link.nic.options
    parts = {"address", "dns", "gateway"}
    used = {"auto": parts, "ignore": {"address", "gateway"}}.get(method, set())
    # The kernel takes no resolvers, here as with ifupdown.
    free = {one for one in parts if f"ra_{one}" in named} | ({"dns"} if method == "ignore" else set())
    wanted = {one for one in free if nic.accept_ra and (f"ra_{one}" in named or getattr(nic, f"ra_{one}"))}
    said["ra"] = (used - free) | wanted
    said["dhcp6"] = method == "auto"
    if options is None or options.link_local is None or "link_local" in named:
        said["link_local"] = {6}
    if nic.options and nic.options.ipv6_privacy is False:
        said["ipv6_privacy"] = False
    for version, metric in (("dhcp4", link.metric4), ("dhcp6", link.metric6)):
        given = options and getattr(options, version)
        if given and given.use_hostname is not None and not getattr(nic, version):
            # Both versions have one switch in the comparison, but this one is not used.
            named[f"{version}.use_hostname"] = ""
        if not given or given.route_metric is None or f"{version}.route_metric" in named:
            said[f"metric{version[-1]}"] = metric
