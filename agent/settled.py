"""The mark that the machine is as it has to be: /var/lib/gandi/settled. Where the next boot finds all as the
mark says, no stage runs (bin/gandi-check, which alone says what is compared).

    orders      one a line, for that boot: ``swap NAME`` (to be switched on), ``start UNIT`` (at once),
                ``getty UNIT`` (after ssh), ``watch PATH``, ``archive BYTES`` (what was applied last is kept
                beside it), ``seen KIND JSON``
    facts       this word; what follows is what "gandi-check --facts" prints

It is there only while nothing of the agent's is under way: removed when a stage, a verb or the daemon
begins, and written when the daemon comes to rest. In a boot that has found it true, /run/gandi/settled has
its orders, and stands for the stages in ``status``.
"""

from __future__ import annotations

import json
import os

from agent.text import lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from agent.context import Context, Medium
    from agent.host import Host

FOLDER = "/var/lib/gandi"
MARK, ARCHIVE = f"{FOLDER}/settled", f"{FOLDER}/archive"
#: Made by gandi-check. The second is there while the boot passes the stages, the third while no daemon has
#: run since: then udev's rules start one for an event of ours.
FLAG, UNCHANGED, ASLEEP = "/run/gandi/settled", "/run/gandi/unchanged", "/run/gandi/asleep"
#: What is said of a stage in such a boot.
NOTHING_NEW = "unchanged: nothing new since the last boot"
CHECK = "/usr/lib/gandi-agent/gandi-check"
#: Wants the mount units of known data disks.
DISKS = "gandi-disks.target"
#: Between the orders and the facts.
_FACTS = "facts"
#: The place of an archive that can be compared, and bytes of one that is kept; what its reader looks at
#: behind the end (agent/parse/archive.py: a record of 10 KiB and a block) is kept with it.
_PLACE, _LARGEST, _BEHIND = 512 << 10, 1 << 20, 21 * 512
#: The step's name for swap, and what its items begin with for a device that is in use.
_SWAP, _DEV = "swap", "/dev/"
_GETTYS = "/run/systemd/system/getty.target.wants"
#: Hooks that a boot runs.
_HOOKS = ("post-vm-config", "post-disk-attach")
#: The filesystems of configuration drives, as libblkid names them.
_DRIVES = ("iso9660", "vfat")


def is_settled(host: Host) -> bool:
    """Whether this boot found everything as the mark said, so that no stage ran in it."""
    return host.exists(FLAG)


def withdraw(host: Host) -> None:
    """Remove the mark, for good also where the power is cut next: something begins.

    Raises HostError where it cannot be removed.
    """
    if host.exists(MARK) and host.remove(MARK) and not host.dry_run:
        with host.opened(FOLDER, os.O_RDONLY) as folder:
            os.fsync(folder)


def wake(host: Host) -> None:
    """A daemon is there: it withdraws the mark, and events need not start one."""
    host.remove(ASLEEP)
    withdraw(host)


def leave(ctx: Context) -> str:
    """Write the mark, if this boot is complete, all went well and nothing is under way. Return why not, or
    "". Raises HostError where it cannot be written.
    """
    from agent.hotplug import known

    host, left = ctx.host, known.leave(ctx)
    why = next(_against(ctx, left), "")
    if why:
        withdraw(host)
        return why
    orders = list(_orders(ctx, left))
    paths = [order.removeprefix("watch ") for order in orders if order.startswith("watch ")]
    facts = host.run((CHECK, "--facts", *paths), changes=False).stdout
    unknown = [line for line in lines(facts) if line.startswith(("unknown ", "odd ", "no "))]
    if unknown or not facts:
        withdraw(host)
        return f"not everything is known ({', '.join(unknown)})"
    host.write(MARK, "\n".join([*orders, _FACTS, facts]), mode=0o600, sync=True)
    return ""


# -- what speaks against it --------------------------------------------------------------


