"""Become root of a user namespace: a user can then give files of their own to any account of an image.

The accounts of the image are the user and their subordinate ids (subuid(5)), which newuidmap(1) of the
package uidmap maps. Numbers of flags: linux/sched.h, linux/prctl.h.
"""

from __future__ import annotations

import ctypes
import os
import pwd

from agent.lib.errors import AgentError, ConfigError, HostError
from agent.lib.records import dataclass
from agent.lib.text import lines, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.host.host import Host

_NEW_USER_AND_MOUNTS = 0x10000000 | 0x00020000
_SET_DUMPABLE = 4
#: Accounts of an image beside root: 1 to 65534.
_ENOUGH = 65534
_RANGE = "100000-165535"
#: Most bytes of an error.
_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Ids:
    """``count`` ids of this machine, from ``outside``, that are those from ``inside`` in the namespace."""

    inside: int
    outside: int
    count: int

    @property
    def words(self) -> tuple[str, ...]:
        """The arguments of newuidmap(1)."""
        return str(self.inside), str(self.outside), str(self.count)


def subordinate(text: str, names: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Return the ranges, (first, count), that a file as subuid(5) gives to a user of these names."""
    found = list[tuple[int, int]]()
    for line in lines(text):
        name, *rest = line.split(":")
        numbers = [number(text) for text in rest]
        match numbers:
            case [int(first), int(count)] if name in names and count:
                found.append((first, count))
    return tuple(found)


def mapped(own: int, owner: int, ranges: Iterable[tuple[int, int]]) -> tuple[Ids, ...]:
    """Return the ids of the namespace in which ``owner`` is root: the user, or a subordinate id, as trees
    have that were made in a namespace. () if it is neither, or there are too few ids.
    """
    for first, count in ranges:
        if owner == own and count >= _ENOUGH:
            return Ids(0, own, 1), Ids(1, first, count)
        if first <= owner < first + count:
            left = first + count - owner
            # The user's own files, such as the folder that the tree is in, stay within reach.
            return Ids(0, owner, left), Ids(left, own, 1)
    return ()


def enter(host: Host, tree: str = "") -> None:
    """Become root of a user namespace with mounts of its own, in which the owner of ``tree`` is root. This
    process must have one thread. Raise ConfigError for a tree of another user's, HostError if this machine
    does not let its users do that.
    """
    own, owner = (os.getuid(), os.getgid()), (os.getuid(), os.getgid())
    if tree:
        try:
            info = os.stat(tree)
        except OSError as error:
            raise ConfigError(f"{tree}: {error.strerror}", hint="name the folder of the tree") from error
        owner = (info.st_uid, info.st_gid)
    maps = [_of(host, kind, own[at], owner[at], tree) for at, kind in enumerate(("uid", "gid"))]
    ready, unshared = os.pipe()
    reading, writing = os.pipe()
    process = os.getpid()
    mapper = os.fork()
    if not mapper:
        status = 1
        try:
            os.close(unshared)
            status = _map(host, process, maps, ready, writing)
        finally:
            os._exit(status)
    os.close(ready)
    os.close(writing)
    library = ctypes.CDLL(None, use_errno=True)
    failed = library.unshare(_NEW_USER_AND_MOUNTS)
    why = os.strerror(ctypes.get_errno())
    if not failed:
        os.write(unshared, b"1")
    os.close(unshared)
    with open(reading, "rb") as said:
        refused = said.read(_LIMIT).decode("utf-8", "replace")
    status = os.waitpid(mapper, 0)[1]
    if failed:
        hint = "let users make user namespaces (sysctl kernel.unprivileged_userns_clone), or run it as root"
        raise HostError(f"no user namespace: {why}", hint=hint)
    if refused or status:
        raise HostError(f"no user namespace: {refused or status}", hint="install the package uidmap")
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    # Otherwise what /proc has of this process would be the machine's root's.
    library.prctl(_SET_DUMPABLE, 1, 0, 0, 0)


def _of(host: Host, kind: str, own: int, owner: int, tree: str) -> tuple[Ids, ...]:
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a user without an account
        name = str(os.getuid())
    ranges = subordinate(host.read(f"/etc/sub{kind}") or "", (name, str(os.getuid())))
    if found := mapped(own, owner, ranges):
        return found
    if owner != own and ranges:
        what = f"{tree}: belongs to {kind} {owner}, which is neither yours nor one of your subordinate ids"
        raise ConfigError(what, hint="work on a tree of your own, or run it as root")
    what = f"{name} has no {_ENOUGH} subordinate ids in /etc/sub{kind}, for the accounts of an image"
    raise HostError(what, hint=f"as root: usermod --add-subuids {_RANGE} --add-subgids {_RANGE} {name}")


def _map(host: Host, process: int, maps: list[tuple[Ids, ...]], ready: int, writing: int) -> int:
    """Map the ids of the process once it has its namespace; return 0, or 1 if that is refused."""
    if not os.read(ready, 1):
        return 0
    try:
        for program, ids in zip(("newuidmap", "newgidmap"), maps, strict=True):
            host.run((program, str(process), *(word for one in ids for word in one.words)))
    except AgentError as error:
        os.write(writing, error.message.encode()[:_LIMIT])
        return 1
    return 0
