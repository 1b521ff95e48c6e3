"""The dialects: one module for each platform, with its row in ``DIALECTS``.

The module has ``parse_files(files) -> Reading``. To add a platform, add both, and its labels to
udev/86-gandi-agent.rules.
"""

from __future__ import annotations

from agent.lib.records import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """How to recognise a platform's drives, what is read from them, and what their parser needs.

    Names and paths are regular expressions, case-insensitive; plain ISO 9660 may cut them short.
    """

    #: The filesystem's labels in lower case. CloudStack's other label is a setting.
    labels: tuple[str, ...] = ()
    #: The path that only this platform's drives have.
    mark: str = ""
    #: The folders in the drive's root that are read with all that is in them, and the files there. No other
    #: name in the root is read, except those of another row.
    folders: str = ""
    files: str = ""
    #: Whether the files are YAML; whether there may be user data in YAML or MIME.
    is_yaml: bool = False
    has_user_data: bool = False


#: By the name in CONFIG_DATASOURCE, which is the module's too. The first that a drive matches is used. The
#: first row is the archive on the swap disk, not a drive.
DIALECTS = {
    "gandi": Dialect(),
    "cloudstack": Dialect(
        labels=("config-2",), mark=r"cloudsta[a-z]*/.+", folders=r"cloudsta[a-z]*", has_user_data=True
    ),
    "openstack": Dialect(
        labels=("config-2",), mark=r"openstac[a-z]*/.+", folders=r"openstac[a-z]*", has_user_data=True
    ),
    "nocloud": Dialect(
        labels=("cidata",),
        mark=r"(meta|user)[-_]da[ta]*\.?",
        files=r"((meta|user|vendor)[-_]d[at]*|network[-_][a-z]*)\.?",
        is_yaml=True,
    ),
    "native": Dialect(
        labels=("gandi",),
        mark=r"gandi\.js[on]*\.?|gandi/config\.?",
        folders=r"gandi",
        files=r"(gandi\.js[on]*(\.sig)?|gandi\.sig|script)\.?",
    ),
}
#: The dialects that are on drives.
DRIVES = tuple(name for name, dialect in DIALECTS.items() if dialect.labels)