def _against(ctx: Context, left: frozenset[str]) -> Iterator[str]:
    """What a boot would have to do again, or has not done; the cheapest questions first. ``left``: the UUIDs
    of the filesystems that PID 1 mounts by itself.
    """
    status = ctx.status.read()
    yield from _unfinished(ctx, status)
    yield from _each_boot(ctx)
    yield from _media(ctx)
    yield from _disks(ctx, left)


def _unfinished(ctx: Context, status: dict[str, Any]) -> Iterator[str]:
    from agent import transient
    from agent.report import Outcome
    from agent.stages import Stage
    from agent.steps.script import UNIT

    host, stages = ctx.host, status["stages"]
    for stage in Stage:
        state = stages.get(stage, {}).get("state", "done" if is_settled(host) else "not run")
        if state != "done":
            yield f"stage {stage}: {state}"
    for name, entry in status["devices"].items():
        if entry.get("outcome") == Outcome.FAILED:
            yield f"{name} has failed"
    if ctx.file.problems:
        yield "a line of the settings cannot be used"
    if transient.is_running(host, UNIT):
        yield "a program of the document's still runs"
    if any(name.startswith(".") for name in host.names(FOLDER)):
        yield "something was not written to its end"
    if ctx.state.identity() is not None:
        folder = ctx.state.folder()
        if host.exists(f"{folder}/begun.json") or host.names(f"{folder}/renew"):
            yield "an item was begun and has not ended"


def _each_boot(ctx: Context) -> Iterator[str]:
    """What runs at each boot, or leaves nothing that outlives it."""
    from agent.steps import plugins

    host, settings = ctx.host, ctx.settings
    for folder in (settings.plugin_dir, plugins.BOOTSTRAP):
        for name in plugins.chosen(host, folder):
            yield f"{folder}/{name} runs at each boot"
    for name in _HOOKS:
        if host.exists(f"{settings.hook_dir}/{name}"):
            yield f"the hook {name} runs at each boot"
    config = ctx.config or (ctx.state.config() if ctx.state.identity() else None)
    if config and config.boot:
        yield "the document has programs that run at each boot"
    if config and config.metadata:
        yield "the document has metadata, which are made known at each boot"


def _media(ctx: Context) -> Iterator[str]:
    """A configuration drive is read at each boot, and without a configuration one is waited for."""
    from agent import adopted, sources, storage, udevdb

    if sources.off(ctx):
        return
    identity = ctx.state.identity()
    if identity is None:
        yield "no configuration yet"
    elif identity.source not in (sources.ARCHIVE, adopted.SOURCE):
        yield f"configured by a drive ({identity.source})"
    for disk in storage.names(ctx.host):
        for name in storage.with_parts(ctx.host, disk):
            found = udevdb.block(ctx.host, name)
            if found.get("ID_FS_TYPE") in _DRIVES and _is_drive(ctx, found.get("ID_FS_LABEL", "")):
                yield f"/dev/{name} is a configuration drive"


def _is_drive(ctx: Context, label: str) -> bool:
    from agent.sources.drives import LABELS

    return label.lower() in (*LABELS, ctx.settings.configdrive_label.lower(), "config")


def _disks(ctx: Context, left: frozenset[str]) -> Iterator[str]:
    """What a boot mounts is the stage's to mount, unless it was left to PID 1."""
    from agent import mounts
    from agent.hotplug.record import Kind, Records, begun

    records = Records(ctx.host).all()
    unrecorded = {mount.at for mount in mounts.mounts(ctx.host)} - {record.at for record in records.values()}
    for disk in ctx.state.disks().values():
        if disk.get("at") in unrecorded:  # by PID 1, say, after the daemon had looked at it
            yield f"{disk['at']} was mounted without the daemon"
    for name, record in records.items():
        if record.kind != Kind.RELEASED and record.uuid not in left:
            yield f"{name} is mounted at each boot"
    if begun(ctx.host).all():
        yield "a disk is being mounted"


# -- what the next boot has to do --------------------------------------------------------


