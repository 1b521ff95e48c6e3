"""The platform-independent model of a machine's configuration: every dialect is parsed into it, and all
other code uses only it.

Stored as canonical JSON (sorted keys, no spaces): equal configurations are equal bytes. ``from_dict`` and
``load`` trust their input: it is what the parser child validated, or what the agent itself stored.
"""

from __future__ import annotations

import json
from enum import StrEnum

from agent.lib.canonical_json import canonical
from agent.lib.digest import sha256
from agent.lib.records import asdict, dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

#: Written into each stored document; load() refuses a newer one.
VERSION = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """An instance: the source's name and the medium's own id. The pair is compared."""

    source: str
    id: str


@dataclass(frozen=True, slots=True)
class Route:
    """A route of a NIC; ``on_link`` if the gateway is outside the networks of its addresses."""

    destination: str
    gateway: str | None = None
    on_link: bool = False
    metric: int | None = None


class Kind(StrEnum):
    """The kind of a NIC."""

    PHYSICAL = "physical"
    BOND = "bond"
    VLAN = "vlan"
    BRIDGE = "bridge"


@dataclass(frozen=True, slots=True)
class Bond:
    """The options of a bond, by the kernel's names (bonding.rst); ``miimon`` is in milliseconds."""

    mode: str = "active-backup"
    miimon: int | None = None
    xmit_hash_policy: str | None = None
    lacp_rate: str | None = None
    primary: int | None = None


@dataclass(frozen=True, slots=True)
class Nic:
    """One NIC. ``number`` is unique, defines the order, and is how other NICs refer to it.

    A physical NIC is paired with an interface of the machine by ``mac`` (lower case) if given, else by
    ``name`` if given, else by its number. A NIC of another ``kind`` is created as ``name`` (required), with
    ``mac`` if given. ``ports`` are the numbers of the NICs in a bond or bridge; a VLAN has ``parent``, the
    number of the NIC below, and its id in ``vlan``. ``addresses`` are ``address/prefix``. ``accept_ra`` is
    the kernel's setting for router advertisements; ``ra_address``, ``ra_dns`` and ``ra_gateway`` set what
    they may configure. The boot does not wait for an ``optional`` NIC.
    """

    number: int
    mac: str | None = None
    name: str | None = None
    kind: Kind = Kind.PHYSICAL
    ports: tuple[int, ...] = ()
    parent: int | None = None
    vlan: int | None = None
    bond: Bond | None = None
    addresses: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    mtu: int | None = None
    optional: bool = False
    dhcp4: bool = False
    dhcp6: bool = False
    accept_ra: bool = True
    ra_address: bool = True
    ra_dns: bool = True
    ra_gateway: bool = True


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


@dataclass(frozen=True, slots=True)
class Script:
    """A program of the customer's. Its content is stored beside the document under ``name``."""

    name: str
    digest: str
    arguments: tuple[str, ...] = ()


def program(name: str, content: bytes, arguments: tuple[str, ...] = ()) -> Script:
    """Return the record of a delivered program; its digest covers its name, content and arguments."""
    parts = [name, sha256(content).hexdigest(), *arguments]
    return Script(name, sha256(canonical(parts)).hexdigest(), arguments)


@dataclass(frozen=True, slots=True)
class InstanceConfig:
    """The configuration that the platform delivers for this machine."""

    identity: Identity
    hostname: str | None = None
    nameservers: tuple[str, ...] = ()
    nics: tuple[Nic, ...] = ()
    users: tuple[User, ...] = ()
    #: Run in this order, once, at the end of the boot.
    scripts: tuple[Script, ...] = ()
    #: Run at each boot, at the end of bootstrap (cloud-config's bootcmd).
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
    return asdict(config) | {"version": VERSION}


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
            nics=tuple(_nic(nic) for nic in document.pop("nics")),
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


def _nic(nic: dict[str, Any]) -> Nic:
    made = {
        "kind": Kind(nic["kind"]),
        "bond": Bond(**nic["bond"]) if nic["bond"] else None,
        "routes": tuple(Route(**route) for route in nic["routes"]),
    }
    lists = {name: tuple(nic[name]) for name in ("addresses", "nameservers", "search", "ports")}
    return Nic(**nic | made | lists)
