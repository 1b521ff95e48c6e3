"""The specification of an image, a machine, its disks and NICs. Frozen values with derived names."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum, StrEnum
from pathlib import Path

MIB = 1024 * 1024
GIB = 1024 * MIB


class Architecture(StrEnum):
    """Debian's name of an architecture."""

    AMD64 = "amd64"
    ARM64 = "arm64"


class Release(StrEnum):
    """The release of Debian that an image is made of, as its archive names the suite."""

    BOOKWORM = "bookworm"
    TRIXIE = "trixie"
    TESTING = "testing"


class Table(StrEnum):
    """The partition table of a root disk."""

    NONE = "none"
    MSDOS = "msdos"
    GPT = "gpt"


class RootFs(StrEnum):
    """The root filesystem of an image."""

    EXT4 = "ext4"
    XFS = "xfs"
    BTRFS = "btrfs"


class Network(StrEnum):
    """The network manager of an image."""

    NETWORKD = "networkd"
    IFUPDOWN = "ifupdown"
    NETPLAN = "netplan"
    NETWORKMANAGER = "networkmanager"


class Bus(StrEnum):
    """How a disk is attached. SATA disks cannot be hot-plugged in QEMU, and NVMe disks cannot be resized.

    CDROM is an optical drive on the SCSI controller, with the disk as its medium.
    """

    VIRTIO = "virtio"
    SCSI = "scsi"
    NVME = "nvme"
    SATA = "sata"
    CDROM = "cdrom"


class Firmware(StrEnum):
    """What boots the root disk: SeaBIOS, or OVMF (Debian's package ovmf)."""

    BIOS = "bios"
    UEFI = "uefi"


@dataclass(frozen=True, slots=True)
class GuestFile:
    """A file that the image builder adds to the tree, as its last step."""

    path: str
    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """A Debian disk image.

    `debs` are installed by apt in the finished tree. `size` is in bytes. `commands` are shell lines that are
    run in the tree (chroot) after the packages and before `files`. `disk_guid` is the GPT's (all zeros: an
    image made to be cloned); the GPT's root partition is named gandiroot and is the last one. A machine has
    the `architecture` of its image.
    """

    release: Release = Release.TRIXIE
    debs: tuple[Path, ...] = ()
    extra: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    network: Network = Network.NETWORKD
    root_fs: RootFs = RootFs.EXT4
    table: Table = Table.NONE
    size: int = 1536 * MIB
    commands: tuple[str, ...] = ()
    files: tuple[GuestFile, ...] = ()
    disk_guid: str | None = None
    architecture: Architecture = Architecture.AMD64


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk file for a machine. `id` names it in QMP and in `Machine.resize_disk`.

    `vendor` and `product` exist on SCSI only (8 and 16 characters); `serial` on every bus.
    """

    path: Path
    id: str
    bus: Bus = Bus.VIRTIO
    format: str = "raw"
    serial: str = ""
    vendor: str = ""
    product: str = ""
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """A virtio NIC. `backend` is the value of QEMU's -netdev before `,id=`; see its manual page.

    The default is a network of its own with a DHCP server (10.0.2.2) and no route out.
    Two guests share a wire with `stream,server=on,addr.type=unix,addr.path=P` on one and `server=off` on the
    other.
    """

    id: str
    mac: str
    backend: str = "user,restrict=on"
    options: str = ""

    @property
    def tap(self) -> bool:
        """Return whether it is a tap device, which QEMU makes in a network namespace of its own."""
        return self.backend.startswith("tap,")


def multiqueue_nic(id: str, mac: str, queues: int) -> Nic:
    """Return a NIC with several queue pairs that is connected to nothing."""
    backend = f"tap,ifname={id},script=no,downscript=no,queues={queues}"
    # An interrupt for each direction of each pair, one for the control queue, one for changes.
    return Nic(id=id, mac=mac, backend=backend, options=f"mq=on,vectors={2 * queues + 2}")


DEFAULT_NIC = Nic(id="net0", mac="52:54:00:00:00:10")


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    """The virtual hardware. Memory in MiB; `root_size` in bytes (0: as large as the image).

    `max_cpus` above `cpus` makes CPU hot-plug possible; see `qemu.cpu_arguments` for what that takes without
    KVM. `shell` gives people a root shell on a second serial port (`Machine.console`); tests use the
    channel. `debian_initrd` boots Debian's own kernel image and initrd instead of the rig's (see quick.py).
    `ports` are the names of virtio-serial ports beside the rig's own; each is a socket on the host
    (`Machine.port`).
    `generation` is the VM Generation ID, a UUID; the kernel reports another one when a state is resumed.
    `counted` makes the guest's clock count instructions, 8 ns each: what it says of CPU does not depend on
    the host. It idles for no time of the host's, so it is no clock for what waits for a disk.
    `skips` makes it count as well, and skip the time in which the guest rests (`Machine.rest`): an hour of
    idling takes seconds. The image has restless.FILES, and the guest one CPU.
    `firmware` boots the disk by itself, without the rig's kernel, initrd and command line.
    """

    cpus: int = 1
    max_cpus: int = 1
    memory: int = 512
    memory_slots: int = 4
    max_memory: int = 4096
    root_ports: int = 8
    root_bus: Bus = Bus.VIRTIO
    root_size: int = 0
    nics: tuple[Nic, ...] = (DEFAULT_NIC,)
    cmdline: tuple[str, ...] = ()
    shell: bool = False
    debian_initrd: bool = False
    counted: bool = False
    skips: bool = False
    firmware: Firmware | None = None
    smbios: tuple[str, ...] = ()
    fw_cfg: tuple[tuple[str, bytes], ...] = ()
    serial: str = ""
    ports: tuple[str, ...] = ()
    generation: str = ""
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))


def digest(*values: object) -> str:
    """Return a short stable name for `values`: specs by their fields, paths of files by their content."""
    hasher = hashlib.sha256()
    for value in values:
        hasher.update(_canonical(value))
    return hasher.hexdigest()[:16]


def _canonical(value: object) -> bytes:
    if is_dataclass(value) and not isinstance(value, type):
        inner = b",".join(f.name.encode() + b"=" + _canonical(getattr(value, f.name)) for f in fields(value))
        return type(value).__name__.encode() + b"(" + inner + b")"
    if isinstance(value, Path):
        return hashlib.sha256(value.read_bytes()).digest() if value.is_file() else bytes(value)
    if isinstance(value, tuple | list):
        return b"[" + b",".join(_canonical(item) for item in value) + b"]"
    if isinstance(value, Enum):
        return _canonical(value.value)
    return repr(value).encode()
