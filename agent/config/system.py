"""The rest of a document: what cloud-config says of the system beyond accounts, files and the network.

Stored with the document (agent/config/model.py), and imported only for one that has such a part.
"""

from __future__ import annotations

from agent.lib.canonical_json import record
from agent.lib.records import asdict, dataclass, fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


@dataclass(frozen=True, slots=True)
class Keyboard:
    """The keyboard, in the names of xkeyboard-config(7)."""

    layout: str
    model: str = "pc105"
    variant: str = ""
    options: str = ""


@dataclass(frozen=True, slots=True)
class Ntp:
    """Time servers. ``client`` is a program's name, "" for the one that is installed."""

    servers: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    client: str = ""


@dataclass(frozen=True, slots=True)
class CaCerts:
    """Certificates in PEM, one each; with ``remove_defaults`` those of the image are not trusted."""

    trusted: tuple[str, ...] = ()
    remove_defaults: bool = False


@dataclass(frozen=True, slots=True)
class Package:
    """A package to install. With ``manager`` (apt) it is for systems with that package manager only."""

    name: str
    version: str = ""
    manager: str = ""


@dataclass(frozen=True, slots=True)
class Packages:
    """What the package manager does once: refresh its lists, upgrade, install, and reboot if that is due."""

    names: tuple[Package, ...] = ()
    update: bool = False
    upgrade: bool = False
    reboot: bool = False


@dataclass(frozen=True, slots=True)
class AptSource:
    """A source of packages: a line of sources.list(5) and an armored key, either of which may be empty."""

    name: str
    source: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Archive:
    """Debian's archive, for /etc/apt/sources.list.d/debian.sources. ``security``: the URI of its security
    updates, "" for Debian's own. ``suite``: "" for the release that the system is.
    """

    uri: str
    security: str = ""
    suite: str = ""


@dataclass(frozen=True, slots=True)
class Apt:
    """Sources of apt. ``proxies``: URLs by scheme. ``conf``: text of apt.conf(5). ``mirrors``: URIs for the
    distribution's own sources, by ``primary`` and ``security``; with ``archive`` they are not used.
    """

    sources: tuple[AptSource, ...] = ()
    proxies: tuple[tuple[str, str], ...] = ()
    conf: str = ""
    mirrors: tuple[tuple[str, str], ...] = ()
    archive: Archive | None = None


@dataclass(frozen=True, slots=True)
class PartitionTable:
    """A partition table to make on a disk. ``kind`` is gpt or dos; ``parts`` are the percentage of the disk
    and the type of each partition, as sfdisk(8) has it. ``overwrite``: also if the disk is not blank.
    """

    device: str
    kind: str
    parts: tuple[tuple[int, str], ...]
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A filesystem to make on a device, or with ``partition`` on the one of that number. ``overwrite``: also
    if the device is not blank.
    """

    device: str
    fstype: str
    label: str = ""
    partition: str = ""
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of fstab(5)."""

    spec: str
    mountpoint: str
    fstype: str = "auto"
    options: str = "defaults,nofail"
    dump: int = 0
    passno: int = 0


@dataclass(frozen=True, slots=True)
class SwapFile:
    """A file to swap to. Sizes are in bytes; ``size`` None depends on the memory, up to ``maxsize`` (0: no
    other limit than the free space).
    """

    path: str
    size: int | None = None
    maxsize: int = 0


@dataclass(frozen=True, slots=True)
class Power:
    """Power off, reboot or halt, once, after everything else. ``delay`` in minutes. ``timeout``: seconds to
    wait for the end of the boot. ``condition``: a command that must succeed; () for none.
    """

    mode: str
    delay: int = 0
    message: str = ""
    timeout: int = 30
    condition: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PhoneHome:
    """A POST to ``url`` once, with these fields; ``tries``: how often it is tried."""

    url: str
    post: tuple[str, ...]
    tries: int = 10


@dataclass(frozen=True, slots=True)
class System:
    """What the document says of the system; a part that it does not have is None or empty."""

    locale: str = ""
    keyboard: Keyboard | None = None
    ntp: Ntp | None = None
    ca_certs: CaCerts | None = None
    packages: Packages | None = None
    apt: Apt | None = None
    tables: tuple[PartitionTable, ...] = ()
    filesystems: tuple[Filesystem, ...] = ()
    mounts: tuple[Mount, ...] = ()
    swap: SwapFile | None = None
    power: Power | None = None
    phone_home: PhoneHome | None = None
    final_message: str = ""
    #: The root filesystem grows with its disk (growpart, resize_rootfs).
    grow_root: bool = True
    #: Serial terminals with a login prompt, by the kernel's names.
    consoles: tuple[str, ...] = ()


def to_dict(system: System) -> dict[str, Any]:
    """Return the record as a document of JSON's types, without what has its default."""
    plain = System()
    return {
        one.name: _asdict(getattr(system, one.name))
        for one in fields(System)
        if getattr(system, one.name) != getattr(plain, one.name)
    }


def _asdict(value: Any) -> Any:
    if isinstance(value, tuple):
        return [one if isinstance(one, str) else asdict(one) for one in value]
    return value if isinstance(value, str | bool) else asdict(value)


def from_dict(given: Mapping[str, Any]) -> System:
    """Return the record of ``to_dict``'s document; lists may be tuples. Raises as ``record``."""
    return record(System, given)


def merged(first: System | None, more: System) -> System:
    """Return the values of ``first``, and of ``more`` where it says nothing; parts are merged alike."""
    return _merged(first, more) if first else more


def _merged(first: Any, more: Any) -> Any:
    of, chosen = type(first), {}
    for one in fields(of):
        mine, other = getattr(first, one.name), getattr(more, one.name)
        if isinstance(mine, _RECORDS) and isinstance(other, _RECORDS):
            chosen[one.name] = _merged(mine, other)
        else:
            chosen[one.name] = other if mine == one.default or mine is None else mine
    return of(**chosen)


#: The parts that are merged value by value, as cloud-init merges dictionaries.
_RECORDS = (Keyboard, Ntp, CaCerts, Packages, Apt, SwapFile)
