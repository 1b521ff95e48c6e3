"""Step: make the document's filesystems (cloud-config's ``fs_setup``), each once.

Only on a device that is proven blank (agent/block/blank.py), or with ``overwrite``, which the document may
say of a device that it names by a stable link in /dev/disk. One in use, or with a partition table, is never
written to.
"""

from __future__ import annotations

import os

from agent.block import blank, storage
from agent.disks.base.locks import LOCKS
from agent.disks.base.system import SYSTEMD, unit_name
from agent.lib.digest import sha256
from agent.lib.errors import ConfigError, HostError
from agent.report import changed, guarded, skipped, unchanged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.block.storage import Device
    from agent.config.system import Filesystem
    from agent.context import Context
    from agent.disks.base.system import System
    from agent.host.host import Host
    from agent.report import Item

#: None of them overwrites what it finds, without an option that is not given (mke2fs only warns).
_MAKERS = {
    "ext4": ("mkfs.ext4", "-q"),
    "xfs": ("mkfs.xfs", "-q"),
    "btrfs": ("mkfs.btrfs", "-q"),
}
#: Seconds to wait for a device that is not there yet.
_WAIT = 10


def apply(ctx: Context, *, system: System = SYSTEMD) -> Iterator[Item]:
    """Make each filesystem that has not been made yet, as one item."""
    for wanted in ctx.config.system.filesystems if ctx.config and ctx.config.system else ():
        name = f"filesystem:{wanted.device}"
        # By what it is, not by every field: a version that knows more must not make it again.
        what = "\0".join((wanted.device, wanted.fstype, wanted.label)).encode()
        mark = f"filesystem-{sha256(what).hexdigest()[:32]}"
        if not ctx.host.live:
            yield skipped(name, "it is made when this machine boots")
        elif ctx.state.is_done(mark):
            yield unchanged(name, "was made before")
        else:
            for item in guarded(name, _make(ctx, system, name, wanted)):
                yield item
                if item.name == name and item.outcome in ("changed", "unchanged") and not ctx.host.dry_run:
                    ctx.state.mark_done(mark)


def _make(ctx: Context, system: System, name: str, wanted: Filesystem) -> Iterator[Item]:
    host = ctx.host
    disk, device = _device(ctx, system, wanted)
    with LOCKS.disk(host, disk):
        found = storage.probe(host, device.node)
        if found.get("ID_FS_TYPE") == wanted.fstype and found.get("ID_FS_LABEL", "") == wanted.label:
            yield unchanged(name, f"is {wanted.fstype} already")
            return
        if why := blank.why_not_blank(host, device):
            if not wanted.overwrite:
                what = f"{wanted.device}: not blank: {why}"
                raise ConfigError(what, hint="say overwrite, of a device named by a link in /dev/disk")
            _check_unused(host, device, found)
            wipe = ("wipefs", "-a", "-q", device.node)
            system.write(host, unit_name("wipe", device.name), device.node, wipe)
        label = ("-L", wanted.label) if wanted.label else ()
        unit = unit_name("format", device.name)
        system.write(host, unit, device.node, (*_MAKERS[wanted.fstype], *label, device.node))
        if not host.dry_run and storage.probe(host, device.node).get("ID_FS_TYPE") != wanted.fstype:
            what = f"{wanted.device}: not formatted as {wanted.fstype}"
            raise HostError(what, hint=f"see: journalctl -b -u {unit}")
    yield changed(name, f"{wanted.fstype} on {device.name}")


def _device(ctx: Context, system: System, wanted: Filesystem) -> tuple[str, Device]:
    """Return the disk's kernel name, and the device to write to. Raise ConfigError if there is none."""
    host = ctx.host
    if not host.exists(wanted.device):
        ctx.on_wait(f"{wanted.device} (at most {_WAIT} s)")
        host.run(("udevadm", "wait", f"--timeout={_WAIT}", wanted.device), changes=False, check=False)
        ctx.on_wait("")
    name = os.path.basename(os.path.realpath(host.path(wanted.device)))
    whole = storage.whole_disk(host, name) if host.exists(wanted.device) else ""
    disk = system.read(host, whole) if whole else None
    if disk is None:
        raise ConfigError(f"{wanted.device}: no such disk", hint="attach it, then boot again")
    parts = {part.name: part for part in disk.partitions}
    if name in parts:
        return whole, parts[name]
    if not wanted.partition:
        return whole, disk.device
    found = [part for part in disk.partitions if str(part.partition) == wanted.partition]
    if not found:
        raise ConfigError(
            f"{wanted.device}: no partition {wanted.partition}", hint="deliver partition: none"
        )
    return whole, found[0]


def _check_unused(host: Host, device: Device, found: dict[str, str]) -> None:
    """Raise ConfigError if the device has a partition table, or users (O_EXCL fails if it is mounted)."""
    users = [*device.holders, *storage.with_partitions(host, device.name)[1:]]
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
