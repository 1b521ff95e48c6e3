"""Steps: make the document's partition tables and filesystems (cloud-config's ``disk_setup`` and
``fs_setup``), each once.

Only on a device that is proven blank (agent/block/blank.py), or with ``overwrite``, which the document may
say of a device that it names by a stable link in /dev/disk. One in use, or with a partition table, is never
written to.
"""

from __future__ import annotations

import os
from functools import partial

from agent.block import blank, storage
from agent.disks.base.locks import LOCKS
from agent.disks.base.system import SYSTEMD, unit_name
from agent.disks.mkfs import MAKERS
from agent.host.sysfs import devnode
from agent.lib.digest import sha256
from agent.lib.errors import ConfigError, HostError
from agent.report import changed, guarded, skipped, unchanged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from agent.block.storage import Device
    from agent.config.system import Filesystem, PartitionTable
    from agent.context import Context
    from agent.disks.base.system import System
    from agent.host.host import Host
    from agent.report import Item

#: Seconds to wait for a device that is not there yet.
_WAIT = 10


def apply_tables(ctx: Context, *, system: System = SYSTEMD) -> Iterator[Item]:
    """Make each partition table that has not been made yet, as one item."""
    for wanted in ctx.config.system.tables if ctx.config and ctx.config.system else ():
        name = f"partition table:{wanted.device}"
        parts = (f"{percent} {of}" for percent, of in wanted.parts)
        work = partial(_make_table, ctx, system, name, wanted)
        yield from _once(ctx, name, (wanted.device, wanted.kind, *parts), work)


def apply(ctx: Context, *, system: System = SYSTEMD) -> Iterator[Item]:
    """Make each filesystem that has not been made yet, as one item."""
    for wanted in ctx.config.system.filesystems if ctx.config and ctx.config.system else ():
        name = f"filesystem:{wanted.device}"
        work = partial(_make, ctx, system, name, wanted)
        yield from _once(ctx, name, (wanted.device, wanted.fstype, wanted.label), work)


def _once(
    ctx: Context, name: str, what: Iterable[str], work: Callable[[], Iterator[Item]]
) -> Iterator[Item]:
    """Do the work, unless it was done for ``what``: not for every field, since a later version may know more
    of them and must not make it again.
    """
    kind = name.partition(":")[0].replace(" ", "-")
    mark = f"{kind}-{sha256(chr(0).join(what).encode()).hexdigest()[:32]}"
    if not ctx.host.live:
        yield skipped(name, "it is made when this machine boots")
    elif ctx.state.is_done(mark):
        yield unchanged(name, "was made before")
    else:
        for item in guarded(name, work()):
            yield item
            if item.name == name and item.outcome in ("changed", "unchanged") and not ctx.host.dry_run:
                ctx.state.mark_done(mark)


def _make_table(ctx: Context, system: System, name: str, wanted: PartitionTable) -> Iterator[Item]:
    host = ctx.host
    whole, device = _device(ctx, system, wanted.device)
    if device.name != whole:
        raise ConfigError(f"{wanted.device}: a partition", hint="name the disk")
    with LOCKS.disk(host, whole):
        found = storage.probe(host, device.node)
        parts = storage.with_partitions(host, whole)[1:]
        if found.get("ID_PART_TABLE_TYPE") == wanted.kind and len(parts) == len(wanted.parts):
            yield unchanged(name, f"has {len(parts)} partitions already")
            return
        if why := blank.why_not_blank(host, device):
            if not wanted.overwrite:
                what = f"{wanted.device}: not blank: {why}"
                raise ConfigError(what, hint="say overwrite, of a disk named by a link in /dev/disk")
            _check_unused(host, device, {}, [])
            for part in (*parts, whole):
                node = devnode(part)
                system.write(host, unit_name("wipe", part), device.node, ("wipefs", "-a", "-q", node))
        unit = unit_name("partition", whole)
        # The ioctl that reads a whole table again fails while the lock holds the disk open. partx(8) adds
        # each partition to the kernel.
        sfdisk = ("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", device.node)
        system.write(host, unit, device.node, sfdisk, script(wanted, device.size))
        system.write(host, unit_name("partx", whole), device.node, ("partx", "--update", device.node))
        made = storage.with_partitions(host, whole)[1:]
        if not host.dry_run and len(made) != len(wanted.parts):
            what = f"{wanted.device}: {len(made)} partitions, not {len(wanted.parts)}"
            raise HostError(what, hint=f"see: journalctl -b -u {unit}")
    yield changed(name, f"{wanted.kind} with {len(wanted.parts)} partitions on {whole}")


