"""Read and change the lines of an account's authorized_keys file, at the path where sshd looks for it.

Only ``\\n`` ends a line, as for sshd. A change adds or removes one line and keeps every other byte of the
file, including text that is not UTF-8 and a last line without a newline.
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
    """Return the file's lines, none if it does not exist. Raise HostError for a file that is not trusted."""
    return text.lines(_read(host, owner))


def add(host: Host, owner: Account, line: str) -> None:
    """Append a line. Raise HostError."""
    content = _read(host, owner)
    end = "" if not content or content.endswith("\n") else "\n"
    _write(host, owner, f"{content}{end}{line}\n")


def remove(host: Host, owner: Account, line: str) -> None:
    """Remove each occurrence of the line. Raise HostError."""
    *whole, rest = _read(host, owner).split("\n")  # a last line without a newline, or ""
    kept = "".join(f"{other}\n" for other in whole if other != line)
    _write(host, owner, kept + (rest if rest != line else ""))


def replace(host: Host, owner: Account, line: str) -> None:
    """Put the line in place of each line with the same key. Raise HostError."""
    *whole, rest = _read(host, owner).split("\n")
    others = [other for other in (*whole, rest) if other]
    blob = passwd.key_blob(line)
    first = next((n for n, other in enumerate(others) if passwd.key_blob(other) == blob), len(others))
    kept = [other for other in others if passwd.key_blob(other) != blob]
    _write(host, owner, "".join(f"{one}\n" for one in (*kept[:first], line, *kept[first:])))


def _read(host: Host, owner: Account) -> str:
    path = passwd.keys_file(host, owner)
    inside = _below_home(path, owner)
    if inside is None:
        there = host.read_file(path)
        data = there.content if there else None
    else:
        data = untrusted_dir.read(host, owner.home, inside, (owner.uid, owner.gid))
    return (data or b"").decode("utf-8", "surrogateescape")


def _write(host: Host, owner: Account, content: str) -> None:
    path = passwd.keys_file(host, owner)
    data = content.encode("utf-8", "surrogateescape")
    inside = _below_home(path, owner)
    if inside is None:
        # Outside the home the file is the administrator's: keep owner and mode. sshd reads it as the user.
        there = host.read_file(path)
        host.write(path, data, mode=there.mode if there else 0o644, owner=there.owner if there else (0, 0))
    else:
        untrusted_dir.write(host, owner.home, inside, data, (owner.uid, owner.gid))


def _below_home(path: str, owner: Account) -> tuple[str, ...] | None:
    """Return the path's parts below the account's home, None for a path outside it."""
    home = owner.home.rstrip("/")
    parts = tuple(part for part in path.removeprefix(f"{home}/").split("/") if part not in ("", "."))
    return parts if path.startswith(f"{home}/") and ".." not in parts else None
