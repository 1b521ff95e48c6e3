"""Changes of accounts. On a machine the programs of the passwd package make them; of an image of which no
program is run, the agent changes the files itself (``file_changes``), with the same result.
"""

from __future__ import annotations

from agent.lib.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.accounts.file_changes import FileChanges
    from agent.host.host import Host

#: Seconds for sync(1) on a slow disk.
_SYNC_TIMEOUT = 300.0


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account to be made. What is "" or None is chosen by the system's own defaults."""

    name: str
    uid: int | None = None
    #: The primary group; "" for the default one. Not with ``own_group``.
    group: str = ""
    #: Make a group of its own name.
    own_group: bool = False
    #: A group to be a member of.
    member_of: str = ""
    home: str = ""
    shell: str = ""
    create_home: bool = True
    system: bool = False
    log_init: bool = True


def changes(host: Host) -> Changes | FileChanges:
    """Return what changes the accounts of this system."""
    if host.runs_programs:
        return Changes(host)
    from agent.accounts.file_changes import FileChanges  # late: no boot needs it

    return FileChanges(host)


class Changes:
    """Each change by the program of the passwd package. Each raises HostError."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def add(self, new: NewAccount) -> None:
        """Make the account, with its home: useradd(8)."""
        if new.own_group:
            group: tuple[str, ...] = ("--user-group",)
        else:
            group = ("--gid", new.group) if new.group else ("--no-user-group",)
        self._host.run(
            (
                "useradd",
                "--create-home" if new.create_home else "--no-create-home",
                *(("--home-dir", new.home) if new.home else ()),
                *(("--uid", str(new.uid)) if new.uid is not None else ()),
                *(("--system",) if new.system else ()),
                *(() if new.log_init else ("--no-log-init",)),
                *(("--shell", new.shell) if new.shell else ()),
                *(("--groups", new.member_of) if new.member_of else ()),
                *group,
                new.name,
            )
        )

    def add_group(self, name: str, gid: int | None = None) -> None:
        """Make the group: groupadd(8)."""
        self._host.run(("groupadd", *(("--gid", str(gid)) if gid is not None else ()), "--", name))

    def restrict_group(self, name: str) -> None:
        """Lock the group's password; a line in gshadow that is missing is made: gpasswd(1)."""
        self._host.run(("gpasswd", "--restrict", name))

    def join(self, name: str, group: str) -> None:
        """Make the account a member of the group."""
        self._usermod(name, "--append", "--groups", group)

    def set_shell(self, name: str, shell: str) -> None:
        """Set the login shell."""
        self._usermod(name, "--shell", shell)

    def set_group(self, name: str, group: str) -> None:
        """Set the primary group, also of the files in the home."""
        self._usermod(name, "--gid", group)

    def set_comment(self, name: str, comment: str) -> None:
        """Set the comment (GECOS)."""
        self._usermod(name, "--comment", comment)

    def set_inactive(self, name: str, days: str) -> None:
        """Set the days after which an expired password locks the account; -1 for none."""
        self._usermod(name, "--inactive", days)

    def set_expiry(self, name: str, day: str) -> None:
        """Set the day on which the account expires, counted from the first of January 1970."""
        self._usermod(name, "--expiredate", day)

    def add_subuids(self, name: str, first: int, last: int) -> None:
        """Give the account a range of subordinate uids (subuid(5))."""
        self._usermod(name, "--add-subuids", f"{first}-{last}")

    def add_subgids(self, name: str, first: int, last: int) -> None:
        """Give the account a range of subordinate gids (subgid(5))."""
        self._usermod(name, "--add-subgids", f"{first}-{last}")

    def lock(self, name: str) -> None:
        """Put the lock before the hash of the password."""
        self._usermod(name, "--lock")

    def set_password(self, name: str, plain: str) -> None:
        """Set the password, which the system hashes: chpasswd(8)."""
        self._chpasswd(name, plain)

    def set_hash(self, name: str, hashed: str) -> None:
        """Set the password's field of shadow(5)."""
        self._chpasswd(name, hashed, "--encrypted")

    def expire_password(self, name: str) -> None:
        """Have the account change its password at the next login: chage(1)."""
        self._host.run(("chage", "--lastday", "0", "--", name))

    def flush(self, home: str) -> None:
        """Wait until the files in /etc and, unless it is "", the home are on the disk."""
        self._host.run(("sync", "--file-system", "/etc", *([home] if home else [])), timeout=_SYNC_TIMEOUT)

    def _usermod(self, name: str, *options: str) -> None:
        self._host.run(("usermod", *options, "--", name))

    def _chpasswd(self, name: str, password: str, *options: str) -> None:
        stdin = f"{name}:{password}\n".encode("utf-8", "surrogateescape")
        self._host.run(("chpasswd", *options), stdin=stdin)
