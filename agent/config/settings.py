"""The administrator's settings: /etc/default/gandi, /etc/sysconfig/gandi on RPM systems.

The file has shell syntax, is read without a shell and never written. A stat() before each decision detects
a change, so ``udevadm trigger`` after an edit is enough. A setting with an invalid line keeps its last valid
value.
"""

from __future__ import annotations

import os
import re
from enum import StrEnum

from agent.lib.errors import ConfigError, HostError
from agent.lib.records import dataclass, field, fields, replace
from agent.lib.text import HTTP_URL, WHITE, lines, nearest, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.host.host import Host

#: The first that exists is read; without any, messages name the first.
FILES = ("/etc/default/gandi", "/etc/sysconfig/gandi")
#: Settings of the old packages that have no effect any more.
RETIRED = frozenset({"TEMP_DIR_CONF", "SYSLOG_TARGET", "SERVERURL"})
_ASSIGNMENT = r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)="
#: Characters without a meaning to a shell: a line of these needs no shlex, which is expensive to import.
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_=./:,+@-")
#: A line up to its comment, which begins with a "#" before a word. shlex takes also one within a word.
_BEFORE_COMMENT = r"""(?:[^#'"\\]|(?<![ \t])#|\\.#*|'[^']*'|"(?:[^"\\]|\\.)*")*+"""
_YES, _NO = frozenset({"1", "yes", "true", "on"}), frozenset({"0", "no", "false", "off"})
_MODE = r"[0-7]{3,4}"


