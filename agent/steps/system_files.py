"""Step: have localhost in /etc/hosts, and the root filesystem in /etc/fstab by its UUID, which does not
depend on the order of the disks.

A root filesystem that is named by a label, an LVM path or the like is left as it is. The first version of
/etc/fstab is kept in /etc/fstab.gandi-old.
"""

from __future__ import annotations

import re
from functools import partial

from agent.block import fstab, mounts, storage
from agent.lib.text import BLANKS, lines, words
from agent.report import guarded, skipped, unchanged
from agent.udev import database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

HOSTS, FSTAB, OLD_FSTAB = "/etc/hosts", fstab.FSTAB, fstab.OLD_FSTAB
_LOCAL = {"127.0.0.1": "localhost", "::1": "localhost ip6-localhost ip6-loopback"}
#: Kernel names that depend on the order in which disks are found.
_KERNELS_NAME = r"/dev/(?:[hsv]d[a-z]+|xvd[a-z]+|nvme[0-9]+n[0-9]+p?|mmcblk[0-9]+p?)[0-9]*"
#: Filesystems to check at boot (fstab's sixth field); fsck does nothing for the others.
_CHECKED = ("ext2", "ext3", "ext4", "vfat", "f2fs")


def apply(ctx: Context) -> Iterator[Item]:
    """Reconcile the two lines of localhost and the root filesystem's, as one item each."""
    for address in _LOCAL:
        yield from guarded(f"localhost:{address}", _localhost(ctx, address))
    yield from guarded("fstab", _root(ctx))


def _localhost(ctx: Context, address: str) -> Iterator[Item]:
    text, line = ctx.host.read(HOSTS) or "", f"{address}\t{_LOCAL[address]}\n"
    entries = (words(one.partition("#")[0]) for one in lines(text))
    there = any(one and one[0] == address and "localhost" in one[1:] for one in entries)
    yield ctx.state.system().reconcile(
        f"localhost:{address}",
        wanted="localhost",
        live="localhost" if there else None,
        apply=lambda: ctx.host.write(HOSTS, _put(text, line, after=address == "::1")),
    )


def _put(text: str, line: str, *, after: bool) -> str:
    """Return the text with the line added at its top, or with ``after`` below its first line."""
    first, newline, rest = text.partition("\n")
    return f"{first}{newline}{line}{rest}" if after and newline else line + text


def _root(ctx: Context) -> Iterator[Item]:
    uuid, fstype = _root_filesystem(ctx.host)
    if not uuid:
        yield skipped("fstab", "the root filesystem has no UUID")
        return
    text = ctx.host.read(FSTAB) or ""
    entries = (words(line) for line in lines(text) if not line.lstrip(BLANKS).startswith("#"))
    spec = next((fields[0] for fields in entries if fields[1:2] == ["/"]), None)
    if spec is not None and spec != f"UUID={uuid}" and not re.fullmatch(_KERNELS_NAME, spec):
        yield unchanged("fstab", f"/ is {spec}")
        return
    yield ctx.state.system().reconcile(
        "fstab",
        delivered="UUID",
        wanted=f"UUID={uuid}",
        live=spec,
        apply=partial(_write, ctx.host, text, spec, f"UUID={uuid}", fstype),
        detail=f"/ is UUID={uuid}",
    )


def _root_filesystem(host: Host) -> tuple[str, str]:
    """Return UUID and type of the filesystem at /, "" and "" if it has no UUID."""
    found = [mount for mount in mounts.mounts(host) if mount.mountpoint == "/"]
    for number in found[-1].devnos if found else ():
        uuid = database.block(host, storage.name_of(host, number)).get("ID_FS_UUID", "")
        if uuid:
            return uuid, found[-1].fstype
    return "", ""


def _write(host: Host, text: str, spec: str | None, wanted: str, fstype: str) -> None:
    if text and not host.exists(OLD_FSTAB):
        host.write(OLD_FSTAB, text)
    if spec is None:
        kept = text if text.endswith("\n") or not text else f"{text}\n"
        host.write(FSTAB, f"{kept}{wanted} / {fstype} defaults 0 {int(fstype in _CHECKED)}\n")
        return
    line = re.compile(rf"^([ \t]*){re.escape(spec)}(?=[ \t]+/[ \t])", re.MULTILINE)
    host.write(FSTAB, line.sub(lambda found: found[1] + wanted, text, count=1))
