"""The neutral, frozen description of one machine: what every dialect parses into, and all that later
code knows.

Stored as canonical JSON (sorted keys, no spaces), so that equal configurations are equal bytes. ``load``
trusts its input: it only ever reads what the parser child validated or what the agent itself stored.
"""

from __future__ import annotations

import json
from enum import StrEnum

from agent.lib.canonical_json import canonical
from agent.lib.records import asdict, dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
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
    """A route of a NIC; ``on_link`` where the gateway is outside the addresses' networks."""

    destination: str
    gateway: str | None = None
    on_link: bool = False
    metric: int | None = None


class Kind(StrEnum):
    """What a NIC is made of."""

    PHYSICAL = "physical"
    BOND = "bond"
    VLAN = "vlan"
    BRIDGE = "bridge"


@dataclass(frozen=True, slots=True)
class Bond:
    """How a bond uses its ports: the kernel's own words (bonding.rst); ``miimon`` in milliseconds."""

    mode: str = "active-backup"
    miimon: int | None = None
    xmit_hash_policy: str | None = None
    lacp_rate: str | None = None
    primary: int | None = None


@dataclass(frozen=True, slots=True)
class Nic:
    """One NIC. ``number`` orders NICs, is unique, and is what others refer to it by.

    A physical one is paired with an interface of the machine: by ``mac`` (lower case) exactly where it is
    given, else by ``name`` where that is given, else by its number. One of another ``kind`` is made under
    ``name`` (required there), with ``mac`` where it is given. ``ports`` are the numbers of what a bond or a
    bridge is made of; ``parent`` and ``vlan`` are those of a VLAN. ``addresses`` are ``address/prefix``.
    ``accept_ra`` is the kernel's word for router advertisements: what they may bring is in ``ra_address``,
    ``ra_dns`` and ``ra_gateway``. ``optional``: the boot never waits for it.
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
    """An account. ``password`` is a crypt(3) hash; None leaves the account's password alone. root is one
    of these. The empty name is the account of CONFIG_DEFAULT_USER, which the document does not know.

    ``admin``: a member of sudo or wheel. ``sudo``: rules after the account's name in a file of sudoers.d.
    ``locked``: no password is good for it.
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
    """A file that the document brings. Its bytes are stored like a script's, under ``name``."""

    path: str
    name: str
    digest: str
    owner: str = "root"
    group: str = "root"
    mode: int = 0o644
    append: bool = False


@dataclass(frozen=True, slots=True)
class Script:
    """A program of the customer's, run once. Its bytes are stored beside the document under ``name``."""

    name: str
    digest: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InstanceConfig:
    """Everything that the platform says about this machine."""

    identity: Identity
    hostname: str | None = None
    nameservers: tuple[str, ...] = ()
    nics: tuple[Nic, ...] = ()
    users: tuple[User, ...] = ()
    #: In the order in which they run, once, at the end of the boot.
    scripts: tuple[Script, ...] = ()
    #: Run at each boot, at the end of bootstrap (cloud-config's bootcmd).
    boot: tuple[Script, ...] = ()
    files: tuple[File, ...] = ()
    search: tuple[str, ...] = ()
    #: What the drive says of the machine, for ``get``: name and value.
    metadata: tuple[tuple[str, str], ...] = ()
    timezone: str | None = None
    #: Something in the document was wrong and is missing here: nothing is taken back because it is missing.
    partial: bool = False

    def identified(self, identity: Identity) -> InstanceConfig:
        """The same configuration under another identity."""
        return replace(self, identity=identity)


def dump(config: InstanceConfig) -> bytes:
    """The document as canonical JSON."""
    return canonical(asdict(config) | {"version": VERSION})


def load(data: bytes) -> InstanceConfig:
    """The configuration that ``dump`` wrote. Raises ValueError for a newer version or a damaged
    document.
    """
    document: dict[str, Any] = json.loads(data)
    try:
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
