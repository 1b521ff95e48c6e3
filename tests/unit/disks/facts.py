"""Facts for tests: an ordinary data disk, from which each row differs in one thing."""

from __future__ import annotations

from typing import Any

from agent.block.storage import Device, Disk
from agent.block.transport import Transport
from agent.config.settings import Settings
from agent.disks.base.facts import Facts, Machine
from agent.lib.records import replace

GIB = 1 << 30
EXT4 = {"ID_FS_TYPE": "ext4", "ID_FS_USAGE": "filesystem", "ID_FS_UUID": "aaaa-1", "ID_FS_LABEL_ENC": "data"}


def whole(**udev: str) -> Disk:
    """Return a virtio disk with a filesystem and no partitions; an empty value removes a udev property."""
    properties = {key: value for key, value in (EXT4 | udev).items() if value}
    return Disk(Device("vdb", "254:16", GIB, udev=properties), (), Transport.VIRTIO, "", "7")


def parted(*parts: Device, **udev: str) -> Disk:
    """Return a disk with a GPT and these partitions."""
    return Disk(
        Device("vdb", "254:16", GIB, udev={"ID_PART_TABLE_TYPE": "gpt", **udev}),
        parts,
        Transport.VIRTIO,
        "",
        "7",
    )


def part(number: int = 1, **udev: str) -> Device:
    """Return a partition of 100 MiB with a filesystem."""
    size = 100 << 20
    properties = {key: value for key, value in (EXT4 | udev).items() if value}
    return Device(f"vdb{number}", f"254:{16 + number}", size, number * size, number, udev=properties)


def facts(
    disk: Disk,
    device: Device | None = None,
    *,
    settings: Settings | None = None,
    remembered: dict[str, dict[str, Any]] | None = None,
    **machine: Any,
) -> Facts:
    """Return the facts about one device of a disk (by default the whole disk), without other disks."""
    return Facts(
        disk,
        device or disk.device,
        replace(Machine(), **machine),
        settings or Settings(),
        remembered or {},
    )
