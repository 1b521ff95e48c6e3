"""Configuration drives as sources: CloudStack's, OpenStack's, NoCloud's, and those with a native document.
What is passed without a medium (passed.py) counts as a drive.

A drive is an ISO 9660 or FAT filesystem with one of a few labels, on an optical drive or a disk of the
platform's buses. One with such a label elsewhere (a loop device, a USB stick) is reported and never opened:
a user who can make one could give themselves root's keys. Nothing on a drive is ever changed. Two drives
that describe different machines are both refused, since there is no way to choose.
"""

from __future__ import annotations

import re

from agent import __version__
from agent.block import storage, unresponsive
from agent.block.transport import why_not_platform_disk
from agent.context import Medium
from agent.host import machine_uuid
from agent.host.sysfs import devnode
from agent.lib.digest import sha256
from agent.lib.errors import AgentError, ConfigError, HostError
from agent.lib.records import dataclass, replace
from agent.reader.common import nocloud_names
from agent.reader.common.problem import Problem, shown
from agent.reader.dialects import DIALECTS, DRIVES
from agent.report import Item, failed, skipped
from agent.sources import (
    LINE,
    FoundMedium,
    SearchRequest,
    SearchResult,
    needs_signature,
    nocloud_line,
    passed,
)
from agent.sources.superblock import LabelledDevice, labelled
from agent.udev import database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from agent.config.model import Identity
    from agent.host.host import Host
    from agent.reader.client import Parsed
    from agent.sources.drive_files import Tree

    Places = Callable[[Host], Iterable[str]]

#: Label in lower case -> the dialects with drives of that label. CloudStack's own label is a setting.
LABELS = {
    label: tuple(name for name in DRIVES if label in DIALECTS[name].labels)
    for name in DRIVES
    for label in DIALECTS[name].labels
}
#: The dialects of what is passed: by credentials and fw_cfg, and by lines.
NATIVE, NOCLOUD = "native", "nocloud"
_MARKS = {name: re.compile(DIALECTS[name].mark, re.IGNORECASE | re.ASCII) for name in DRIVES}


@dataclass(frozen=True, slots=True)
class Drive:
    """A drive that was read: its dialect, its files, and a digest of them."""

    medium: Medium
    dialect: str
    tree: Tree
    digest: str


def candidate_devices(host: Host) -> list[str]:
    """Return the kernel names of all devices that may be a drive, in bus order, each disk before its
    partitions.
    """
    return [
        device
        for name in storage.names(host)
        if not _why_excluded(host, name) and not unresponsive.is_unresponsive(host, name)
        for device in storage.with_partitions(host, name)
    ]


def search(request: SearchRequest, candidates: Places = candidate_devices) -> SearchResult:
    """Return the drive to use, parsed, and a note on each other one with the reason.

    Raise ConfigError, naming both, for two drives that describe different machines.
    """
    labels, notes = _labels(request.label), list(excluded_drives(request.host, request.label))
    if request.host.debug:
        for name in storage.names(request.host):
            request.host.debug(
                f"source drives: {name}: {_why_excluded(request.host, name) or 'may be a drive'}"
            )
    drives = list(passed_drives(request.host, request.sources, notes))
    drives += (
        drive for name in candidates(request.host) for drive in _read_from(request, name, labels, notes)
    )
    if NOCLOUD in request.sources:
        drives = with_lines(request.host, drives)
    if needs_signature(request.host):
        from agent.sources import signed

        verified = signed.verified(request.host, drives, notes)
        # Each is parsed, also one that was stored before: only then its counter is known.
        read = signed.accepted(request.host, _read_all(verified, ""), notes)
    else:
        read = _read_all(drives, request.known_digest)
    return SearchResult(_choose(read, notes), tuple(notes))


def passed_drives(host: Host, wanted: Iterable[str], notes: list[Item]) -> Iterator[Drive]:
    """Yield what is passed without a medium, as drives; add what cannot be used to ``notes``."""
    for one in passed.search(host, wanted, notes):
        yield _without_medium(host, NATIVE, Medium(one.source, one.place, "", is_named=True), one.files)


