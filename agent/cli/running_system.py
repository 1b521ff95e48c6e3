"""Compare what is in force with the files that the agent left as it wrote them: the kernel's name, kernel
parameters, addresses, mounts, swap. Nothing is changed.

Only what belongs to an item that is still as it was left is examined: of a file that the administrator has
changed, the file is the finding.
"""

from __future__ import annotations

import ipaddress
import json
import re
from functools import partial

from agent.block import mounts
from agent.cli.comparison import Finding
from agent.config.nics import Kind
from agent.disks import survey
from agent.disks.base.record import DiskState, Records
from agent.lib.errors import HostError
from agent.lib.text import WHITE, lines, words
from agent.network import interfaces, sysctls
from agent.stages import Stage
from agent.steps import sysctl
from agent.systemd import boot_mounts, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from agent.cli.comparison import Comparison
    from agent.config.model import InstanceConfig
    from agent.config.nics import Nic
    from agent.disks.survey import Row
    from agent.host.host import Host

#: Prints all files of sysctl.d(5) in the order in which systemd applies them, each after its name.
_SYSCTL = ("/usr/lib/systemd/systemd-sysctl", "--cat-config")
_HOSTNAME, _KERNELS_NAME = "/etc/hostname", "/proc/sys/kernel/hostname"
_ADDRESSES = ("ip", "-json", "address")
#: A file's name in its output.
_FILE = re.compile(r"# (/[^ \t]+\.conf)")
#: Dots and slashes of a parameter's name, each for the other.
_SWAPPED = str.maketrans("./", "/.")
#: Options of fstab(5) with which an entry is not mounted at the boot.
_NOT_AT_BOOT = ("noauto", "x-systemd.automount")


def findings(compared: Comparison) -> Iterator[Finding]:
    """Yield an item for each value in force that can be compared; a part that cannot be read is noted in
    ``left_out``.
    """
    parts = {
        "kernel's hostname": _kernels_name,
        "kernel parameters": _parameters,
        "addresses": _network,
        "disks": _disks,
        "mounts": _mounts,
    }
    for name, part in parts.items():
        try:
            yield from part(compared)
        except HostError as error:
            compared.left_out[name] = str(error)
            compared.has_failed = True


def _kernels_name(compared: Comparison) -> Iterator[Finding]:
    host, item = compared.ctx.host, compared.found("hostname")
    there, now = host.read(_HOSTNAME), host.read(_KERNELS_NAME)
    if item is None or not compared.is_intact("hostname") or there is None or now is None:
        return
    wanted, live = there.strip(WHITE), now.strip(WHITE)
    change = "" if live == wanted else f"is {live}; {_HOSTNAME} has {wanted}"
    files = (_HOSTNAME, _KERNELS_NAME)
    yield Finding("kernel's hostname", item.stage, item.step, change, live, files, item.applied)


# -- kernel parameters -------------------------------------------------------------------


def _parameters(compared: Comparison) -> Iterator[Finding]:
    host = compared.ctx.host
    ours = {sysctl.FILE: "sysctl", sysctls.FILE: "nic parameters"}
    intact = {
        file: item for file, name in ours.items() if (item := compared.found(name)) and not item.change
    }
    if not intact:
        return
    in_force = last_assignments(host.run(_SYSCTL, check=False, changes=False).stdout) if host.live else {}
    for file, item in intact.items():
        for key, value in assignments(host.read(file) or "").items():
            by, last = in_force.get(key, (file, value))
            live = host.read(f"/proc/sys/{key}")
            if live is None or by != file:
                continue  # a kernel without it; or another file has the last word
            now = " ".join(words(live.strip(WHITE)))
            change = "" if now == " ".join(words(last)) else f"is {now}, left as {last}"
            name = f"sysctl:{key.translate(_SWAPPED)}"
            yield Finding(
                name, item.stage, item.step, change, now, (file,), item.applied, settings=item.settings
            )


def assignments(text: str) -> dict[str, str]:
    """Return the values of a file of sysctl.d(5), by their paths below /proc/sys."""
    found = {}
    for line in lines(text):
        key, equals, value = line.strip(WHITE).partition("=")
        if equals and not key.startswith(("#", ";")):
            found[_path(key.strip(WHITE).removeprefix("-"))] = value.strip(WHITE)
    return found


def last_assignments(text: str) -> dict[str, tuple[str, str]]:
    """Return the file and the value of each parameter's last assignment in the output of _SYSCTL."""
    found, file = dict[str, tuple[str, str]](), ""
    for line in lines(text):
        if match := _FILE.fullmatch(line):
            file = match[1]
        found |= {key: (file, value) for key, value in assignments(line).items()}
    return found