class MountMode(StrEnum):
    """CONFIG_MOUNT_MODE: which program mounts data disks."""

    DIRECT = "direct"
    AUTOFS = "autofs"
    NOTIFY = "notify"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, in lower case without CONFIG_ or GANDI_; the defaults are those of an empty file."""

    hostname: bool = True
    nameserver: bool = True
    network: bool = True
    nodhcp: tuple[str, ...] = ()
    multiqueue: bool = True
    network_rollback: int = 30
    allow_mount: bool = True
    mount_mode: MountMode = MountMode.DIRECT
    mount_params: str = "rw,nosuid,nodev,noatime"
    disk_root: str = "/srv"
    mount_owner: str = ""
    mount_timeout: int = 90
    disk_only: tuple[str, ...] = ()
    disk_ignore: tuple[str, ...] = ()
    disk_format: str = ""
    grow_root: bool = True
    grow_disks: bool = True
    cpu_online: bool = True
    memory_online: str = "auto"
    sysctl: bool = True
    sshd: bool = True
    console: bool = True
    motd: bool = True
    timezone: bool = True
    cron: bool = True
    fsck: bool = True
    system_files: bool = True
    ssh_hostkeys: bool = True
    clone_renew: bool = False
    datasource: tuple[str, ...] = ("auto",)
    configdrive_label: str = "config"
    source_timeout: int = 10
    reload: bool = True
    renderer: str = "auto"
    default_user: str = "root"
    script_timeout: int = 0
    idle_exit: int = 60
    debug: bool = False
    metrics_file: str = ""
    swap_device: str = ""
    decompress_kernel: str = "auto"
    ipv6_slaac: bool = False
    report: str = "auto"
    report_url: str = ""
    plugin_dir: str = "/etc/gandi/plugins.d"
    hook_dir: str = "/etc/gandi/hooks/"


@dataclass(frozen=True, slots=True)
class Problem:
    """An invalid line of the file."""

    line: int
    message: str
    hint: str = ""


def variable(name: str) -> str:
    """Return the name that a field of Settings has in the file."""
    return {"plugin_dir": "GANDI_PLUGIN_DIR", "hook_dir": "GANDI_HOOK_DIR"}.get(
        name, f"CONFIG_{name.upper()}"
    )


FIELDS = {variable(item.name): item.name for item in fields(Settings)}


def parse(text: str, good: Settings | None = None) -> tuple[Settings, list[Problem]]:
    """Return the settings in the file's text, and a problem for each invalid line.

    The setting of an invalid line keeps its value in ``good``, the last valid settings.
    """
    last, values, problems = good or Settings(), dict[str, object](), list[Problem]()
    for number, line in enumerate(lines(text), start=1):
        said = line.strip(WHITE)
        if not said or said.startswith("#"):
            continue
        assignment = re.match(_ASSIGNMENT, said)
        if not assignment:
            problems.append(Problem(number, f"not an assignment: {said[:60]!r}", "write NAME=value"))
            continue
        name = assignment[1]
        if name not in FIELDS:
            problems.extend(_unknown(number, name))
            continue
        try:
            values[FIELDS[name]] = _READERS[FIELDS[name]](_unquote(line))
        except ConfigError as error:
            values[FIELDS[name]] = getattr(last, FIELDS[name])
            problems.append(Problem(number, f"{name}: {error.message}", error.hint))
    return replace(Settings(), **values), problems  # type: ignore[arg-type]  # each reader gives its field's type


def assigned(line: str) -> tuple[str, str]:
    """Return the name and the value of a line, both "" if it is no assignment. Raise ConfigError if its
    value cannot be read.
    """
    found = re.match(_ASSIGNMENT, line.strip(WHITE))
    return (found[1], _unquote(line)) if found else ("", "")


def _unquote(line: str) -> str:
    """Return the value of an assignment, without its quotes and comment (sh(1)). Raise ConfigError."""
    if _PLAIN.issuperset(line):
        return line.partition("=")[2]
    import shlex

    found = re.match(_BEFORE_COMMENT, line)
    try:
        words = shlex.split(found[0] if found and line.startswith("#", found.end()) else line)
    except ValueError as error:
        raise ConfigError(f"{error}".lower(), hint="close the quote on the same line") from error
    words = words[1:] if words[0] == "export" else words
    if len(words) != 1:
        raise ConfigError("more than one word", hint="quote a value that has spaces")
    return words[0].partition("=")[2]


def _unknown(number: int, name: str) -> list[Problem]:
    if name in RETIRED or not name.startswith(("CONFIG_", "GANDI_")):
        return []
    near = nearest(name, FIELDS)
    return [Problem(number, f"unknown setting {name}", f"did you mean {near}?" if near else "see gandi(5)")]


def _flag(value: str) -> bool:
    if value.lower() in _YES | _NO:
        return value.lower() in _YES
    raise ConfigError(f"{value!r} is neither 0 nor 1", hint="write 0 or 1")


def _seconds(value: str) -> int:
    if re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    raise ConfigError(f"{value!r} is not a number of seconds", hint="write a whole number, 0 or more")


def _choice(*choices: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value.lower() in choices:
            return value.lower()
        raise ConfigError(f"{value!r} is not known", hint="one of " + ", ".join(choices))

    return read


def _folder(value: str) -> str:
    if value.startswith("/") and ".." not in value.split("/"):
        return value
    raise ConfigError(
        f"{value!r} is not an absolute path", hint="write a path that begins with / and has no .."
    )


def _metrics_file(value: str) -> str:
    if value in ("", "0"):
        return ""
    if value.endswith(".prom"):
        return _folder(value)
    raise ConfigError(f"{value!r} does not end in .prom", hint="node_exporter reads files *.prom alone")


def _owner(value: str) -> str:
    parts = value.split(":")
    if value and (len(parts) != 3 or not all(parts) or not re.fullmatch(_MODE, parts[2])):
        raise ConfigError(f"{value!r} is not user:group:mode", hint="for example root:users:0775")
    return value


def _url(value: str) -> str:
    if value and not re.fullmatch(HTTP_URL, value):
        # Not quoted: it may hold a token.
        raise ConfigError("not an http or https URL", hint="for example https://192.0.2.1/reports")
    return value


def _format(value: str) -> str:
    return "" if value in ("", "0") else _choice("ext4", "xfs", "btrfs")(value)


def _memory(value: str) -> str:
    return (
        "auto" if value == "1" else _choice("auto", "online", "online_movable", "online_kernel", "0")(value)
    )


_BY_TYPE: dict[str, Callable[[str], object]] = {
    "bool": _flag,
    "int": _seconds,
    "str": str,
    "tuple[str, ...]": lambda value: tuple(words(value)),
    "MountMode": lambda value: MountMode(_choice(*MountMode)(value)),
}
_READERS: dict[str, Callable[[str], object]] = {
    item.name: _BY_TYPE[str(item.type)] for item in fields(Settings)
} | {
    "disk_root": _folder,
    "plugin_dir": _folder,
    "hook_dir": _folder,
    "mount_owner": _owner,
    "metrics_file": _metrics_file,
    "disk_format": _format,
    "memory_online": _memory,
    # An empty value means the default; the setting for no source is "none".
    "datasource": lambda value: tuple(words(value.replace(",", " "))) or ("auto",),
    "renderer": _choice("auto", "networkd", "ifupdown", "netplan", "networkmanager"),
    "decompress_kernel": _choice("auto", "0", "1"),
    "report": _choice("auto", "0"),
    "report_url": _url,
}


@dataclass(slots=True)
class SettingsFile:
    """The settings file and its last known content; ``current`` reads it again if stat() shows a change."""

    host: Host
    settings: Settings = field(default_factory=Settings)
    problems: list[Problem] = field(default_factory=list)
    _seen: tuple[int, int, int] | None = None

    @property
    def name(self) -> str:
        """The path of the file that is read."""
        return next((name for name in FILES if self.host.exists(name)), FILES[0])

    def current(self) -> Settings:
        """Return the settings in force now; those of the last valid file if this one cannot be read. An
        invalid line raises nothing: see ``problems``. CONFIG_DEBUG takes effect here.
        """
        debug = self.settings.debug
        self._reload_if_changed()
        if self.settings.debug != debug:  # what --debug has switched on is left alone
            from agent.host import terminal

            self.host.debug = None if debug else terminal.debug
        return self.settings

    def _reload_if_changed(self) -> None:
        """Read the file again if it has changed."""
        try:
            info = os.stat(self.host.path(self.name))
        except OSError:
            self._seen, self.settings, self.problems = None, Settings(), []
            return
        seen = (info.st_mtime_ns, info.st_size, info.st_ino)
        if seen != self._seen:
            try:
                self.settings, self.problems = parse(self.host.read(self.name) or "", self.settings)
            except HostError as error:
                self.problems = [Problem(0, error.message, "make it a readable file")]
            self._seen = seen