def with_lines(host: Host, drives: list[Drive]) -> list[Drive]:
    """Return the drives with the lines of NoCloud (nocloud_line.py): each NoCloud drive has them among its
    files; without such a drive they are one more.
    """
    lines = nocloud_line.read(host)
    if not lines:
        return drives
    found = [drive for drive in drives if drive.dialect == NOCLOUD]
    for drive in found:
        drive.tree.files.update(lines)
    if not found and (place := next((name for name in lines if name != nocloud_names.NETWORK), "")):
        return [*drives, _without_medium(host, NOCLOUD, Medium(LINE, place, "", is_named=True), lines)]
    return [replace(one, digest=_digest(NOCLOUD, one.tree)) if one in found else one for one in drives]


def _without_medium(host: Host, dialect: str, medium: Medium, files: dict[str, bytes]) -> Drive:
    """Return what is passed without a medium as a drive. It may leave out the machine's id, and yet it is
    this machine's: its digest has the machine's UUID.
    """
    from agent.sources.drive_files import Tree

    tree, uuid = Tree(files), machine_uuid.read_uuid(host)
    return Drive(medium, dialect, tree, _digest(f"{dialect}\0{medium.source}\0{uuid}", tree))


def _read_from(
    request: SearchRequest, name: str, labels: Mapping[str, tuple[str, ...]], notes: list[Item]
) -> Iterable[Drive]:
    """Yield the drive on the device if it is of a wanted source; else add the reason to ``notes``."""
    device = labelled(request.host, name, labels)
    if device is None or not set(labels[device.label]) & set(request.sources):
        if request.host.debug:
            why = f"labelled {device.label}" if device else "no filesystem with a drive's label"
            request.host.debug(f"source drives: {name}: not read: {why}")
        return
    try:
        drive = _read(device, labels[device.label])
    except AgentError as error:
        notes.append(failed(device.node, error.message.removeprefix(f"{device.node}: "), error.hint))
        return
    if request.host.debug:
        dialect = drive.dialect if drive else "no"
        request.host.debug(f"source drives: {name}: read: labelled {device.label}, {dialect} configuration")
    if drive is None:
        notes.append(skipped(device.node, f"labelled {device.label}, but contains no configuration"))
    elif drive.dialect in request.sources:
        yield drive


def may_have_drive(host: Host, disk: str, label: str) -> bool:
    """Return whether a disk, or a partition of it, may be a drive. ``label``: CONFIG_CONFIGDRIVE_LABEL."""
    if _why_excluded(host, disk) or unresponsive.is_unresponsive(host, disk):
        return False
    return any(labelled(host, name, _labels(label)) for name in storage.with_partitions(host, disk))


def excluded_drives(host: Host, label: str) -> Iterable[Item]:
    """Yield a note on each device with a drive's label where no platform puts a drive.

    The label is udev's. The device is not opened at all: a user who made it could also make it hang.
    """
    for disk in storage.names(host):
        if why := _why_excluded(host, disk):
            for name in storage.with_partitions(host, disk):
                found = database.block(host, name).get("ID_FS_LABEL", "").lower()
                if found in _labels(label):
                    yield skipped(devnode(name), f"labelled {found}, but {why}: never read")


def _labels(setting: str) -> Mapping[str, tuple[str, ...]]:
    own = setting.lower()
    return LABELS if not own or own in LABELS else {own: ("cloudstack",)} | LABELS


def _why_excluded(host: Host, disk: str) -> str:
    return why_not_platform_disk(host, storage.devpath(host, disk))


def _read(device: LabelledDevice, dialects: tuple[str, ...]) -> Drive | None:
    """Return the drive with its files and the dialect by their names, None without a configuration."""
    from agent.block import detached_mount
    from agent.sources.drive_files import Tree

    tree = Tree()
    with detached_mount.mounted(device.node, device.fstype, device.devno) as root:
        try:
            tree.add_folder(root)
        except OSError as error:
            raise HostError(f"{device.node}: cannot be read: {error.strerror}") from error
    dialect = dialect_of(tree, dialects)
    medium = Medium(dialect, device.name, device.devno)
    return Drive(medium, dialect, tree, _digest(dialect, tree)) if dialect else None


