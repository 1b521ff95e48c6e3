"""The platform-independent model of a machine's configuration: every dialect is parsed into it, and all
other code uses only it.

Stored as canonical JSON (sorted keys, no spaces): equal configurations are equal bytes. ``from_dict`` and
``load`` trust their input: it is what the parser child validated, or what the agent itself stored.
"""

from __future__ import annotations

import json

from agent.config import nics
from agent.lib.canonical_json import canonical
from agent.lib.digest import sha256
from agent.lib.records import asdict, dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from agent.config.nics import Nic

#: Written into each stored document; load() refuses a newer one.
VERSION = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """An instance: the source's name and the medium's own id. The pair is compared."""

    source: str
    id: str


@dataclass(frozen=True, slots=True)
class User:
    """An account, root included. The empty name stands for the account of CONFIG_DEFAULT_USER.

    ``password`` is a crypt(3) hash; None leaves the account's password alone. ``admin``: a member of group
    sudo or wheel. ``sudo``: the rules for a sudoers.d file, each without the account's name. ``locked``: no
    password is accepted.
    """

    name: str
    password: str | None = None
    keys: tuple[str, ...] = ()
    admin: bool = False
    groups: tuple[str, ...] = ()
    shell: str | None = None
    sudo: tuple[str, ...] = ()
    locked: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """A file to write at ``path``. Its content is stored beside the document under ``name``."""

    path: str
    name: str
    digest: str
    owner: str = "root"
    group: str = "root"
    mode: int = 0o644
    append: bool = False


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


def program(
    name: str, content: bytes, arguments: tuple[str, ...] = (), frequency: str = PER_INSTANCE
) -> Script:
    """Return the record of a delivered program. Its digest covers its name, content and arguments; without
    the name if it runs once on a machine, as another instance's document may name it otherwise.
    """
    parts = ["" if frequency == PER_ONCE else name, sha256(content).hexdigest(), *arguments]
    return Script(name, sha256(canonical(parts)).hexdigest(), arguments, frequency)


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
    #: The document had errors, so items may be missing here: nothing is withdrawn because it is missing.
    partial: bool = False

    def with_identity(self, identity: Identity) -> InstanceConfig:
        """Return the configuration with another identity."""
        return replace(self, identity=identity)


def to_dict(config: InstanceConfig) -> dict[str, Any]:
    """Return the configuration as a document of JSON's types, for ``from_dict``."""
    document = asdict(replace(config, nics=()))
    for script in (*document["scripts"], *document["boot"]):
        # As 0.1 wrote it: a document that is equal must be equal bytes.
        if script["frequency"] == PER_INSTANCE:
            del script["frequency"]
    return document | {"nics": [nics.to_dict(nic) for nic in config.nics], "version": VERSION}


def dump(config: InstanceConfig) -> bytes:
    """Return the document as canonical JSON, for ``load``."""
    return canonical(to_dict(config))


def load(data: bytes) -> InstanceConfig:
    """Return the configuration that ``dump`` wrote; errors as ``from_dict``."""
    return from_dict(json.loads(data))


def from_dict(given: Mapping[str, Any]) -> InstanceConfig:
    """Return the configuration of a document; lists may be tuples. Raise ValueError for one of a newer
    version, and for a damaged one.
    """
    try:
        document = dict(given)
        if document.pop("version") > VERSION:
            raise ValueError("written by a newer agent")
        return InstanceConfig(
            identity=Identity(**document.pop("identity")),
            nameservers=tuple(document.pop("nameservers")),
            nics=tuple(nics.from_dict(nic) for nic in document.pop("nics")),
            users=tuple(map(_user, document.pop("users"))),
            scripts=tuple(map(_script, document.pop("scripts"))),
            boot=tuple(map(_script, document.pop("boot"))),
            files=tuple(File(**file) for file in document.pop("files")),
            search=tuple(document.pop("search")),
            metadata=tuple((name, value) for name, value in document.pop("metadata")),
            **document,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"damaged document: {error}") from error


def _script(script: dict[str, Any]) -> Script:
    return Script(**script | {"arguments": tuple(script["arguments"])})


def _user(user: dict[str, Any]) -> User:
    return User(**user | {name: tuple(user[name]) for name in ("keys", "groups", "sudo")})
