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

_DMI = "/sys/class/dmi/id/product_uuid"
#: Files with a UUID, in preference: Xen's own (a domU without DMI has only this), DMI's, and that
#: in the device tree of a guest on Power (QEMU's hw/ppc/spapr.c; with a NUL at its end).
FILES = ("/sys/hypervisor/uuid", _DMI, "/proc/device-tree/vm,uuid")
#: A guest on s390x: the line of its own level of virtualisation (arch/s390/kernel/sysinfo.c). The UUIDs of
#: other levels, and of the LPAR, are those of its hosts, which it has in common with other guests.
_SYSINFO, _LEVEL = "/proc/sysinfo", "VM00 UUID:"
#: SMBIOS structures as QEMU gives them to the firmware (docs/specs/fw_cfg), where the kernel's module
#: qemu_fw_cfg is loaded. They are there also if the kernel has no DMI: arm64 with a device tree.
TABLES = "/sys/firmware/qemu_fw_cfg/by_name/etc/smbios/smbios-tables/raw"
#: Most bytes of a file with a UUID, and of the others.
_LIMIT, _LARGER_LIMIT = 256, 1 << 16
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
    return _kept_uuid(host) or _uuid_without_dmi(host)


def uuid_in_tables(host: Host) -> str:
    """Return the UUID that QEMU gives this machine now, where its fw_cfg can be read; else ""."""
    tables = None if host.offline else host.read_bytes(TABLES, limit=_LARGER_LIMIT)
    if not tables:
        return ""
    from agent.host import smbios  # late: most machines have DMI

    return normalise(smbios.uuid_in(tables))


def uuid_of_boot(host: Host) -> str:
    """Return the UUID that this machine had when it booted, which its kernel keeps; "" if it keeps none."""
    return "" if host.offline else _kept_uuid(host, FILES[1:])


def _kept_uuid(host: Host, files: tuple[str, ...] = FILES) -> str:
    texts = ((host.read(name, limit=_LIMIT) or "").removesuffix("\0") for name in files)
    return next(filter(None, map(normalise, texts)), "")


def _uuid_without_dmi(host: Host) -> str:
    for line in (host.read(_SYSINFO, limit=_LARGER_LIMIT) or "").split("\n"):
        if line.startswith(_LEVEL):
            return normalise(line.removeprefix(_LEVEL))
    return "" if host.exists(_DMI) else uuid_in_tables(host)


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
    return text if is_machine_id(text) else ""


def is_machine_id(text: str) -> bool:
    """Return whether the text is spelled as a machine-id, so that it is no UUID."""
    return bool(re.fullmatch(r"[0-9a-f]{32}", text))


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
