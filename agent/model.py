"""The neutral, frozen description of one machine: what every dialect parses into, and all that later
code knows.

Stored as canonical JSON (sorted keys, no spaces), so that equal configurations are equal bytes. ``load``
trusts its input: it only ever reads what the parser child validated or what the agent itself stored.
"""

from __future__ import annotations

import json

from agent.plain import asdict, dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Written into each stored document; load() refuses a newer one.
VERSION = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """Which instance this is: the source's name and the medium's own id (FORMATS: the pair is compared)."""

    source: str
    id: str


@dataclass(frozen=True, slots=True)
class Route:
    """A route of a NIC; ``on_link`` where the gateway is outside the addresses' networks."""

    destination: str
    gateway: str | None = None
    on_link: bool = False
    metric: int | None = None


@dataclass(frozen=True, slots=True)
class Nic:
    """One physical NIC. ``number`` orders NICs; ``mac`` (lower case) pairs exactly where it is given.

    ``addresses`` are ``address/prefix``. ``accept_ra`` is the kernel's word for router advertisements:
    what they may bring is in ``ra_address``, ``ra_dns`` and ``ra_gateway``.
    """

    number: int
    mac: str | None = None
    addresses: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    nameservers: tuple[str, ...] = ()
    mtu: int | None = None
    dhcp4: bool = False
    dhcp6: bool = False
    accept_ra: bool = True
    ra_address: bool = True
    ra_dns: bool = True
    ra_gateway: bool = True


@dataclass(frozen=True, slots=True)
class User:
    """An account. ``password`` is a crypt(3) hash; None leaves the account's password alone. root is one
    of these.
    """

    name: str
    password: str | None = None
    keys: tuple[str, ...] = ()
    admin: bool = False


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
    #: In the order in which they run.
    scripts: tuple[Script, ...] = ()
    timezone: str | None = None
    #: Something in the document was wrong and is missing here: nothing is taken back because it is missing.
    partial: bool = False

    def identified(self, identity: Identity) -> InstanceConfig:
        """The same configuration under another identity."""
        return replace(self, identity=identity)


def dump(config: InstanceConfig) -> bytes:
    """The document as canonical JSON."""
    return canonical(asdict(config) | {"version": VERSION})


def canonical(value: object) -> bytes:
    """JSON in the one spelling that equal values share."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


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
            users=tuple(User(**user | {"keys": tuple(user["keys"])}) for user in document.pop("users")),
            scripts=tuple(
                Script(**s | {"arguments": tuple(s["arguments"])}) for s in document.pop("scripts")
            ),
            **document,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"damaged document: {error}") from error


def _nic(nic: dict[str, Any]) -> Nic:
    routes = tuple(Route(**route) for route in nic["routes"])
    lists = {name: tuple(nic[name]) for name in ("addresses", "nameservers")}
    return Nic(**nic | lists | {"routes": routes})