def script(wanted: PartitionTable, size: int) -> str:
    """Return sfdisk's input for a disk of that size in bytes. The last partition of a full disk takes the
    rest: a GPT has a header at its end.
    """
    lines, left = [f"label: {wanted.kind}"], 100
    for percent, of in wanted.parts:
        left -= percent
        length = "" if left == 0 else f"size={max(size * percent // 100 >> 20, 1)}MiB, "
        lines.append(f"{length}type={of}")
    return "\n".join(lines)


def _make(ctx: Context, system: System, name: str, wanted: Filesystem) -> Iterator[Item]:
    host = ctx.host
    disk, device = _device(ctx, system, wanted.device, wanted.partition)
    with LOCKS.disk(host, disk):
        found = storage.probe(host, device.node)
        if found.get("ID_FS_TYPE") == wanted.fstype and found.get("ID_FS_LABEL", "") == wanted.label:
            yield unchanged(name, f"is {wanted.fstype} already")
            return
        if why := blank.why_not_blank(host, device):
            if not wanted.overwrite:
                what = f"{wanted.device}: not blank: {why}"
                raise ConfigError(what, hint="say overwrite, of a device named by a link in /dev/disk")
            inside = storage.with_partitions(host, device.name)[1:]
            _check_unused(host, device, found, inside)
            wipe = ("wipefs", "-a", "-q", device.node)
            system.write(host, unit_name("wipe", device.name), device.node, wipe)
        label = ("-L", wanted.label) if wanted.label else ()
        unit = unit_name("format", device.name)
        system.write(host, unit, device.node, (*MAKERS[wanted.fstype], *label, device.node))
        if not host.dry_run and storage.probe(host, device.node).get("ID_FS_TYPE") != wanted.fstype:
            what = f"{wanted.device}: not formatted as {wanted.fstype}"
            raise HostError(what, hint=f"see: journalctl -b -u {unit}")
    yield changed(name, f"{wanted.fstype} on {device.name}")


def _device(ctx: Context, system: System, path: str, partition: str = "") -> tuple[str, Device]:
    """Return the disk's kernel name, and the device to write to. Raise ConfigError if there is none."""
    host = ctx.host
    if not host.exists(path):
        with ctx.waiting(f"{path} (at most {_WAIT} s)"):
            host.run(("udevadm", "wait", f"--timeout={_WAIT}", path), changes=False, check=False)
    name = os.path.basename(os.path.realpath(host.path(path)))
    whole = storage.whole_disk(host, name) if host.exists(path) else ""
    disk = system.read(host, whole) if whole else None
    if disk is None:
        raise ConfigError(f"{path}: no such disk", hint="attach it, then boot again")
    parts = {part.name: part for part in disk.partitions}
    if name in parts:
        return whole, parts[name]
    if not partition:
        return whole, disk.device
    found = [part for part in disk.partitions if str(part.partition) == partition]
    if not found:
        raise ConfigError(f"{path}: no partition {partition}", hint="deliver partition: none")
    return whole, found[0]


def _check_unused(host: Host, device: Device, found: dict[str, str], inside: Sequence[str]) -> None:
    """Raise ConfigError if the device has users: what is ``inside``, the partition table that was ``found``,
    an exclusive opener. O_EXCL fails too if it or a partition of it is mounted.
    """
    users = [*device.holders, *inside]
    users += ["its partition table"] if "ID_PART_TABLE_TYPE" in found else []
    users += ["read-only"] if device.readonly else []
    try:
        with host.opened(device.node, os.O_RDONLY | os.O_EXCL):
            pass
    except HostError:
        users.append("an exclusive opener")
    if users:
        what = f"{device.node}: not overwritten: {', '.join(users)}"
        raise ConfigError(what, hint="deliver another device, or free this one")
