"""Detect other provisioning tools that are active at this boot: two such tools would undo each other's work.

It is detected from files alone, since systemd cannot be queried this early in the boot.
"""

from __future__ import annotations

import re

from agent.lib.text import BLANKS
from agent.systemd import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host

#: Tool -> units that are enabled only in images of the tool's platform.
_UNITS = {
    "waagent": ("walinuxagent.service", "waagent.service"),
    "google-guest-agent": ("google-guest-agent.service", "google-guest-agent-manager.service"),
}


def active(host: Host) -> str:
    """Return the name of an active tool, "" if there is none."""
    if _cloud_init(host):
        return "cloud-init"
    return next(
        (name for name, all_ in _UNITS.items() if any(units.is_enabled(host, unit) for unit in all_)), ""
    )


def _cloud_init(host: Host) -> bool:
    """Return whether cloud-init's generator, which runs before all units, has enabled it with a data source
    other than None (cloud-init's documentation, "ds-identify").
    """
    if not host.exists("/run/cloud-init/enabled"):
        return False
    lists = re.findall(
        r"^datasource_list:[ \t]*\[(.*)\]", host.read("/run/cloud-init/cloud.cfg") or "", re.MULTILINE
    )
    named = {word.strip(BLANKS).strip("\"'") for text in lists for word in text.split(",")}
    return not named or bool(named - {"None", ""})
