"""Remove what a machine has written about itself and its users: journal, log files, histories of shells,
lists of packages, leases, random seeds, dumps of crashed programs.

Folders stay, with their owners. A log file in use is replaced by an empty one with its owner and mode: a
program that has the old one open goes on writing to that, which is gone when the program ends.
"""

from __future__ import annotations

import os
import re
import stat

from agent.accounts import passwd
from agent.host.sysfs import listed
from agent.lib.errors import HostError
from agent.report import changed, failed, unchanged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.host.host import Host
    from agent.report import Item

_LOGS, _JOURNAL = "/var/log", "/var/log/journal"
#: Names of old log files, as logrotate(8) and others make them.
_ROTATED = re.compile(r".*(?:\.[0-9]+|\.old|[-.][0-9]{8}(?:-[0-9]+)?|\.gz|\.xz|\.bz2|\.zst)", re.DOTALL)
#: Files in a home.
_HISTORIES = (
    *(".bash_history", ".zsh_history", ".zhistory", ".histfile", ".sh_history", ".ash_history", ".history"),
    *(".local/share/fish/fish_history", ".python_history", ".node_repl_history", ".mysql_history"),
    *(".psql_history", ".sqlite_history", ".rediscli_history", ".lesshst", ".viminfo", ".wget-hsts"),
)
#: Folders with files of which all are removed, and names in them that stay.
_EMPTIED = {
    "/var/lib/apt/lists": ("lock",),
    "/var/cache/dnf": (),
    "/var/cache/libdnf5": (),
    # dhclient's leases; dhcpcd's with its DUID; systemd-networkd's.
    "/var/lib/dhcp": (),
    "/var/lib/dhcpcd": (),
    "/var/lib/systemd/network": (),
    "/var/lib/systemd/coredump": (),
    "/var/crash": (),
}
#: NetworkManager's folder has more than leases in it.
_NETWORKMANAGER, _LEASE = (
    "/var/lib/NetworkManager",
    re.compile(r".*\.lease|timestamps|seen-bssids|secret_key"),
)
#: systemd's, that of System V scripts, and systemd-boot's on each place of the ESP.
_SEEDS = (
    *("/var/lib/systemd/random-seed", "/var/lib/urandom/random-seed"),
    *(f"{esp}/loader/random-seed" for esp in ("/boot", "/boot/efi", "/efi")),
)
#: The unit that writes systemd's seed when it is stopped.
_SEED_UNIT = "systemd-random-seed.service"


def remove(host: Host) -> Iterator[Item]:
    """Remove or empty each file; one that cannot be is a failed item, and the others are done."""
    if host.live:
        # Else the journal, when it finds its file gone, begins another one there (journalctl(1)).
        host.run(("journalctl", "--relinquish-var"), check=False)
    is_nothing = True
    for name, is_emptied in _files(host):
        is_nothing = False
        try:
            _empty(host, name) if is_emptied else host.remove(name)
        except HostError as error:
            yield failed(name, error.message, error.hint)
        else:
            yield changed(name, "emptied" if is_emptied else "removed")
    # Named by the machine-id; only an empty one is removed.
    for folder in (f"{_JOURNAL}/{name}" for name in listed(host, _JOURNAL)):
        if host.remove(folder):
            yield changed(folder, "removed")
    if is_nothing:
        yield unchanged("logs", "nothing to remove")


def _files(host: Host) -> Iterator[tuple[str, bool]]:
    """Yield each file, and whether it is emptied instead of removed."""
    yield from ((name, not _is_old(name)) for name in _below(host, _LOGS) if not _is_empty(host, name))
    yield from ((name, False) for name in _histories(host))
    for folder, stays in _EMPTIED.items():
        names = _below(host, folder)
        yield from (
            (name, False) for name in names if name.removeprefix(f"{folder}/").split("/")[0] not in stays
        )
    leases = (name for name in listed(host, _NETWORKMANAGER) if _LEASE.fullmatch(name))
    yield from ((f"{_NETWORKMANAGER}/{name}", False) for name in leases)
    seeds = [name for name in _SEEDS if host.exists(name)]
    if host.live and seeds:
        # Stopped now, it writes the seed now, and not when the machine is powered off.
        host.run(("systemctl", "stop", _SEED_UNIT), check=False)
    yield from ((name, False) for name in seeds)


def _histories(host: Host) -> Iterator[str]:
    homes = dict.fromkeys(one.home.rstrip("/") for one in passwd.accounts(host))
    for home in filter(None, homes):
        for name in _HISTORIES:
            if os.path.isfile(host.path(f"{home}/{name}")):
                yield f"{home}/{name}"


def _below(host: Host, folder: str) -> Iterator[str]:
    """Yield the regular files in the folder and those below it, sorted; links are not followed."""
    if os.path.islink(_own_path(host, folder)):
        return
    for name in listed(host, folder):
        path = f"{folder}/{name}"
        try:
            mode = os.lstat(_own_path(host, path)).st_mode
        except OSError:
            continue  # removed since
        if stat.S_ISDIR(mode):
            yield from _below(host, path)
        elif stat.S_ISREG(mode):
            yield path


def _own_path(host: Host, name: str) -> str:
    """Return the real path of a name of which the last part is not followed."""
    folder, _, last = name.rpartition("/")
    return os.path.join(host.path(folder), last)


def _is_old(name: str) -> bool:
    """Return whether a file of /var/log is removed: no program will look for it by its name."""
    return name.startswith(f"{_JOURNAL}/") or bool(_ROTATED.fullmatch(name))


def _is_empty(host: Host, name: str) -> bool:
    """Return whether there is nothing to do for a log file."""
    try:
        return not _is_old(name) and os.lstat(_own_path(host, name)).st_size == 0
    except OSError:
        return True  # removed since


def _empty(host: Host, name: str) -> None:
    """Replace the file by an empty one of the same owner and mode."""
    try:
        info = os.lstat(_own_path(host, name))
    except OSError as error:
        raise HostError(f"{name}: {error.strerror}") from error
    host.write(name, b"", mode=stat.S_IMODE(info.st_mode), owner=(info.st_uid, info.st_gid))
