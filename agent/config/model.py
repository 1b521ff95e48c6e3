"""The platform-independent model of a machine's configuration: every dialect is parsed into it, and all
other code uses only it.

Stored as canonical JSON (sorted keys, no spaces): equal configurations are equal bytes. ``from_dict`` and
``load`` trust their input: it is what the parser child validated, or what the agent itself stored.
"""

from __future__ import annotations

from agent.config import nics
from agent.lib.canonical_json import canonical, parsed, record
from agent.lib.digest import sha256
from agent.lib.records import asdict, dataclass, fields, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeVar

    from agent.config.nics import Nic
    from agent.config.system import System

    Part = TypeVar("Part", "AccountOptions", "Naming", "Sshd")

#: Written into each stored document; load() refuses a newer one.
VERSION = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """An instance: the source's name and the medium's own id. The pair is compared."""

    source: str
    id: str


@dataclass(frozen=True, slots=True)
class AccountOptions:
    """What few documents deliver of an account; each default leaves it to useradd(8).

    ``uid`` to ``log_init`` are for a new account only. ``inactive`` is in days, ``expires`` a date
    (YYYY-MM-DD). ``lock``: the password field of shadow(5) of an account without a hash, ``!`` or ``*``.
    ``expire_password``: a delivered password must be changed at the first login.
    """

    uid: int | None = None
    system: bool = False
    home: str = ""
    create_home: bool = True
    user_group: bool = True
    log_init: bool = True
    primary_group: str = ""
    create_groups: bool = True
    gecos: str | None = None
    inactive: int | None = None
    expires: str = ""
    lock: str = ""
    expire_password: bool = False


@dataclass(frozen=True, slots=True)
class User:
    """An account, root included. The empty name stands for the account of CONFIG_DEFAULT_USER.

    ``password`` is a crypt(3) hash; None leaves the account's password alone. ``admin``: a member of group
    sudo or wheel. ``sudo``: the rules for a sudoers.d file, each without the account's name. ``locked``: no
    password is accepted. ``sealed``: the plain password, sealed for this machine (agent/systemd/sealed.py).
    """

    name: str
    password: str | None = None
    keys: tuple[str, ...] = ()
    admin: bool = False
    groups: tuple[str, ...] = ()
    shell: str | None = None
    sudo: tuple[str, ...] = ()
    locked: bool = False
    options: AccountOptions | None = None
    sealed: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """A group, with the accounts that become its members."""

    name: str
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Naming:
    """How the machine's name is written. ``fqdn``: the name in /etc/hosts, before the hostname; with
    ``prefer_fqdn`` it is the kernel's name too. ``hosts``: "" and "template" have the line in /etc/hosts,
    "localhost" with 127.0.1.1, "off" has none. ``preserve``: the machine keeps the name that it has.
    Without ``create_file`` a missing /etc/hostname is not made.
    """

    fqdn: str = ""
    prefer_fqdn: bool = False
    hosts: str = ""
    preserve: bool = False
    create_file: bool = True


@dataclass(frozen=True, slots=True)
class Sshd:
    """What sshd accepts, None for what its configuration says; and its host keys: whether a new instance
    loses the image's, which types are made (all if empty), and the paths of delivered keys' certificates.
    """

    passwords: bool | None = None
    disable_root: bool | None = None
    delete_keys: bool = True
    key_types: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()
    has_keys: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """A file to write at ``path``. Its content is stored beside the document under ``name``. With ``append``
    a file keeps its owner and mode, except with ``sets_owner`` and ``sets_mode``. ``sealed``: what is stored
    is sealed for this machine, and the opened text is in this encoding, "text" or "base64".
    """

    path: str
    name: str
    digest: str
    owner: str = "root"
    group: str = "root"
    mode: int = 0o644
    append: bool = False
    sets_owner: bool = False
    sets_mode: bool = False
    sealed: str = ""


#: How often a program at the end of the boot runs: once for each instance, at each boot, or once on a
#: machine.
PER_INSTANCE, PER_BOOT, PER_ONCE = "per-instance", "per-boot", "per-once"


@dataclass(frozen=True, slots=True)
class Script:
    """A program of the customer's. Its content is stored beside the document under ``name``."""

    name: str
    digest: str
    arguments: tuple[str, ...] = ()
    frequency: str = PER_INSTANCE

    @property
    def mark(self) -> str:
        """The name of the mark that it was run."""
        return f"{PER_ONCE if self.frequency == PER_ONCE else self.name}-{self.digest[:32]}"