def _orders(ctx: Context, left: frozenset[str]) -> Iterator[str]:
    from agent import seen

    host, settings = ctx.host, ctx.settings
    yield from _swaps(ctx)
    if left:
        yield f"start {DISKS}"
    yield from (f"getty {unit}" for unit in host.names(_GETTYS))
    for folder in (settings.plugin_dir.rstrip("/"), settings.hook_dir.rstrip("/")):
        yield f"watch {folder}"
        yield from (f"watch {folder}/{name}" for name in host.names(folder) if "\n" not in name)
    if size := _archived(ctx):
        yield f"archive {size}"
    if nics := seen.load(host, seen.NICS):
        there = sorted(mac for _name, mac in nics["here"].values())
        yield f"seen {seen.NICS} {json.dumps(nics | {'were': there}, sort_keys=True)}"
    if queues := seen.load(host, seen.QUEUES):
        yield f"seen {seen.QUEUES} {json.dumps(queues, sort_keys=True)}"


def _swaps(ctx: Context) -> Iterator[str]:
    """The devices that the swap step of this boot switched on, or found so."""
    if "bootstrap" not in (stages := ctx.status.read()["stages"]):
        yield from (line for line in lines(ctx.host.read(FLAG) or "") if line.startswith(f"{_SWAP} "))
        return
    for step in stages["bootstrap"].get("steps", ()):
        for item in step["items"] if step["step"] == _SWAP else ():
            detail = item.get("detail", "")
            if item["outcome"] in ("changed", "unchanged") and detail.startswith(_DEV):
                yield f"{_SWAP} {detail.removeprefix(_DEV).partition(',')[0]}"


# -- the archive that was applied last ---------------------------------------------------


def keep_archive(ctx: Context, medium: Medium, descriptor: int) -> None:
    """Keep what is on the medium, open as ``descriptor``, before it is overwritten: where the platform
    delivers it again on a new disk, byte for byte, that is no news.

    Only one that was understood as a whole and has no plain password in it (the source step keeps its
    digest), that brings no modules for a kernel, and is not large.
    """
    known = ctx.host.exists(f"{ctx.state.folder()}/delivered")
    if known and not medium.modules and medium.offset == _PLACE and 0 < medium.length <= _LARGEST:
        size = medium.length + _BEHIND
        content = os.pread(descriptor, size, medium.offset)
        if len(content) == size and not medium.length % 512:
            if content != ctx.host.read_bytes(ARCHIVE):
                forget_archive(ctx.host)  # also where the new one cannot be written
                ctx.host.write(ARCHIVE, content, mode=0o600, sync=True)
            return
    forget_archive(ctx.host)


def forget_archive(host: Host) -> None:
    """What is kept is not what is in force any more."""
    host.remove(ARCHIVE)


def _archived(ctx: Context) -> int:
    """Bytes of the archive that is kept and in force; 0 where there is none."""
    if ctx.state.identity() is None or not ctx.host.exists(f"{ctx.state.folder()}/delivered"):
        return 0
    try:
        return max(0, os.stat(ctx.host.path(ARCHIVE)).st_size - _BEHIND)
    except FileNotFoundError:
        return 0


# -- what was seen at the beginning of such a boot ---------------------------------------


def seen_at_boot(host: Host, kind: str) -> dict[str, Any] | None:
    """What a first look of this boot would have stored of that kind (agent/seen.py): the numbers of the
    folders of its CPUs and memory blocks, or what was seen in the boot before it; None in another boot.
    """
    said = lines(host.read(FLAG) or "")
    prefix = {"cpus": "cpu", "memory": "memory"}.get(kind)
    if prefix is None:
        start = f"seen {kind} "
        found = next((line.removeprefix(start) for line in said if line.startswith(start)), None)
        return None if found is None else _loaded(found)
    rows = [line.split(" ") for line in said if line.startswith(f"folder {prefix}")]
    return {name: int(number) for _, name, number in rows} if rows else None


def _loaded(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
