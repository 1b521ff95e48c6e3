"""The verb ``succeed``, run by the package: take over from gandi-hosting-vm2 and related packages.

The package's preinst, which runs while the old package is installed, has recorded its mount mode and its
files with checksums (``RECORD``). Files that are still as shipped are removed; files that were changed and
would still act are moved away with a warning; the customer's own files stay. Nothing that remains runs
beside the agent or overrides its units and rules. See docs/succession.md.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat

from agent.host import trees
from agent.host.chroot_path import link_target, unfollowed
from agent.host.sysfs import listed
from agent.host.terminal import print_lines
from agent.lib.text import WHITE, lines, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host

RECORD = "/var/lib/gandi/succession"
OLD = "/etc/gandi/old"
SETTINGS = "/etc/default/gandi"
_SETTING = "CONFIG_MOUNT_MODE"
#: The old package's files, even without a record; those that dpkg has not removed with it.
_FILES = (
    *(f"/etc/gandi/{name}" for name in ("manage_data_disk.py", "manage_data_disk.sh", "manage_iface.sh")),
    "/etc/udev/rules.d/86-gandi.rules",
    *(f"/lib/udev/{name}" for name in ("cpu_online", "manage_memory", "fake_blkid")),
    *("/etc/auto.gandi", "/etc/auto.master.d/gandi.autofs"),
    "/etc/kernel/postinst.d/gandi-decompress-kernel",
    "/etc/update-motd.d/11-help-text",
    "/usr/lib/sysctl.d/90-gandi.conf",
)
#: Kept if changed, since they are still read: settings, kernel parameters, the library of plugins.
_KEPT_WHERE_CHANGED = frozenset({SETTINGS, "/etc/gandi/sysctl.conf", "/etc/gandi/plugins-lib"})
_HOOKS = "/etc/gandi/hooks/"
_SHARE = "/usr/share/gandi"
_UNITS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
#: Where deb-systemd-helper records the links that a package made: those of the old package would count as
#: the agent's.
_HELPER = "/var/lib/systemd/deb-systemd-helper-enabled"
_RC_FOLDER, _RC_LINK = re.compile(r"rc[0-6S]\.d"), re.compile(r"[SK][0-9]{2}gandi-.*")
_UNIT = re.compile(r"gandi-.*")


def succeed(host: Host) -> int:
    """Take over, once, and print what was done. Return 0."""
    if not host.exists(RECORD):
        print_lines("there is no old package to take over from")
        return 0
    shipped = _conffile_digests(host.read(f"{RECORD}/shipped") or "")
    for name in _old_files(host, shipped):
        _remove_or_rename(host, name, shipped.get(name))
    _unlink(host)
    if SETTINGS in shipped:
        print_lines(
            f"gandi-agent: warning: purging the old package removes {SETTINGS}: save that before you do"
        )
    keep_mode(host, (host.read(f"{RECORD}/mode") or "").strip(WHITE))
    if host.live and host.exists("/run/udev/control"):
        host.run(("udevadm", "control", "--reload"), check=False)
    trees.remove(host, RECORD)
    return 0


def _conffile_digests(text: str) -> dict[str, str]:
    """Return path -> MD5 of each file of the old package, from dpkg's records: lines ``MD5 PATH``."""
    entries = (words(line, 1) for line in lines(text))
    return {_without_usr(fields[1]): fields[0] for fields in entries if len(fields) == 2}


def _without_usr(name: str) -> str:
    """Return the path as spelled in this module: where the agent runs, / and /usr are merged."""
    return re.sub(r"^/usr(?=/lib/udev/)", "", name)


def _old_files(host: Host, shipped: dict[str, str]) -> list[str]:
    """Return the files that are left of the old package."""
    scripts = [f"/etc/init.d/{name}" for name in listed(host, "/etc/init.d") if _UNIT.fullmatch(name)]
    units = [f"{_UNITS[0]}/{name}" for name in listed(host, _UNITS[0]) if _UNIT.fullmatch(name)]
    units = [name for name in units if name.endswith((".service", ".socket", ".target", ".path", ".timer"))]
    # Without a record, its files there cannot be distinguished from the customer's.
    share = () if shipped else _below(host, _SHARE)
    own = (name for name in shipped if name.startswith(("/etc/", f"{_SHARE}/")))
    return [
        name for name in dict.fromkeys((*_FILES, *scripts, *units, *own, *share)) if _is_file(host, name)
    ]


