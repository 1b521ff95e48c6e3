"""The lines of an account's authorized_keys file, wherever sshd looks for it.

A line ends at ``\\n`` alone, as sshd reads it, and a change is one line more or one less: every other byte
of the file stays, text in no encoding and a last line without its end among them.
"""

from __future__ import annotations

from agent.accounts import passwd
from agent.host import untrusted_dir
from agent.lib import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.accounts.passwd import Account
    from agent.host.host import Host


def lines(host: Host, owner: Account) -> list[str]:
    """Return what the file holds now; nothing where there is none. Raises HostError for one that is not
    trusted.
    """
    return text.lines(_read(host, owner))


def add(host: Host, owner: Account, line: str) -> None:
    """Put a line at the file's end. Raises HostError."""
    content = _read(host, owner)
    end = "" if not content or content.endswith("\n") else "\n"
    _write(host, owner, f"{content}{end}{line}\n")


def remove(host: Host, owner: Account, line: str) -> None:
    """Take that line out, as often as it is there. Raises HostError."""
    *whole, rest = _read(host, owner).split("\n")  # what follows the last end is a line too, or nothing
    kept = "".join(f"{other}\n" for other in whole if other != line)
    _write(host, owner, kept + (rest if rest != line else ""))


def _read(host: Host, owner: Account) -> str:
    path = passwd.keys_file(host, owner)
    inside = _below_home(path, owner)
    if inside is None:
        there = host.as_it_is(path)
        data = there.content if there else None
    else:
        data = untrusted_dir.read(host, owner.home, inside, (owner.uid, owner.gid))
    return (data or b"").decode("utf-8", "surrogateescape")


def _write(host: Host, owner: Account, content: str) -> None:
    path = passwd.keys_file(host, owner)
    data = content.encode("utf-8", "surrogateescape")
    inside = _below_home(path, owner)
    if inside is None:
        # sshd reads the file as the user: outside the home it is the administrator's, and stays as it was.
        there = host.as_it_is(path)
        host.write(path, data, mode=there.mode if there else 0o644, owner=there.owner if there else (0, 0))
    else:
        untrusted_dir.write(host, owner.home, inside, data, (owner.uid, owner.gid))


def _below_home(path: str, owner: Account) -> tuple[str, ...] | None:
    """The path's parts below the account's home; None for a place elsewhere."""
    home = owner.home.rstrip("/")
    parts = tuple(part for part in path.removeprefix(f"{home}/").split("/") if part not in ("", "."))
    return parts if path.startswith(f"{home}/") and ".." not in parts else None
