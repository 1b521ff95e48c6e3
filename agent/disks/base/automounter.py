"""Detect whether mount mode *autofs* is in use, or was."""

from __future__ import annotations

from agent.config.settings import MountMode
from agent.host.chroot_path import link_target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.context import Context

#: The agent's file in autofs's auto.master.d, and the state of mount mode *autofs* in this boot.
AUTOFS_LINK = "/etc/auto.master.d/gandi.autofs"
AUTOFS_STATE = "/run/gandi/autofs"


def has_automounter(ctx: Context) -> bool:
    """Return whether autofs is to mount data disks, or traces of an earlier setting are left. If not, which
    is the usual case, mode_autofs.py is not imported.
    """
    is_wanted = ctx.settings.mount_mode is MountMode.AUTOFS
    return is_wanted or ctx.host.exists(AUTOFS_STATE) or link_target(ctx.host, AUTOFS_LINK) is not None