def program(
    name: str, content: bytes, arguments: tuple[str, ...] = (), frequency: str = PER_INSTANCE
) -> Script:
    """Return the record of a delivered program. Its digest covers its name, content and arguments; without
    the name if it runs once on a machine, as another instance's document may name it otherwise.
    """
    parts = ["" if frequency == PER_ONCE else name, sha256(content).hexdigest(), *arguments]
    return Script(name, sha256(canonical(parts)).hexdigest(), arguments, frequency)


def merge_parts(one: Part | None, other: Part | None) -> Part | None:
    """Merge two records of the same item; where both differ from the default, the first counts."""
    if one is None or other is None:
        return one or other
    lacking = (f.name for f in fields(one) if getattr(one, f.name) == f.default)
    return replace(one, **{name: getattr(other, name) for name in lacking})


@dataclass(frozen=True, slots=True)
class InstanceConfig:
    """The configuration that the platform delivers for this machine."""

    identity: Identity
    hostname: str | None = None
    nameservers: tuple[str, ...] = ()
    nics: tuple[Nic, ...] = ()
    users: tuple[User, ...] = ()
    #: Run in this order at the end of the boot, each as often as its frequency says.
    scripts: tuple[Script, ...] = ()
    #: Run at each boot, at the end of bootstrap (boothooks and cloud-config's bootcmd).
    boot: tuple[Script, ...] = ()
    files: tuple[File, ...] = ()
    search: tuple[str, ...] = ()
    #: Names and values of the medium's metadata, for ``gandi-agent get``.
    metadata: tuple[tuple[str, str], ...] = ()
    timezone: str | None = None
    #: What the document says of the rest of the system; None for most machines.
    system: System | None = None
    #: The document had errors, so items may be missing here: nothing is withdrawn because it is missing.
    partial: bool = False
    groups: tuple[Group, ...] = ()
    #: Files that are written at the end of the boot, before the scripts.
    deferred: tuple[File, ...] = ()
    naming: Naming | None = None
    sshd: Sshd | None = None
    #: The document says that the network stays as the image has it.
    network_disabled: bool = False
    #: Orders the signed documents of one machine: one with a smaller counter than the last is refused.
    counter: int | None = None

    def with_identity(self, identity: Identity) -> InstanceConfig:
        """Return the configuration with another identity."""
        return replace(self, identity=identity)


#: What version 0.1 had not.
_ADDED = frozenset({"groups", "deferred", "naming", "sshd", "network_disabled", "system", "counter"})


def to_dict(config: InstanceConfig) -> dict[str, Any]:
    """Return the configuration as a document of JSON's types, for ``from_dict``. What version 0.1 had not is
    left out if it is empty: an older document is the same one after an upgrade.
    """
    document = asdict(replace(config, nics=(), users=(), system=None))
    document = {name: value for name, value in document.items() if value or name not in _ADDED}
    for file in (*document["files"], *document.get("deferred", ())):
        if not file["sealed"]:
            del file["sealed"]
    for script in (*document["scripts"], *document["boot"]):
        if script["frequency"] == PER_INSTANCE:
            del script["frequency"]
    users = [_without_empty_options(asdict(user)) for user in config.users]
    if config.system:
        from agent.config import system

        document["system"] = system.to_dict(config.system)
    listed = {"nics": [nics.to_dict(nic) for nic in config.nics], "users": users}
    return document | listed | {"version": VERSION}


def _without_empty_options(user: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in user.items() if value or name not in ("options", "sealed")}


def dump(config: InstanceConfig) -> bytes:
    """Return the document as canonical JSON, for ``load``."""
    return canonical(to_dict(config))


def load(data: bytes) -> InstanceConfig:
    """Return the configuration that ``dump`` wrote; errors as ``from_dict``."""
    try:
        return from_dict(parsed(data))
    except RecursionError:
        raise ValueError("damaged document: nested too deeply") from None


def from_dict(given: Mapping[str, Any]) -> InstanceConfig:
    """Return the configuration of a document; lists may be tuples. Raise ValueError for one of a newer
    version, and for a damaged one.
    """
    try:
        document = dict(given)
        if document.pop("version") > VERSION:
            raise ValueError("written by a newer agent")
        document["nics"] = [nics.from_dict(nic) for nic in document["nics"]]
        if document.get("system") is not None:
            from agent.config import system

            document["system"] = system.from_dict(document["system"])
        return record(InstanceConfig, document, may_lack=_ADDED)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"damaged document: {error}") from error
