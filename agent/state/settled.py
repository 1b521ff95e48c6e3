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

from agent.lib.text import lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent.context import Context, Medium
    from agent.host.host import Host

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
#: The place of an archive that can be compared, and bytes of one that is kept; what its reader looks at
#: behind the end (agent/reader/formats/tar_archive.py: a record of 10 KiB and a block) is kept with it.
_PLACE, _LARGEST, _BEHIND = 512 << 10, 1 << 20, 21 * 512


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


def archived(ctx: Context) -> int:
    """Bytes of the archive that is kept and in force; 0 where there is none."""
    if ctx.state.identity() is None or not ctx.host.exists(f"{ctx.state.folder()}/delivered"):
        return 0
    try:
        return max(0, os.stat(ctx.host.path(ARCHIVE)).st_size - _BEHIND)
    except FileNotFoundError:
        return 0


# -- what was seen at the beginning of such a boot ---------------------------------------


def seen_at_boot(host: Host, kind: str) -> dict[str, Any] | None:
    """What a first look of this boot would have stored of that kind (boot_cache.py): the numbers of the
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
