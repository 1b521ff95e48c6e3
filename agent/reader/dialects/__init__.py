"""The dialects: one file for each platform, with its row in ``DIALECTS``.

The file has ``parse_files(files) -> Reading``. To add a platform, add both, and its labels to
udev/86-gandi-agent.rules.
"""

from __future__ import annotations

from agent.lib.records import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """What tells a platform's drives from others, and what their reader needs."""

    #: The filesystem's labels, in lower case. CloudStack's other one is a setting.
    labels: tuple[str, ...] = ()
    #: A name in the root folder, which plain ISO 9660 may have cut: a regular expression, in any case.
    mark: str = ""
    #: Whether the files are YAML; and whether user data may be, or a message of several parts.
    is_yaml: bool = False
    has_user_data: bool = False


#: By the name in CONFIG_DATASOURCE and of the module, in the order in which a drive that may be of several
#: is taken for one. The first is the swap disk's archive, on no drive.
DIALECTS = {
    "gandi": Dialect(),
    "cloudstack": Dialect(("config-2",), r"cloudsta[a-z]*/.+", has_user_data=True),
    "openstack": Dialect(("config-2",), r"openstac[a-z]*/.+", has_user_data=True),
    "nocloud": Dialect(("cidata",), r"(meta|user)[-_]da[ta]*\.?", is_yaml=True),
    "native": Dialect(("gandi",), r"gandi\.js[on]*\.?|gandi/config\.?"),
}
#: Those that are on drives.
DRIVES = tuple(name for name, dialect in DIALECTS.items() if dialect.labels)
