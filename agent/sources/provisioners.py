"""Other tools in the image that set a machine up, and do so at this boot: two that do the same job undo each
other's work. From files alone, since nothing can be asked at this time of the boot.
"""

from __future__ import annotations

import re

from agent.lib.text import BLANKS
from agent.systemd import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host

#: Units that are enabled only where their platform's image wants them.
_UNITS = {
    "waagent": ("walinuxagent.service", "waagent.service"),
    "google-guest-agent": ("google-guest-agent.service", "google-guest-agent-manager.service"),
}


def active(host: Host) -> str:
    """The name of one that is at work here, "" where there is none."""
    if _cloud_init(host):
        return "cloud-init"
    return next(
        (name for name, all_ in _UNITS.items() if any(units.enabled(host, unit) for unit in all_)), ""
    )


def _cloud_init(host: Host) -> bool:
    """Whether its generator, which runs before every unit, has enabled it with a data source other than None
    (cloud-init's documentation, "ds-identify").
    """
    if not host.exists("/run/cloud-init/enabled"):
        return False
    lists = re.findall(
        r"^datasource_list:[ \t]*\[(.*)\]", host.read("/run/cloud-init/cloud.cfg") or "", re.MULTILINE
    )
    named = {word.strip(BLANKS).strip("\"'") for text in lists for word in text.split(",")}
    return not named or bool(named - {"None", ""})
