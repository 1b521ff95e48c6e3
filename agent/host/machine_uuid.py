"""The identity of this machine: the UUID that the hypervisor assigns, in one spelling.

The same UUID may appear in two byte orders (SMBIOS stores the first three fields little-endian; older
hypervisors and kernels did not swap them) and in either case; ``is_same_uuid`` allows for both.
"""

from __future__ import annotations

import re

from agent.lib.text import WHITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host

#: In order of preference: Xen's own (a domU without DMI has only this), then DMI.
FILES = ("/sys/hypervisor/uuid", "/sys/class/dmi/id/product_uuid")
#: Lengths of a UUID's fields, and its characters. To compile a regular expression takes 1 M instructions.
_FIELDS, _CHARACTERS = [8, 4, 4, 4, 12], frozenset("0123456789abcdef-")
#: Values that firmware vendors ship in place of a UUID. All zeros and all F are recognised separately.
_PLACEHOLDERS = frozenset(
    {
        "03000200-0400-0500-0006-000700080009",
        "12345678-1234-5678-90ab-cddeefaabbcc",
        "fefefefe-fefe-fefe-fefe-fefefefefefe",
        "01020304-0506-0708-090a-0b0c0d0e0f10",
        "00010203-0405-0607-0809-0a0b0c0d0e0f",
        "4c4c4544-0000-2010-8020-80c04f202020",
    }
)


def read_uuid(host: Host) -> str:
    """Return the hypervisor's UUID of this machine in lower case; "" if it has none, or a placeholder."""
    if host.offline:
        return ""  # /sys, if present, is that of the machine on which the image is made
    return next((uuid for name in FILES if (uuid := normalise(host.read(name) or ""))), "")


def is_xen_pv(host: Host) -> bool:
    """Return whether this machine is a paravirtual Xen guest (the kernel's sysfs-hypervisor-xen)."""
    if host.offline:
        return False  # as in ``read_uuid``
    kind, guest = (host.read(f"/sys/hypervisor/{name}") or "" for name in ("type", "guest_type"))
    return (kind.strip(WHITE), guest.strip(WHITE)) == ("xen", "PV")


def fallback_id(host: Host) -> str:
    """Return the machine-id, the identity of a machine without a UUID; "" if it has none yet."""
    if host.offline:
        return ""  # the first boot replaces it
    text = (host.read("/etc/machine-id") or "").strip(WHITE).lower()
    return text if re.fullmatch(r"[0-9a-f]{32}", text) else ""


def normalise(text: str) -> str:
    """Return a UUID in lower case, "" for a placeholder or anything else."""
    uuid = text.strip(WHITE).lower()
    is_uuid = [len(part) for part in uuid.split("-")] == _FIELDS and _CHARACTERS.issuperset(uuid)
    if not is_uuid or len(set(uuid) - {"-"}) == 1:
        return ""
    return "" if {uuid, swap_bytes(uuid)} & _PLACEHOLDERS else uuid


def swap_bytes(uuid: str) -> str:
    """Return the UUID with its first three fields in the other byte order."""
    *fields, clock, node = uuid.split("-")
    return "-".join([*(bytes.fromhex(field)[::-1].hex() for field in fields), clock, node])


def is_same_uuid(one: str, other: str) -> bool:
    """Return whether two spellings mean the same machine."""
    one, other = normalise(one), normalise(other)
    return bool(one) and one in (other, swap_bytes(other) if other else "")
