"""The mark of a settled machine, /var/lib/gandi/settled: when the next boot finds everything as the mark
says, no stage runs. bin/gandi-check alone defines what is compared.

    orders      one per line, for that boot: ``swap NAME`` (to be switched on), ``start UNIT`` (at once),
                ``getty UNIT`` (after ssh), ``watch PATH``, ``archive BYTES`` (the archive that was applied
                last is kept beside the mark), ``seen KIND JSON``, ``mac NAME GIVEN OWN`` (GIVEN is compared
                as OWN: the document gives it to the NIC)
    facts       this word; the lines after it are the output of "gandi-check --facts", with each
                OWN in place of GIVEN

The mark exists only while the agent is idle: it is removed when a stage, a verb or the daemon begins, and
written when the daemon is idle. In a boot that found it true, /run/gandi/settled holds its orders, and
``status`` shows that instead of the stages.
"""

from __future__ import annotations

import os

from agent.lib.canonical_json import parsed_object
from agent.lib.text import lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent.context import Context, Medium
    from agent.host.host import Host

FOLDER = "/var/lib/gandi"
MARK, ARCHIVE = f"{FOLDER}/settled", f"{FOLDER}/archive"
#: Made by gandi-check. The second exists until the boot has passed the stages, the third until a daemon
#: runs: with it, udev's rules start the daemon for a device event.
FLAG, UNCHANGED, ASLEEP = "/run/gandi/settled", "/run/gandi/unchanged", "/run/gandi/asleep"
#: Shown for a stage in such a boot.
NOTHING_NEW = "unchanged: nothing new since the last boot"
CHECK = "/usr/lib/gandi-agent/gandi-check"
#: The target that wants the mount units of known data disks.
DISKS = "gandi-disks.target"
#: In bytes: the offset of an archive that gandi-check can compare, the largest that is kept, and what is
#: kept beyond its end because the reader reads it (a record and a block: reader/formats/tar_archive.py).
_PLACE, _LARGEST, _BEHIND = 512 << 10, 1 << 20, 21 * 512


def is_settled(host: Host) -> bool:
    """Return whether this boot found everything as the mark says, so that no stage ran."""
    return host.exists(FLAG)


def remove_mark(host: Host) -> None:
    """Remove the mark before something begins; on return its removal survives a power cut.

    Raise HostError if it cannot be removed.
    """
    if host.exists(MARK) and host.remove(MARK) and not host.dry_run:
        with host.opened(FOLDER, os.O_RDONLY) as folder:
            os.fsync(folder)


def daemon_started(host: Host) -> None:
    """Withdraw the mark as the daemon starts, and stop udev's rules from starting one."""
    host.remove(ASLEEP)
    remove_mark(host)


# -- the archive that was applied last ---------------------------------------------------


def keep_archive(ctx: Context, medium: Medium, descriptor: int) -> None:
    """Copy the archive from the medium, open as ``descriptor``, to ARCHIVE before it is overwritten.

    gandi-check compares it with what the platform delivers on a new disk: the same bytes are nothing new.
    Only an archive is kept that was read whole and without a plain password (the source step keeps its
    digest then), that has no kernel modules, and of at most 1 MiB. Otherwise the last copy is removed.
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
    """Remove the copy of the archive, which is no longer what is in force."""
    host.remove(ARCHIVE)


def archive_size(ctx: Context) -> int:
    """Return the size in bytes of the archive that is kept and in force, 0 if there is none."""
    if ctx.state.identity() is None or not ctx.host.exists(f"{ctx.state.folder()}/delivered"):
        return 0
    try:
        return max(0, os.stat(ctx.host.path(ARCHIVE)).st_size - _BEHIND)
    except FileNotFoundError:
        return 0


# -- what was seen at the beginning of such a boot ---------------------------------------


def seen_at_boot(host: Host, kind: str) -> dict[str, Any] | None:
    """Return what a stage of this boot would have stored for a kind (agent/state/boot_cache.py).

    For CPUs and memory: the inode numbers of their sysfs folders; for the others, what was seen in the boot
    before. None in a boot that is not settled.
    """
    said = lines(host.read(FLAG) or "")
    prefix = {"cpus": "cpu", "memory": "memory"}.get(kind)
    if prefix is None:
        start = f"seen {kind} "
        found = next((line.removeprefix(start) for line in said if line.startswith(start)), None)
        return None if found is None else parsed_object(found)
    rows = [line.split(" ") for line in said if line.startswith(f"folder {prefix}")]
    return {name: int(number) for _, name, number in rows} if rows else None
