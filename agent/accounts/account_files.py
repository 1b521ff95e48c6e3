"""The files of accounts, read and changed together: passwd(5), shadow(5), group(5), gshadow(5), subuid(5)
and subgid(5).

Each file that has changed is replaced as a whole, with its mode and owner, after a copy of it as NAME-, in
the order in which useradd does it. A link in place of one is refused, wherever it leads.
"""

from __future__ import annotations

import contextlib
import stat

from agent.host import lock_files
from agent.lib import text
from agent.lib.errors import ConfigError, HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.host.host import File, Host

#: Each file with the number of its fields, in the order in which they are locked and written.
_FIELDS = {"passwd": 7, "shadow": 9, "group": 4, "gshadow": 4, "subuid": 3, "subgid": 3}
#: Mode of a backup at most.
_BACKUP = 0o664


class Table:
    """One account file as lines. A line that is not changed keeps its bytes."""

    def __init__(self, name: str, file: File | None, *, is_plan: bool = False) -> None:
        self.path, self.file = f"/etc/{name}", file
        #: Nothing is written: what an earlier change would have made is missing.
        self._is_plan = is_plan
        self._count = _FIELDS[name]
        content = file.content.decode("utf-8", "surrogateescape") if file else ""
        self._lines = text.lines(content)
        self._before = list(self._lines)

    def __bool__(self) -> bool:
        """Return whether the file is there."""
        return self.file is not None

    @property
    def has_changed(self) -> bool:
        """Whether a line has changed."""
        return self._lines != self._before

    @property
    def content(self) -> bytes:
        """The file with its changes."""
        return "".join(f"{line}\n" for line in self._lines).encode("utf-8", "surrogateescape")

    def records(self) -> list[list[str]]:
        """Return the fields of each line that is a record."""
        return [fields for line in self._lines if (fields := self._parsed(line))]

    def find(self, name: str) -> list[str] | None:
        """Return the fields of the record with that name, None without one. Raise HostError for several."""
        found = [fields for fields in self.records() if fields[0] == name]
        if len(found) > 1:
            hint = "correct the file in the image: pwck, grpck"
            raise HostError(f"{self.path}: {name} is there more than once", hint=hint)
        return found[0] if found else None

    def get(self, name: str) -> list[str]:
        """Return the fields of the record with that name. Raise HostError without one."""
        found = self.find(name)
        if found is None and self._is_plan:
            return [name, "x", *[""] * (self._count - 2)]
        if found is None:
            raise HostError(f"{self.path}: there is no {name}", hint="correct the file in the image: pwck")
        return found

    def put(self, *fields: str) -> None:
        """Replace the record with that name, or add it as the last one. Raise ConfigError for a value that
        would be more than one field.
        """
        if any(set(field) & set(":\n\0") for field in fields):
            raise ConfigError(f"{self.path}: a value has a colon or a line end", hint="deliver another one")
        self._lines = [
            line if (there := self._parsed(line)) is None or there[0] != fields[0] else ":".join(fields)
            for line in self._lines
        ]
        if ":".join(fields) not in self._lines:
            self.add(*fields)

    def add(self, *fields: str) -> None:
        """Add a record, before the lines for NIS (+, -), which stay the last ones."""
        others = (place for place, line in enumerate(self._lines) if line.startswith(("+", "-")))
        self._lines.insert(next(others, len(self._lines)), ":".join(fields))

    def sort(self) -> None:
        """Sort the records by the number in their second field, if each line is one."""
        keys = [text.number(fields[1]) for fields in self.records()]
        if len(keys) == len(self._lines) and None not in keys:
            self._lines.sort(key=lambda line: int(line.split(":")[1]))

    def _parsed(self, line: str) -> list[str] | None:
        fields = line.split(":")
        if self._count == 9 and len(fields) in (5, 8):  # shadow accepts such lines
            fields += [""] * (9 - len(fields))
        return fields if len(fields) == self._count and not line.startswith(("+", "-")) else None


class Tables:
    """All six files."""

    def __init__(self, host: Host) -> None:
        self.passwd, self.shadow = _read(host, "passwd"), _read(host, "shadow")
        self.group, self.gshadow = _read(host, "group"), _read(host, "gshadow")
        self.subuid, self.subgid = _read(host, "subuid"), _read(host, "subgid")

    def store(self, host: Host) -> None:
        """Replace each file that has changed."""
        for table in (self.passwd, self.shadow, self.group, self.gshadow, self.subuid, self.subgid):
            if table.has_changed:
                _store(host, table)


@contextlib.contextmanager
def changing(host: Host) -> Iterator[Tables]:
    """Yield the files, locked; store at the end what has changed, unless the block ends by an exception.

    Raise HostError for a file that is no regular one, Busy if another process holds a lock.
    """
    try:
        with lock_files.held(host, tuple(f"/etc/{name}" for name in _FIELDS)):
            tables = Tables(host)
            yield tables
            tables.store(host)
    except OSError as error:
        raise HostError(f"the account files cannot be changed: {error.strerror}") from error


def _read(host: Host, name: str) -> Table:
    path = f"/etc/{name}"
    with host.place(path, follow=False) as place:
        info = place.info
    if info is not None and not stat.S_ISREG(info.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(info.st_mode) else "not a regular file"
        raise HostError(f"{path}: {kind}: not changed", hint="put a regular file there, in the image")
    return Table(name, host.read_file(path), is_plan=host.dry_run)


def _store(host: Host, table: Table) -> None:
    path, file, content = table.path, table.file, table.content
    if file is None:
        raise HostError(f"{path}: is missing", hint="put one there, in the image")
    if not host.allows(f"write {path} ({file.mode:04o}, {len(content)} bytes)"):
        return
    with host.place(f"{path}-", follow=False) as place:
        host.write_at(place, file.content, mode=file.mode & _BACKUP, owner=file.owner)
    with host.place(path, follow=False) as place:
        host.write_at(place, content, mode=file.mode, owner=file.owner)
        place.sync()
