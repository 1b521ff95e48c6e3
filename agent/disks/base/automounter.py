"""Whether the automounter has a part in mounting data disks."""

from __future__ import annotations

import os

from agent.config.settings import MountMode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.context import Context

#: The automounter's master file of the agent, and the state of that mount mode in this boot.
AUTOFS_LINK = "/etc/auto.master.d/gandi.autofs"
AUTOFS_STATE = "/run/gandi/autofs"


def has_automounter(ctx: Context) -> bool:
    """Whether the automounter has, or has had, a part in this; where not, which is nearly everywhere, what
    deals with it is not even loaded.
    """
    is_wanted = ctx.settings.mount_mode is MountMode.AUTOFS
    folder, _, name = AUTOFS_LINK.rpartition("/")
    return is_wanted or ctx.host.exists(AUTOFS_STATE) or os.path.islink(f"{ctx.host.path(folder)}/{name}")
