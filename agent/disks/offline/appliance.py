"""Mount the filesystems of an image for a user who is not root: in a throw-away machine (QEMU, this
machine's kernel) that has the image's disk, by guestmount of libguestfs. What reads the image's bytes on
this machine is that machine's alone.

The caller is root of a user namespace with mounts of its own (host/user_namespace.py).
"""

from __future__ import annotations

import contextlib
import os

from agent.disks.base.system import RELEASE_TIMEOUT
from agent.host import descriptor_walk
from agent.host.captive import captive
from agent.lib.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.host.host import Host

PROGRAM, _MAKER = "guestmount", "supermin"
#: Seconds in which the machine must be made, have started, and ended: it may be emulated.
_MADE, _BEGINS, _ENDS = 600.0, 900.0, 300.0
#: Variables of libguestfs and of supermin, which makes its machine: the user's are passed on.
_VARIABLES = ("LIBGUESTFS_", "SUPERMIN_", "TMPDIR")
_CACHE, _PATH = "LIBGUESTFS_CACHEDIR", "LIBGUESTFS_PATH"
#: What the machine is made of, below a folder of libraries (guestfs-internals(1)).
_PARTS = "guestfs/supermin.d"
_FOLDERS = ("/usr/lib64", "/usr/lib")
#: With this file libguestfs takes the machine in a folder as it is.
_FIXED = "README.fixed"
_UNNAMED = "if its root is not found, name it with --partition; if the machine does not start: "
_HINT = "install guestmount and a kernel below /boot that you may read; see: libguestfs-test-tool"


def prepared(host: Host, given: dict[str, str]) -> dict[str, str]:
    """Make the machine in the user's cache unless it is there and nothing of it has changed. Return the
    environment of libguestfs: the user's settings of it, no libvirt, that machine.

    It is made before the user is root of a namespace: in one, this machine's root has no name, and programs
    with their owner's rights (mount) would run with the rights of no user. Raise HostError.
    """
    if not host.which(PROGRAM):
        hint = "install the package guestmount, or run it as root"
        raise HostError(f"{PROGRAM}: not installed", hint=hint)
    home = given.get("HOME", "/")
    cache = f"{given.get('XDG_CACHE_HOME') or f'{home}/.cache'}/gandi-agent"
    own = {name: value for name, value in given.items() if name.startswith(_VARIABLES)}
    environment = {"LIBGUESTFS_BACKEND": "direct", _CACHE: cache, "HOME": home} | own
    if _PATH in environment:
        return environment
    folder = f"{cache}/appliance"
    options = ("--build", "--if-newer", "--lock", f"{cache}/lock", "--copy-kernel", "--format", "ext2")
    argv = (_MAKER, *options, "--host-cpu", os.uname().machine, _parts(host), "-o", folder)
    try:
        host.mkdir(cache, mode=0o700)
        host.run(argv, environment=environment, timeout=_MADE)
        host.write(f"{folder}/{_FIXED}", "")
    except HostError as error:
        raise HostError(error.message, hint=error.hint or _HINT) from error
    return environment | {_PATH: folder}


def _parts(host: Host) -> str:
    own = f"/usr/lib/{os.uname().machine}-linux-gnu"
    for folder in (own, *_FOLDERS):
        if host.exists(f"{folder}/{_PARTS}"):
            return f"{folder}/{_PARTS}"
    raise HostError(f"libguestfs has no {_PARTS}", hint="install libguestfs whole, or set LIBGUESTFS_PATH")


@contextlib.contextmanager
def mounted(
    host: Host, image: str, partition: str, place: str, *, environment: dict[str, str], read_only: bool
) -> Iterator[None]:
    """Mount at ``place`` the root filesystem of the raw image and what belongs to it; of several systems
    that on ``partition`` (see roots.Root.name). ``environment``: see ``prepared``.

    Raise HostError if the machine does not start, has no such system, or does not end.
    """
    which = ("--mount", _device(partition)) if partition else ("--inspector",)
    options = ("--format=raw", "--add", image, *which, "--ro" if read_only else "--rw")

    def argv(ready: int) -> tuple[str, ...]:
        return (PROGRAM, "--no-fork", f"--fd={ready}", *options, place)

    def unmount() -> None:
        descriptor_walk.OWN_FUSE.clear()
        host.run(("umount", "--", place), timeout=RELEASE_TIMEOUT)

    try:
        with captive(argv, environment, stop=unmount, begins=_BEGINS, ends=_ENDS):
            descriptor_walk.OWN_FUSE.add(os.stat(place).st_dev)
            yield
    except HostError as error:
        hint = error.hint or (_HINT if partition else f"{_UNNAMED}{_HINT}")
        raise HostError(error.message, hint=hint) from error


def _device(partition: str) -> str:
    if "/" in partition:
        return f"/dev/{partition}"
    return "/dev/sda" if partition == "0" else f"/dev/sda{partition}"
