"""The CloudStack config drive: a file for each value below ``cloudstack/``, and OpenStack's layout.

Format: Apache CloudStack, ConfigDriveBuilder.java. The platform omits empty values; names have hyphens or
underscores, and plain ISO 9660 shortens them.
"""

from __future__ import annotations

from agent.lib.text import WHITE, delivered_lines
from agent.reader.common import fields, values
from agent.reader.common.document import read_text, small
from agent.reader.common.drive_names import DriveNames
from agent.reader.common.merge import DEFAULT, Draft, PasswordForm
from agent.reader.common.problem import HARMLESS
from agent.reader.dialects import openstack
from agent.reader.formats import user_data

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.reader.common.result import Reading

SOURCE = "cloudstack"
#: Written by the platform in place of a password that was fetched before.
SAVED = "saved_password"
#: The password server's answer to a request that it does not take.
_NONE = "bad_request"
_METADATA = (
    *("service-offering", "availability-zone", "local-hostname", "local-ipv4", "public-ipv4"),
    *("public-hostname", "instance-id", "vm-id", "cloud-identifier", "hypervisor-host-name"),
)
_ADDRESSES = ("local-ipv4", "public-ipv4")
#: Maximum bytes of one value.
_LIMIT = 256 << 10
_OPENSTACK = "openstack/latest"


def parse_files(files: Mapping[str, bytes]) -> Reading:
    """Return the drive's configuration. The password has precedence: it is delivered only with the first
    start after a reset.
    """
    drive = _Drive(files)
    draft = drive.draft
    password = drive.text("cloudstack/password/vm_password.txt").replace("\r", "").strip("\n")
    if password.strip(WHITE) == _NONE:
        draft.add_problem("vm_password.txt", "no password, but an error of the platform", "reset it again")
    elif password.strip(WHITE) not in ("", SAVED):
        draft.add_password(DEFAULT, password, "vm_password.txt", form=PasswordForm.PLAIN)
    user = drive.names.find("cloudstack/userdata/user_data.txt")
    user = user or drive.names.find(f"{_OPENSTACK}/user_data")
    said = drive.metadata()
    if user is not None:
        # CloudStack joins the user data of a template and of a machine.
        user_data.read(files[user], user, draft, metadata=said, is_joined=True)
    drive.describe(said)
    openstack.network(f"{_OPENSTACK}/network_data.json", files, drive.names, draft)
    openstack.vendor_data(_OPENSTACK, files, drive.names, draft)
    return draft.reading()


class _Drive:
    """The drive's files, and the draft of their configuration."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files
        self.names = DriveNames(files)
        self.draft = Draft(SOURCE)

    def text(self, wanted: str) -> str:
        """Return a file's text, "" if it is missing."""
        name = self.names.find(wanted)
        if name is None:
            return ""
        held = small(name, self.files[name], _LIMIT, self.draft.problems)
        return read_text(held) if held else ""

    def metadata(self) -> dict[str, str]:
        """Return the valid values of the metadata."""
        texts = {key: self.text(f"cloudstack/metadata/{key}.txt").strip(WHITE) for key in _METADATA}
        return {key: text for key, text in texts.items() if text and self._is_valid(key, text)}

    def describe(self, said: Mapping[str, str]) -> None:
        """Add identity, hostname, keys and metadata to the draft."""
        draft = self.draft
        for key, text in said.items():
            draft.add_metadata(key, text)
        draft.id = self._value("instance-id", values.instance, said) or self._value(
            "vm-id", values.instance, said
        )
        draft.hostname = draft.hostname or self._value("local-hostname", fields.hostname, said)
        keys = self.text("cloudstack/metadata/public-keys.txt")
        draft.add_keys(DEFAULT, delivered_lines(keys), "public-keys.txt")
        name = self.names.find(f"{_OPENSTACK}/meta_data.json")
        if name is not None and not (draft.id and draft.hostname and keys):
            found = openstack.metadata(name, self.files[name], draft)
            openstack.describe(found, name, draft)

    def _is_valid(self, key: str, text: str) -> bool:
        """Return whether an address is valid; the platform is known to write a MAC address there."""
        if key not in _ADDRESSES:
            return True
        try:
            fields.address(text)
        except ValueError:
            self.draft.add_problem(
                f"{key}.txt", "not an IP address: ignored", "nothing depends on it", severity=HARMLESS
            )
            return False
        return True

    def _value(self, key: str, reader: Callable[[object], str], said: Mapping[str, str]) -> str:
        try:
            return reader(said.get(key, ""))
        except ValueError as error:
            self.draft.add_refused(f"{key}.txt", error, lost="")
            return ""
