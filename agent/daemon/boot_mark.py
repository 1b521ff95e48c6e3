"""The settled mark: whether it may be written, and its orders for the next boot (agent/state/settled.py)."""

from __future__ import annotations

import json
import re

from agent.host.sysfs import devnode
from agent.lib.text import lines
from agent.state import settled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from agent.config.model import InstanceConfig
    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

#: The line between orders and facts.
_FACTS = "facts"
#: The name of the swap step; the start of its items' details for a device in use.
_SWAP, _DEV = "swap", "/dev/"
_GETTYS = "/run/systemd/system/getty.target.wants"
#: Hooks that a boot runs.
_HOOKS = ("post-vm-config", "post-disk-attach")
#: The filesystems of configuration drives, as libblkid names them.
_DRIVES = ("iso9660", "vfat")


def write(ctx: Context) -> str:
    """Write the mark if this boot is complete, nothing failed and no work is in progress.

    Return "" or the reason why it was not written. Raise HostError if writing fails.
    """
    from agent.disks import known_mounts

    host, mounted_by_pid1 = ctx.host, known_mounts.write_units(ctx)
    why = next(_reasons(ctx, mounted_by_pid1), "")
    if why:
        settled.remove_mark(host)
        return why
    orders = list(_orders(ctx, mounted_by_pid1))
    paths = [order.removeprefix("watch ") for order in orders if order.startswith("watch ")]
    facts = host.run((settled.CHECK, "--facts", *paths), changes=False).stdout
    unknown = [line for line in lines(facts) if line.startswith(("unknown ", "odd ", "no "))]
    if unknown or not facts:
        settled.remove_mark(host)
        return f"not everything is known ({', '.join(unknown)})"
    for name, given, own in _given_macs(ctx):
        pattern = rf"^(nic {re.escape(name)} [0-9]+) {given} "
        facts = re.sub(pattern, rf"\1 {own} ", facts, flags=re.MULTILINE)
    host.write(settled.MARK, "\n".join([*orders, _FACTS, facts]), mode=0o600, sync=True)
    return ""


# -- reasons not to write it -------------------------------------------------------------


def _reasons(ctx: Context, mounted_by_pid1: frozenset[str]) -> Iterator[str]:
    """Yield what a boot has to repeat or has not finished, the cheapest checks first.

    ``mounted_by_pid1``: UUIDs of the filesystems that PID 1 mounts from the agent's units.
    """
    status = ctx.status.read()
    yield from _unfinished(ctx, status)
    yield from _each_boot(ctx)
    yield from _media(ctx)
    yield from _disks(ctx, mounted_by_pid1)


def _unfinished(ctx: Context, status: dict[str, Any]) -> Iterator[str]:
    from agent.report import Outcome
    from agent.stages import Stage
    from agent.steps.script import UNIT
    from agent.systemd import transient

    host, stages = ctx.host, status["stages"]
    for stage in Stage:
        state = stages.get(stage, {}).get("state", "done" if settled.is_settled(host) else "not run")
        if state != "done":
            yield f"stage {stage}: {state}"
    for name, entry in status["devices"].items():
        if entry.get("outcome") == Outcome.FAILED:
            yield f"{name} has failed"
    if ctx.settings_file.problems:
        yield "a line of the settings cannot be used"
    if transient.is_running(host, UNIT):
        yield "a program of the document's still runs"
    if any(name.startswith(".") for name in host.names(settled.FOLDER)):
        yield "something was not written to its end"
    if ctx.state.identity() is not None:
        folder = ctx.state.folder()
        if host.exists(f"{folder}/begun.json") or host.names(f"{folder}/renew"):
            yield "an item was begun and has not ended"


def _each_boot(ctx: Context) -> Iterator[str]:
    """Yield what runs at each boot, or has no effect beyond it."""
    from agent.network import nic_inventory

    if ctx.settings.network and nic_inventory.has_guard(ctx):
        yield "the document's network was taken back, or is not judged yet"
    if ctx.state.identity() is not None and ctx.host.exists(f"{ctx.state.folder()}/sshd.json"):
        yield "sshd's options of the document were taken back"
    from agent.config.model import PER_BOOT
    from agent.steps import plugins

    host, settings = ctx.host, ctx.settings
    for folder in (settings.plugin_dir, plugins.BOOTSTRAP):
        for name in plugins.enabled_programs(host, folder):
            yield f"{folder}/{name} runs at each boot"
    for name in _HOOKS:
        if host.exists(f"{settings.hook_dir}/{name}"):
            yield f"the hook {name} runs at each boot"
    config = _config(ctx)
    if config and (config.boot or any(script.frequency == PER_BOOT for script in config.scripts)):
        yield "the document has programs that run at each boot"
    if config and config.metadata:
        yield "the document has metadata, which are made known at each boot"


def _media(ctx: Context) -> Iterator[str]:
    """Yield reasons from media: a drive is read at each boot; without a configuration, a boot waits."""
    from agent import sources
    from agent.block import storage
    from agent.sources import passed
    from agent.state import adopted
    from agent.systemd import credentials
    from agent.udev import database

    # gandi-check takes digests also where no source is looked at, and a password could be guessed from one.
    if any(name.startswith("passwd.plaintext-password.") for name in credentials.names(ctx.host)):
        yield "a system credential has a plain password"
    if sources.why_disabled(ctx):
        if passed.is_there(ctx.host):
            yield "what is passed without a medium is not in force, and may have a plain password"
        return
    identity, reasons = ctx.state.identity(), list(_passed(ctx))
    yield from filter(None, reasons)
    if identity is None:
        yield "no configuration yet"
    elif identity.source not in (sources.ARCHIVE, adopted.SOURCE) and "" not in reasons:
        yield f"configured by a drive ({identity.source})"
    for disk in storage.names(ctx.host):
        for name in storage.with_partitions(ctx.host, disk):
            found = database.block(ctx.host, name)
            if found.get("ID_FS_TYPE") in _DRIVES and _is_drive(ctx, found.get("ID_FS_LABEL", "")):
                yield f"{devnode(name)} is a configuration drive"