def _path(key: str) -> str:
    """Return the path of a parameter: where a dot comes first, dots separate, and slashes are dots."""
    first = next((sign for sign in key if sign in "./"), "/")
    return key.translate(_SWAPPED) if first == "." else key


# -- the network -------------------------------------------------------------------------


def _network(compared: Comparison) -> Iterator[Finding]:
    ctx = compared.ctx
    config, host = ctx.config, ctx.host
    if config is None or config.network_disabled or not (ctx.settings.network and host.live):
        return
    try:
        answer = json.loads(host.run(_ADDRESSES, changes=False).stdout)
    except ValueError as error:
        raise HostError("ip(8) has printed no JSON") from error
    there = {str(link.get("ifname")): link for link in answer}
    names = interface_names(host, config, ctx.state.nic_pairs())
    for nic in config.nics:
        item = compared.found(f"nic:{nic.number}")
        if item and not item.change and nic.number in names and names[nic.number] in there:
            make = partial(Finding, stage=item.stage, step=item.step, files=item.files, applied=item.applied)
            link = there[names[nic.number]]
            yield from _links_items(nic, names[nic.number], link, make)


def interface_names(host: Host, config: InstanceConfig, pairs: Mapping[int, str]) -> dict[int, str]:
    """Return the interface of each NIC of the document that is on this machine, by the NIC's number."""
    by_mac = {one.mac: one.name for one in interfaces.physical(host)}
    names = {}
    for nic in config.nics:
        if nic.loopback:
            names[nic.number] = interfaces.LOOPBACK.name
        elif nic.kind is not Kind.PHYSICAL:
            names[nic.number] = nic.name or ""
        elif pairs.get(nic.number) in by_mac:
            names[nic.number] = by_mac[pairs[nic.number]]
    return names


def _links_items(nic: Nic, name: str, link: Mapping[str, Any], make: partial[Finding]) -> Iterator[Finding]:
    """Yield the state of a link and each of its static addresses; ``link``: its object of ip(8)."""
    flags = link.get("flags", [])
    stays_down = nic.options is not None and nic.options.activation_mode is not None
    if "UP" not in flags:
        if not stays_down:
            yield make(f"state of {name}", change="is down", detail=name)
        return
    yield make(f"state of {name}", detail=f"{name} is up")
    if "LOWER_UP" not in flags:
        return  # a manager may give no address to a NIC without carrier
    live = {
        ipaddress.ip_interface(f"{one.get('local')}/{one.get('prefixlen')}")
        for one in link.get("addr_info", [])
        if one.get("local")
    }
    for address in nic.addresses:
        is_there = ipaddress.ip_interface(address) in live
        yield make(f"address:{address}", change="" if is_there else f"is not on {name}", detail=f"on {name}")


# -- mounts and swap ---------------------------------------------------------------------


def _mounts(compared: Comparison) -> Iterator[Finding]:
    ctx = compared.ctx
    system = ctx.config.system if ctx.config else None
    if system is None or not ctx.host.live:
        return
    there = {mount.mountpoint for mount in mounts.mounts(ctx.host)}
    for mount in system.mounts:
        item = compared.found(f"mount:{mount.mountpoint}")
        options = mount.options.split(",")
        if item is None or item.change or item.note or any(one in options for one in _NOT_AT_BOOT):
            continue
        change = "" if mount.mountpoint.rstrip("/") in there else "is not mounted"
        name = f"mounted:{mount.mountpoint}"
        yield Finding(name, item.stage, item.step, change, mount.mountpoint, item.files, item.applied)
    if system.swap and (item := compared.found("swap file")) and compared.is_intact("swap file"):
        in_use = system.swap.path in mounts.swap_names(ctx.host)
        change = "" if in_use else "is not in use"
        name = f"swap:{system.swap.path}"
        yield Finding(name, item.stage, item.step, change, system.swap.path, item.files, item.applied)


def _disks(compared: Comparison) -> Iterator[Finding]:
    """Yield an item for each data disk that the agent has mounted, also for one that was unmounted since."""
    host = compared.ctx.host
    if not host.live:
        return
    records, left = Records(host).done(), boot_mounts.agent_units(host)
    for row in survey.disks(compared.ctx):
        known = records.get(row.device)
        mountpoint = row.mountpoint or (known.mountpoint if known else "")
        is_known = units.of_path(mountpoint, "mount") in left if mountpoint else False
        is_ours = (known is not None and known.state == DiskState.MOUNTED) or is_known
        if is_ours and mountpoint:
            yield _disk(row, mountpoint)


def _disk(row: Row, mountpoint: str) -> Finding:
    change = "" if row.state == "mounted" else f"is not mounted at {mountpoint}"
    detail = f"{row.device} at {mountpoint}" if not change else row.device
    return Finding(f"disk:{row.device}", str(Stage.MOUNT), "disks", change, detail, (mountpoint,))