def dialect_of(tree: Tree, dialects: Iterable[str] = DRIVES) -> str:
    """Return the first dialect with a mark among the drive's file names, "" if there is none."""
    names = {*tree.files, *tree.skipped}
    return next((d for d in dialects if any(_MARKS[d].fullmatch(name) for name in names)), "")


def _digest(dialect: str, tree: Tree) -> str:
    """Return a digest of the agent's version, the dialect and all files (names and content, not dates)."""
    digest = sha256(f"{__version__}\0{dialect}".encode())
    for name, content in sorted(tree.files.items()):
        digest.update(f"\0{name}\0{len(content)}\0".encode())
        digest.update(content)
    for name in sorted(tree.skipped):
        digest.update(f"\0{name}".encode())
    return digest.hexdigest()


# -- which one counts -----------------------------------------------------------------------------


def _read_all(drives: list[Drive], known_digest: str) -> list[tuple[Drive, Parsed]]:
    if len({drive.digest for drive in drives}) > 1:
        known_digest = ""  # parse them all, to compare what they say
    return [(drive, _parsed(drive, known_digest)) for drive in drives]


def _choose(read: list[tuple[Drive, Parsed]], notes: list[Item]) -> FoundMedium | None:
    """Return the first drive in bus order that can be parsed; add notes on the others to ``notes``."""
    usable = [(drive, parsed) for drive, parsed in read if parsed.is_unchanged or parsed.config]
    if not usable:
        return _found(*read[0]) if read else None
    first, chosen = usable[0]
    for other, parsed in read:
        if other is first:
            continue
        if parsed.config is None and not parsed.is_unchanged:
            notes += [failed(f"{other.medium.place}: {p.path}", p.message, p.hint) for p in parsed.problems]
        elif not _same_machine(chosen, parsed):
            both = f"{first.medium.place} and {other.medium.place}"
            raise ConfigError(
                f"{both} describe different machines: none is applied",
                hint="detach the one that is not this machine's, or name one source in CONFIG_DATASOURCE",
            )
        else:
            notes.append(
                skipped(other.medium.place, f"describes this machine too; {first.medium.place} is used")
            )
    return _found(first, chosen)


def _parsed(drive: Drive, known_digest: str) -> Parsed:
    """Parse the drive's files; for a drive with the digest ``known_digest``, start no parser."""
    from agent.reader import client

    if known_digest and drive.digest == known_digest:
        return client.Parsed(
            config=None,
            files={},
            raw=None,
            problems=(),
            digest=drive.digest,
            is_unchanged=True,
            is_recognised=True,
            is_complete=True,
            extent=(0, 0),
            modules=(),
        )
    return replace(read_tree(drive.dialect, drive.tree), digest=drive.digest, is_unchanged=False)


def read_tree(dialect: str, tree: Tree) -> Parsed:
    """Parse a drive's files; files that were left out are among the problems."""
    from agent.reader import client

    found = client.parse_files(dialect, tree.files)
    left = tuple(
        Problem(shown(name), f"left out: {why}", "the platform must deliver a correct drive")
        for name, why in sorted(tree.skipped.items())
    )
    return replace(found, problems=(*found.problems, *left))


def _same_machine(one: Parsed, other: Parsed) -> bool:
    if one.config is None or other.config is None:
        return one.is_unchanged and other.is_unchanged
    return same_identity(one.config.identity, other.config.identity)


def same_identity(one: Identity, other: Identity) -> bool:
    """Return whether two identities are the same machine: same source and id, UUIDs in any spelling."""
    return one == other or (one.source == other.source and machine_uuid.is_same_uuid(one.id, other.id))


def _found(drive: Drive, parsed: Parsed) -> FoundMedium:
    return FoundMedium(drive.medium, parsed)
