"""Make configuration media as platforms do, for operators, tests and demonstrations.

A swap image is a blank disk with a tar archive at 512 KiB; a drive is a folder or an ISO 9660 image. Either
may contain secrets, so only the owner can read it.
"""

from __future__ import annotations

import io
import json
import os
import tarfile

from agent.host import trees
from agent.lib.errors import ConfigError, HostError
from agent.reader.common import native_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.host.host import Host

#: Bytes from the beginning of the disk to the archive; older platforms put it at 0.
OFFSET = 512 << 10
#: Default size of a swap image in bytes.
SWAP_SIZE = 512 << 20
#: Label of a drive with a native document.
LABEL = "gandi"
#: In order of preference; all take the options of mkisofs(8).
_ISO_TOOLS: tuple[tuple[str, ...], ...] = (("xorriso", "-as", "mkisofs"), ("genisoimage",), ("mkisofs",))
_ISO_TIMEOUT = 300.0
_CHECK = "see: gandi-agent config schema, and gandi-agent config validate FILE"


def drive(config: bytes, script: bytes | None = None) -> dict[str, bytes]:
    """Return the files of a drive with a native document. Raise ConfigError for a document of another
    dialect: its platform makes its own drive.
    """
    try:
        document = json.loads(config)
    except ValueError as error:
        raise ConfigError(f"the document is not JSON: {error}", hint=_CHECK) from error
    if not isinstance(document, dict) or "version" not in document:
        raise ConfigError("a drive takes a native document only, and this one has no version", hint=_CHECK)
    return {"gandi.json": config} | ({"script": script} if script is not None else {})


def signed_drive(host: Host, config: bytes, key: str, script: bytes | None = None) -> dict[str, bytes]:
    """Return the files of a drive with a native document and its signature by ``key``: the path of a private
    key, or of a public one of which ssh's agent has the private one.

    Raise ConfigError for a document that a machine with trusted keys would refuse, HostError if
    ssh-keygen(1) failed.
    """
    from agent.sources import signed

    files = drive(config)
    lacking = [name for name in ("id", "counter") if not json.loads(config).get(name)]
    if lacking:
        raise ConfigError(
            f"a signed document needs {' and '.join(lacking)}",
            hint="write the machine's UUID as id, and a counter that is larger in each new document",
        )
    if script is not None:
        raise ConfigError(
            "a script beside the document is not covered by the signature, and would not be run",
            hint="put it into the document, as one of its scripts",
        )
    # For a key that ssh's agent has.
    agent = {name: os.environ[name] for name in ("SSH_AUTH_SOCK",) if name in os.environ}
    argv = ("ssh-keygen", "-q", "-Y", "sign", "-n", signed.NAMESPACE, "-f", os.path.abspath(key))
    signature = host.run(argv, stdin=config, environment=agent, changes=False).stdout.encode()
    return files | {native_names.DOCUMENTS[0] + native_names.SIGNATURE: signature}


def archive(members: Mapping[str, bytes], *, folder: str = "gandi", mtime: int = 0) -> bytes:
    """Return a tar archive with these files below ``folder``, in their order; the same files always give
    the same bytes. ``mtime`` is in seconds since the epoch.
    """
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size, member.mode, member.mtime = len(content), 0o600, mtime
            tar.addfile(member, io.BytesIO(content))
    return target.getvalue()


def swap(host: Host, out: str, data: bytes, *, size: int = SWAP_SIZE, offset: int = OFFSET) -> None:
    """Create a sparse disk image of ``size`` bytes with ``data`` at ``offset``. Raise ConfigError if it does
    not fit, HostError if it cannot be written.
    """
    if offset + len(data) > size:
        raise ConfigError(
            f"{out}: {len(data)} bytes at {offset} do not fit into {size}", hint="make it larger: --size"
        )
    _remove_existing(host, out)
    try:
        with host.opened(out, os.O_RDWR | os.O_CREAT | os.O_EXCL) as image:
            os.ftruncate(image, size)
            view = memoryview(data)
            while view:
                written = os.pwrite(image, view, offset)
                view, offset = view[written:], offset + written
    except OSError as error:
        raise HostError(f"{out}: cannot be written: {error.strerror}") from error


def folder(host: Host, out: str, files: Mapping[str, bytes]) -> None:
    """Create a folder laid out as a drive. Raise ConfigError if the path exists."""
    if host.exists(out):
        raise ConfigError(f"{out}: exists already", hint="choose another name, or remove it")
    trees.make(host, out, files)


def iso(
    host: Host,
    out: str,
    files: Mapping[str, bytes],
    *,
    label: str = LABEL,
    options: tuple[str, ...] = ("-R", "-J"),
) -> None:
    """Create an ISO 9660 image of these files; ``options`` are those of mkisofs, by default Rock Ridge and
    Joliet. Raise ConfigError if no program for it is installed, HostError if the program failed.
    """
    tool = next((tool for tool in _ISO_TOOLS if host.which(tool[0])), None)
    if tool is None:
        known = " or ".join(tool[0] for tool in _ISO_TOOLS)
        raise ConfigError("no program that makes ISO images is installed", hint=f"install {known}")
    staging = f"{out}.{os.getpid()}"
    if host.exists(staging):
        raise ConfigError(f"{staging}: exists already", hint="remove it, or choose another name")
    _remove_existing(host, out)
    try:
        folder(host, staging, files)
        # Create the file first for its mode: the tool writes into an existing file.
        with host.opened(out, os.O_RDWR | os.O_CREAT | os.O_EXCL):
            host.run((*tool, "-quiet", "-V", label, *options, "-o", out, staging), timeout=_ISO_TIMEOUT)
    finally:
        trees.remove(host, staging)


def _remove_existing(host: Host, out: str) -> None:
    """Remove an existing image: a new file is created private, this one may not be. Raise ConfigError."""
    if host.exists(out) and not os.path.isfile(host.path(out)):
        raise ConfigError(f"{out}: is not a regular file", hint="name a file; copy it to a disk yourself")
    host.remove(out)
