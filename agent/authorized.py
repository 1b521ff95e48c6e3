"""The lines of an account's authorized_keys file, wherever sshd looks for it."""

from __future__ import annotations

from agent import accounts, homefile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.accounts import Account
    from agent.host import Host


def lines(host: Host, owner: Account) -> list[str]:
    """What the file holds now; nothing where there is none. Raises HostError for one that is not trusted."""
    path = accounts.keys_file(host, owner)
    inside = _below_home(path, owner)
    if inside is None:
        data = host.read_bytes(path)
    else:
        data = homefile.read(host, owner.home, inside, (owner.uid, owner.gid))
    return (data or b"").decode("utf-8", "surrogateescape").splitlines()


def store(host: Host, owner: Account, content: list[str]) -> None:
    """Make it hold these lines. Raises HostError."""
    path = accounts.keys_file(host, owner)
    data = "".join(f"{line}\n" for line in content).encode("utf-8", "surrogateescape")
    inside = _below_home(path, owner)
    if inside is None:
        # Outside the home the folder is the administrator's; sshd reads the file as the user.
        host.write(path, data)
    else:
        homefile.write(host, owner.home, inside, data, (owner.uid, owner.gid))


def _below_home(path: str, owner: Account) -> tuple[str, ...] | None:
    """The path's parts below the account's home; None for a place elsewhere."""
    home = owner.home.rstrip("/")
    return tuple(path.removeprefix(f"{home}/").split("/")) if path.startswith(f"{home}/") else None
