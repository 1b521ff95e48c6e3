"""Detect whether mount mode *autofs* is in use, or was."""

from __future__ import annotations

import os

from agent.config.settings import MountMode

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
    folder, _, name = AUTOFS_LINK.rpartition("/")
    return is_wanted or ctx.host.exists(AUTOFS_STATE) or os.path.islink(f"{ctx.host.path(folder)}/{name}")