def _below(host: Host, folder: str) -> list[str]:
    """Return the files below a folder; a link to another folder is not followed."""
    found = list[str]()
    for name in listed(host, folder):
        path = f"{folder}/{name}"
        real = os.path.join(host.path(folder), name)
        is_folder = os.path.isdir(real) and not os.path.islink(real)
        found += _below(host, path) if is_folder else [path]
    return found


def _is_file(host: Host, name: str) -> bool:
    """Return whether it is a regular file, and no link."""
    try:
        return stat.S_ISREG(os.lstat(unfollowed(host, name)).st_mode)
    except OSError:
        return False


def _remove_or_rename(host: Host, name: str, md5: str | None) -> None:
    """Remove a file that is as shipped; move away, or keep, one that is not."""
    file = host.read_file(name)
    data, file_mode = (file.content, file.mode) if file else (b"", 0o644)
    as_shipped = md5 is not None and hashlib.md5(data, usedforsecurity=False).hexdigest() == md5
    if name == SETTINGS or (not as_shipped and name.startswith(_HOOKS)):
        return
    if not as_shipped and name in _KEPT_WHERE_CHANGED:
        print_lines(
            f"gandi-agent: warning: {name} was changed on this machine: it is kept, and read as it is"
        )
        return
    if not as_shipped:
        kept = _free_name(host, f"{OLD}/{name.rpartition('/')[2]}", data)
        host.write(kept, data, mode=file_mode & 0o777)
        print_lines(
            f"gandi-agent: warning: {name} was changed on this machine: it is in {kept} now, and not used"
        )
    host.remove(name)
    if as_shipped:
        print_lines(f"removed {name}")


def _free_name(host: Host, name: str, data: bytes) -> str:
    """Return the first of name, name.1, ... that is free, or has this content from an interrupted run."""
    names = (name, *(f"{name}.{number}" for number in range(1, 1000)))
    return next(
        candidate
        for candidate in names
        if not os.path.lexists(unfollowed(host, candidate))
        or (_is_file(host, candidate) and host.read_bytes(candidate) == data)
    )


def _unlink(host: Host) -> None:
    """Remove the links that start the old scripts and units, or override the agent's.

    The package makes those that enable the agent's units after this.
    """
    for name in listed(host, "/etc"):
        if _RC_FOLDER.fullmatch(name):
            _remove_links(host, f"/etc/{name}", _RC_LINK)
    for folder in (*_UNITS, _HELPER):
        for name in listed(host, folder):
            if name.endswith((".wants", ".requires")) and folder in (_UNITS[0], _HELPER):
                _remove_links(host, f"{folder}/{name}", _UNIT)
            elif folder == _HELPER and _UNIT.fullmatch(name):
                host.remove(f"{folder}/{name}")
        _remove_links(host, folder, _UNIT, only_old=folder != _UNITS[0])


def _remove_links(host: Host, folder: str, pattern: re.Pattern[str], *, only_old: bool = False) -> None:
    """Remove matching links; with ``only_old`` only those to the old package's folder of units."""
    for name in listed(host, folder):
        target = link_target(host, f"{folder}/{name}")
        if not pattern.fullmatch(name) or target is None:
            # The helper's copies of links are empty files.
            if folder.startswith(_HELPER + "/") and pattern.fullmatch(name):
                host.remove(f"{folder}/{name}")
            continue
        if target == "/dev/null" or (only_old and not target.startswith(_SHARE)):
            continue  # masked, by the administrator or by the old package's removal: kept
        host.remove(f"{folder}/{name}")


def keep_mode(host: Host, mode: str) -> None:
    """Add the former mount mode to the settings, unless they contain one."""
    file = host.read_file(SETTINGS)
    text = file.content.decode("utf-8", "surrogateescape") if file else ""
    if not mode or re.search(rf"^[ \t]*(?:export[ \t]+)?{_SETTING}=", text, re.MULTILINE):
        return
    mode_of_file, owner = (file.mode, file.owner) if file else (0o644, (0, 0))
    text += "" if not text or text.endswith("\n") else "\n"
    host.write(SETTINGS, f"{text}{_SETTING}={mode}\n", mode=mode_of_file, owner=owner)
    print_lines(f"disks: {_SETTING}={mode}, as before, added to {SETTINGS}")
