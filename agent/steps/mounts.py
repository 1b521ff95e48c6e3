"""Step: write the document's entries of /etc/fstab (cloud-config's ``mounts``), and mount what is new.

It runs before data disks are mounted: a disk that fstab names is then left to it. No entry is ever removed.
"""

from __future__ import annotations

from functools import partial

from agent.block import fstab
from agent.lib.text import words
from agent.report import Outcome, guarded, skipped
from agent.systemd import credentials, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.system import Mount
    from agent.context import Context
    from agent.report import Item

_BY = {"UUID": "by-uuid", "LABEL": "by-label", "PARTUUID": "by-partuuid", "PARTLABEL": "by-partlabel"}


def apply(ctx: Context) -> Iterator[Item]:
    """Reconcile each entry, then have systemd start what has changed, without waiting for it."""
    started: list[str] = []
    for mount in ctx.config.system.mounts if ctx.config and ctx.config.system else ():
        entry = fstab.line(
            mount.spec, mount.mountpoint, mount.fstype, mount.options, mount.dump, mount.passno
        )
        place = mount.spec if _is_swap(mount) else mount.mountpoint
        for item in guarded(f"mount:{place}", _reconcile(ctx, f"mount:{place}", entry)):
            if item.outcome is Outcome.CHANGED and "noauto" not in mount.options.split(","):
                started.append(_unit(mount))
            yield item
    if started and ctx.host.live:
        ctx.host.run(("systemctl", "daemon-reload"))
        # A device may come later, and a network mount needs the network: this stage waits for neither.
        ctx.host.run(("systemctl", "--no-block", "start", *started))


def _reconcile(ctx: Context, name: str, entry: str) -> Iterator[Item]:
    # Of two entries for one mountpoint, systemd's generator takes that of /etc/fstab.
    if fstab.find(credentials.text(ctx.host, credentials.FSTAB), entry):
        yield skipped(name, f"systemd mounts it, by its credential {credentials.FSTAB}")
        return
    yield ctx.state.reconcile(
        name,
        wanted=entry,
        live=fstab.find(ctx.host.read(fstab.FSTAB) or "", entry),
        apply=partial(fstab.put, ctx.host, entry),
        detail=words(entry)[0],
    )


def _is_swap(mount: Mount) -> bool:
    return mount.fstype == "swap" or mount.mountpoint in ("none", "swap")


def _unit(mount: Mount) -> str:
    """Return the name of the unit that systemd makes of the entry."""
    if not _is_swap(mount):
        return units.of_path(mount.mountpoint, "mount")
    tag, _, name = mount.spec.partition("=")
    return units.of_path(f"/dev/disk/{_BY[tag]}/{name}" if tag in _BY else mount.spec, "swap")