def _passed(ctx: Context) -> Iterator[str]:
    """Yield "" for the document in force if it was passed without a medium: gandi-check compares its digest.

    Yield a reason for each other one: it may have a plain password, which could be guessed from a digest.
    """
    from agent import sources
    from agent.sources import nocloud_line, passed

    host = ctx.host
    if not passed.is_there(host) and not nocloud_line.read(host):
        return
    from agent.sources.config_drives import passed_drives, with_lines

    notes: list[Item] = []
    drives = with_lines(host, list(passed_drives(host, sources.PASSED, notes)))
    if sources.needs_signature(host):
        from agent.sources import signed

        drives = signed.verified(host, drives, notes)
    delivered = host.read(f"{ctx.state.folder()}/delivered") if ctx.state.identity() else None
    for drive in drives:
        yield (
            ""
            if drive.digest == delivered
            else f"{drive.medium.place} is not in force, or has a plain password"
        )
    yield from (f"{note.name} cannot be used" for note in notes)


def _is_drive(ctx: Context, label: str) -> bool:
    from agent.sources.config_drives import LABELS

    return label.lower() in (*LABELS, ctx.settings.configdrive_label.lower(), "config")


def _disks(ctx: Context, mounted_by_pid1: frozenset[str]) -> Iterator[str]:
    """Yield the disks that the mount stage has to mount, since PID 1 does not."""
    from agent.block import mounts
    from agent.disks.base.record import DiskState, Records

    records = Records(ctx.host).done()
    unrecorded = {mount.mountpoint for mount in mounts.mounts(ctx.host)} - {
        record.mountpoint for record in records.values()
    }
    for disk in ctx.state.disks().values():
        if disk.get("at") in unrecorded:  # for example by PID 1, after the daemon examined the disk
            yield f"{disk['at']} was mounted without the daemon"
    for name, record in records.items():
        if record.state != DiskState.RELEASED and record.uuid not in mounted_by_pid1:
            yield f"{name} is mounted at each boot"
    if any(record.state == DiskState.MOUNTING for record in Records(ctx.host).all().values()):
        yield "a disk is being mounted"


def _config(ctx: Context) -> InstanceConfig | None:
    return ctx.config or (ctx.state.config() if ctx.state.identity() else None)


# -- orders for the next boot ------------------------------------------------------------


def _orders(ctx: Context, mounted_by_pid1: frozenset[str]) -> Iterator[str]:
    from agent.state import boot_cache

    host, settings = ctx.host, ctx.settings
    yield from _swaps(ctx)
    if settings.report != "0":
        yield "report always" if settings.report_url else "report"
    if mounted_by_pid1:
        yield f"start {settled.DISKS}"
    yield from (f"getty {unit}" for unit in gettys(host))
    for folder in (settings.plugin_dir.rstrip("/"), settings.hook_dir.rstrip("/")):
        yield f"watch {folder}"
        yield from (f"watch {folder}/{name}" for name in host.names(folder) if "\n" not in name)
    yield from (f"mac {name} {given} {own}" for name, given, own in _given_macs(ctx))
    if size := settled.archive_size(ctx):
        yield f"archive {size}"
    if nics := boot_cache.load(host, boot_cache.NICS):
        macs = sorted(mac for _name, mac in nics["here"].values())
        yield f"seen {boot_cache.NICS} {json.dumps(nics | {'were': macs}, sort_keys=True)}"
    if queues := boot_cache.load(host, boot_cache.QUEUES):
        yield f"seen {boot_cache.QUEUES} {json.dumps(queues, sort_keys=True)}"


def gettys(host: Host) -> list[str]:
    """Return the units of gettys that the console step has started in this boot, or if no stage has run, the
    mark's order.
    """
    ordered = (line for line in lines(host.read(settled.FLAG) or "") if line.startswith("getty "))
    return list(dict.fromkeys([*host.names(_GETTYS), *(line.removeprefix("getty ") for line in ordered)]))


def _given_macs(ctx: Context) -> Iterator[tuple[str, str, str]]:
    """Yield each NIC to which the document gives a MAC address: its name, that address, and its own.

    A network manager sets it after the check of a boot, which finds the NIC's own.
    """
    config = _config(ctx)
    given = {nic.number: nic.options.set_mac for nic in config.nics if nic.options} if config else {}
    if not any(given.values()):
        return
    from agent.network import interfaces

    names = {one.mac: one.name for one in interfaces.physical(ctx.host)}
    for number, own in ctx.state.nic_pairs().items():
        mac = given.get(number)
        if mac and own in names:
            yield names[own], mac, own


def _swaps(ctx: Context) -> Iterator[str]:
    """Yield an order for each device that this boot's swap step enabled or found enabled."""
    if "bootstrap" not in (stages := ctx.status.read()["stages"]):
        orders = lines(ctx.host.read(settled.FLAG) or "")
        yield from (line for line in orders if line.startswith(f"{_SWAP} "))
        return
    for step in stages["bootstrap"].get("steps", ()):
        for item in step["items"] if step["step"] == _SWAP else ():
            detail = item.get("detail", "")
            if item["outcome"] in ("changed", "unchanged") and detail.startswith(_DEV):
                yield f"{_SWAP} {detail.removeprefix(_DEV).partition(',')[0]}"
