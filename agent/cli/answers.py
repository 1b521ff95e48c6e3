"""Find what ``gandi-agent why`` is asked about: the items, disks and files that a word may mean."""

from __future__ import annotations

import ipaddress
import os

from agent.accounts import passwd
from agent.block import mounts, storage
from agent.cli import comparison, document_places, running_system
from agent.cli.comparison import Finding
from agent.disks import survey
from agent.disks.base.record import Records
from agent.host.sysfs import listed
from agent.lib.records import replace
from agent.network import interfaces
from agent.udev import database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.cli.comparison import Comparison
    from agent.config.model import InstanceConfig
    from agent.disks.survey import Row
    from agent.host.host import Host

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Kinds of items named after an account or a group: KIND:NAME, KIND:NAME:MORE.
_OF_ACCOUNTS = ("user", "account", "shell", "password", "lock", "sudo", "key", "group", "groups")
#: What a step makes once for each instance, without a record of its content: the beginning of the path, the
#: stage and the step.
_ONCE = (
    ("/etc/machine-id", "bootstrap", "machine-id"),
    ("/etc/ssh/ssh_host_", "bootstrap", "host keys"),
    ("/etc/ssh/sshd_config.d/00-gandi.conf", "bootstrap", "ssh"),
    ("/gandi/config", "bootstrap", "source"),
)
_MADE_ONCE = "made once for each instance; changes since then are not recorded"


def items(compared: Comparison, what: str) -> list[Finding]:
    """Return the items that the word may mean, each once, in the order of the steps."""
    names = set(_names(compared, what))
    found = [one for one in compared.findings if one.name in names or what in one.files]
    left_out = [one for one in _left_out(compared) if one.name in names]
    return found + left_out + list(_made_once(compared.ctx.host, what))


def _left_out(compared: Comparison) -> Iterator[Finding]:
    for name, why in compared.left_out.items():
        yield Finding(name, "", comparison.step_of(name), note=f"not compared: {why}")


def _made_once(host: Host, what: str) -> Iterator[Finding]:
    for start, stage, step in _ONCE:
        if what.startswith(start) and host.exists(what):
            yield Finding(what, stage, step, files=(what,), note=_MADE_ONCE)


def _names(compared: Comparison, what: str) -> Iterator[str]:
    """Yield the names of items that the word may mean; some may not exist."""
    config = compared.ctx.config
    for name in (*(one.name for one in compared.findings), *compared.left_out):
        kind, _, rest = name.partition(":")
        if what in (name, rest) or (kind in _OF_ACCOUNTS and what in rest.split(":", 1)):
            yield name
    yield from _of_nics(compared, what)
    if config is not None:
        yield from _of_keys(config, what, compared.ctx.settings.default_user)
        if (address := _address(what)) is not None:
            yield from _of_address(config, address)


def _of_keys(config: InstanceConfig, what: str, default_user: str) -> Iterator[str]:
    """Yield the items of a key: of its line, its fingerprint or its comment."""
    for user in config.users:
        for key in user.keys:
            asked = (document_places.fingerprint(key), passwd.key_comment(key), passwd.key_blob(key), key)
            if what in asked or ((blob := passwd.key_blob(what)) and blob == passwd.key_blob(key)):
                yield f"key:{user.name or default_user}:{document_places.fingerprint(key)}"


def _address(what: str) -> Address | None:
    try:
        return ipaddress.ip_interface(what).ip
    except ValueError:
        return None


def _of_address(config: InstanceConfig, address: Address) -> Iterator[str]:
    """Yield the items that an address is in: a NIC's own, a gateway, a resolver."""
    for nic in config.nics:
        own = [one for one in nic.addresses if _address(one) == address]
        yield from (f"address:{one}" for one in own)
        if own or any(route.gateway and _address(route.gateway) == address for route in nic.routes):
            yield f"nic:{nic.number}"
        if any(_address(server) == address for server in nic.nameservers):
            yield from (f"nic:{nic.number}", "resolvers")
    if any(_address(server) == address for server in config.nameservers):
        yield "resolvers"


def _of_nics(compared: Comparison, what: str) -> Iterator[str]:
    """Yield the items of a NIC: of its interface or its MAC."""
    ctx = compared.ctx
    there = {one.name: one.mac for one in interfaces.physical(ctx.host)}
    macs = {what.lower(), there.get(what, "")} - {""}
    yield from (f"dhcp:{mac}" for mac in macs)
    if ctx.config is None:
        return
    pairs = ctx.state.nic_pairs()
    names = running_system.interface_names(ctx.host, ctx.config, pairs)
    for nic in ctx.config.nics:
        if names.get(nic.number) == what or {nic.mac, pairs.get(nic.number)} & macs or nic.name == what:
            yield from (f"nic:{nic.number}", f"link:{nic.number}", f"state of {names.get(nic.number)}")
            yield from (f"address:{one}" for one in nic.addresses)


def disks(compared: Comparison, what: str) -> list[Row]:
    """Return the disks and partitions that the word means: a kernel's name, a path in /dev, a mountpoint, a
    label, a UUID or a serial number.
    """
    host = compared.ctx.host
    records = Records(host).done()
    names = {what} | set(_by_path(host, what)) | set(_by_udev(host, what))
    rows = survey.disks(compared.ctx)
    found = [row for row in rows if row.device in names or (what in (row.label, row.mountpoint) and what)]
    at = {name: known.mountpoint for name, known in records.items()}
    found += [row for row in rows if row not in found and at.get(row.device) == what]
    return [row if row.mountpoint else replace(row, mountpoint=at.get(row.device, "")) for row in found]


def _by_path(host: Host, what: str) -> Iterator[str]:
    if what.startswith("/dev/"):
        path = os.path.realpath(host.path(what))
        yield os.path.relpath(path, host.path("/dev")).replace("/", "!")
    elif what.startswith("/"):
        numbers = {n for mount in mounts.mounts(host) if mount.mountpoint == what for n in mount.devnos}
        yield from (storage.name_of(host, number) for number in numbers)


def _by_udev(host: Host, what: str) -> Iterator[str]:
    for name in listed(host, "/sys/class/block"):
        known = database.block(host, name)
        if what in [known.get(key) for key in ("ID_SERIAL", "ID_SERIAL_SHORT", "ID_WWN", "ID_FS_UUID")]:
            yield name
