"""The dialects: one module for each platform, with its row in ``DIALECTS``.

The module has ``parse_files(files) -> Reading``. To add a platform, add both, and its labels to
udev/86-gandi-agent.rules.
"""

from __future__ import annotations

from agent.lib.records import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """How to recognise a platform's drives, and what their parser needs."""

    #: The filesystem's labels in lower case. CloudStack's other label is a setting.
    labels: tuple[str, ...] = ()
    #: A path on the drive, as plain ISO 9660 may cut it: a regular expression, case-insensitive.
    mark: str = ""
    #: Whether the files are YAML; whether there may be user data in YAML or MIME.
    is_yaml: bool = False
    has_user_data: bool = False


#: By the name in CONFIG_DATASOURCE, which is the module's too. The first that a drive matches is used. The
#: first row is the archive on the swap disk, not a drive.
DIALECTS = {
    "gandi": Dialect(),
    "cloudstack": Dialect(("config-2",), r"cloudsta[a-z]*/.+", has_user_data=True),
    "openstack": Dialect(("config-2",), r"openstac[a-z]*/.+", has_user_data=True),
    "nocloud": Dialect(("cidata",), r"(meta|user)[-_]da[ta]*\.?", is_yaml=True),
    "native": Dialect(("gandi",), r"gandi\.js[on]*\.?|gandi/config\.?"),
}
#: The dialects that are on drives.
DRIVES = tuple(name for name, dialect in DIALECTS.items() if dialect.labels)
