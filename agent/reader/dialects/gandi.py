"""The Gandi dialect: ``gandi/config`` and ``gandi/script`` in the archive on the swap disk."""

from __future__ import annotations

import ipaddress

from agent.config.model import Identity, InstanceConfig, Script, User, program
from agent.config.nics import ANYWHERE, Nic, Route
from agent.lib.records import dataclass, field, replace
from agent.lib.records import fields as fields_of
from agent.lib.text import WHITE
from agent.reader.common import fields, password_hashes
from agent.reader.common.archive_layout import CONFIG, SCRIPT
from agent.reader.common.bounds import read_json
from agent.reader.common.lenient import part, parts, validate, value
from agent.reader.common.problem import Problem, bounded
from agent.reader.common.result import Reading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from agent.reader.common.fields import IP, Net

SOURCE = "gandi"
#: Maximum characters of ``run``.
_RUN = 1 << 20
_FIRST_PREFIX = {4: 24, 6: 64}


@dataclass(frozen=True, slots=True)
class Public:
    """``pbn``: the public network of an address."""

    pbn_network: Net | None = value(fields.network, None)
    pbn_gateway: IP | None = value(fields.optional_address, None)


@dataclass(frozen=True, slots=True)
class Private:
    """``pvn``: the private VLAN of an address; it has precedence over ``pbn``."""

    pvn_network: Net | None = value(fields.network, None)
    pvn_gateway: IP | None = value(fields.optional_address, None)


@dataclass(frozen=True, slots=True)
class Pna:
    """One address of a NIC."""

    pna_address: IP = value(fields.address)
    pbn: Public | None = part(Public)
    pvn: Private | None = part(Private)


@dataclass(frozen=True, slots=True)
class Vif:
    """One NIC. ``vif_mac`` is an extension: the platform does not send it."""

    vif_number: int | None = value(fields.optional_number, None)
    vif_mac: str | None = value(fields.mac, None)
    pna: list[Pna | None] | None = parts(Pna)


@dataclass(frozen=True, slots=True)
class VmConf:
    """Everything that is not the network."""

    user: str | None = value(fields.user, None)
    password: str | None = value(fields.password, None)
    ssh_key: str = value(fields.any_text, "")
    run: str = value(fields.text, "")
    script_args: tuple[str, ...] = value(fields.arguments, ())


@dataclass(frozen=True, slots=True)
class Document:
    """``gandi/config``. Required keys have defaults here: a missing one is reported, and the rest is
    applied.
    """

    vm_hostname: str = value(fields.hostname, "")
    nameservers: list[IP | None] | None = parts(fields.resolver)
    vif: list[Vif | None] | None = parts(Vif)
    vm_conf: VmConf | None = part(VmConf)


@dataclass(slots=True)
class _Address:
    """One address with its prefix and gateway, from ``pbn`` or ``pvn``."""

    address: IP
    prefix: int
    gateway: IP | None
    public: bool

    @property
    def on_link(self) -> bool:
        """Whether the gateway is link-local or outside the address's network, so that the route needs it."""
        network = ipaddress.ip_network(f"{self.address}/{self.prefix}", strict=False)
        return self.gateway is not None and (self.gateway.is_link_local or self.gateway not in network)


@dataclass(slots=True)
class _Nic:
    """One NIC, before its routes are known."""

    number: int
    mac: str | None
    addresses: list[_Address] = field(default_factory=list)


def parse(
    document: dict[str, Any], script: bytes | None
) -> tuple[InstanceConfig, dict[str, bytes], list[Problem]]:
    """Return the configuration, the content of its programs by name, and the problems. The identity's id
    is empty: the machine's own UUID is used.
    """
    missing = [name for name in ("vm_hostname", "vif") if document.get(name) in (None, "")]
    parsed, problems = validate(Document, document)
    for name in missing:
        problems.append(Problem(name, "missing", "the format requires it; what it sets is left as it is"))
    conf = parsed.vm_conf or VmConf()
    nics = _nics(parsed, problems)
    users = _users(conf, problems)
    scripts, files = _scripts(conf, script, problems)
    config = InstanceConfig(
        identity=Identity(SOURCE, ""),
        hostname=parsed.vm_hostname or None,
        nameservers=tuple(dict.fromkeys(str(a) for a in parsed.nameservers or () if a)),
        nics=_with_routes(nics),
        users=users,
        scripts=scripts,
        partial=any(problem.is_error for problem in problems),
    )
    return config, files, problems


def reading(document: dict[str, Any], script: bytes | None) -> Reading:
    """Parse the document. A native one, with a ``version``, must be read again in its dialect: importing
    both for each archive takes 9 M instructions, and is impossible after the confinement.

    A document without any key of the format is refused: its disk would be wiped, and the archive may be a
    backup that contains gandi/config.
    """
    if "version" in document and "vif" not in document:
        return Reading(None, {}, [], dialect="native")
    if not any(one.name in document for one in fields_of(Document)):
        what = "has none of the keys of the platform's document: not used"
        return Reading(None, {}, [Problem(CONFIG, what, "the platform must deliver a correct document")])
    return Reading(*parse(document, script))


def parse_files(files: Mapping[str, bytes]) -> Reading:
    """Return the reading of a folder with the archive's files."""
    problems: list[Problem] = []
    if CONFIG not in files:
        return Reading(None, {}, [Problem(CONFIG, "missing", "the folder must contain it")])
    document = read_json(CONFIG, files[CONFIG], problems, is_only=True)
    if document is None:
        return Reading(None, {}, problems)
    found = reading(document, files.get(SCRIPT))
    return replace(found, problems=problems + found.problems)


def _nics(parsed: Document, problems: list[Problem]) -> list[_Nic]:
    """Return the NICs in the order of their numbers; the default number is the place in the list."""
    found: dict[int, _Nic] = {}
    for place, vif in enumerate(parsed.vif or ()):
        if vif is None:
            continue
        number = place if vif.vif_number is None else vif.vif_number
        if number in found:
            what = f"NIC {number} appears twice; the first is used"
            problems.append(Problem(f"vif[{place}].vif_number", what, "number each NIC once"))
            continue
        found[number] = nic = _Nic(number, vif.vif_mac)
        for index, pna in enumerate(vif.pna or ()):
            if pna is not None:
                nic.addresses.append(_address(pna, f"vif[{place}].pna[{index}]", problems))
    return [found[number] for number in sorted(found)]


def _address(pna: Pna, path: str, problems: list[Problem]) -> _Address:
    address, version = pna.pna_address, pna.pna_address.version
    if pna.pvn is not None and (pna.pvn.pvn_network or pna.pvn.pvn_gateway):
        network, gateway, path = pna.pvn.pvn_network, pna.pvn.pvn_gateway, f"{path}.pvn.pvn"
        public = False
    else:
        pbn = pna.pbn or Public()
        network, gateway, path = pbn.pbn_network, pbn.pbn_gateway, f"{path}.pbn.pbn"
        public = True
    if network is not None and network.version != version:
        problems.append(Problem(f"{path}_network", f"not an IPv{version} network", "correct it"))
        network = None
    if gateway is not None and gateway.version != version:
        problems.append(Problem(f"{path}_gateway", f"not an IPv{version} gateway", "correct it"))
        gateway = None
    if gateway == address:
        problems.append(Problem(f"{path}_gateway", "the address itself", "name the router's address"))
        gateway = None
    prefix = network.prefixlen if network is not None else _FIRST_PREFIX[version]
    return _Address(address, prefix, gateway, public)


def _with_routes(nics: list[_Nic]) -> tuple[Nic, ...]:
    """Return the NICs of the model, each with a public gateway having a default route of its IP version.
    The renderers prefer the lowest NIC; the others carry only replies to what arrives by them.

    Without any public gateway (a machine on a private VLAN only), the first private one is used.
    """
    routes: dict[int, list[Route]] = {nic.number: [] for nic in nics}
    for version, anywhere in ANYWHERE.items():
        offers = [
            (nic.number, offer)
            for nic in nics
            for offer in nic.addresses
            if offer.gateway is not None and offer.address.version == version
        ]
        public = [(number, offer) for number, offer in offers if offer.public]
        for number, best in public or offers[:1]:
            if not any(route.destination == anywhere for route in routes[number]):
                routes[number].append(Route(anywhere, gateway=str(best.gateway), on_link=best.on_link))
    return tuple(
        Nic(
            number=nic.number,
            mac=nic.mac,
            addresses=tuple(dict.fromkeys(f"{a.address}/{a.prefix}" for a in nic.addresses)),
            routes=tuple(routes[nic.number]),
            ra_address=False,
            ra_dns=False,
            ra_gateway=not any(a.gateway is not None and a.address.version == 6 for a in nic.addresses),
        )
        for nic in nics
    )


def _users(conf: VmConf, problems: list[Problem]) -> tuple[User, ...]:
    """Return root and the named account, both with the password and all keys."""
    keys, wrong = fields.keys(fields.items(conf.ssh_key))
    problems.extend(
        bounded([Problem(f"vm_conf.ssh_key line {number}", what, hint) for number, what, hint in wrong])
    )
    users = []
    if conf.password or keys:
        users.append(User("root", conf.password, tuple(keys.values())))
    if conf.user and conf.user != "root":
        users.append(User(conf.user, conf.password, tuple(keys.values()), admin=True))
    problems.extend(password_hashes.weak(users))
    return tuple(users)


def _scripts(
    conf: VmConf, script: bytes | None, problems: list[Problem]
) -> tuple[tuple[Script, ...], dict[str, bytes]]:
    """Return the programs in their order, the script with its arguments and then ``run``, and their content.

    A script with invalid arguments is not run: without them it would do something else.
    """
    scripts, files = [], {}
    wrong = any(problem.path == "vm_conf.script_args" for problem in problems)
    if script and not wrong:
        files["script"] = script
        scripts.append(program("script", script, conf.script_args))
    if len(conf.run) > _RUN:
        what = f"longer than {_RUN} characters: not run"
        problems.append(Problem("vm_conf.run", what, "deliver it as gandi/script"))
    elif conf.run.strip(WHITE):
        files["run"] = (conf.run.rstrip("\n") + "\n").encode()
        scripts.append(program("run", files["run"]))
    return tuple(scripts), files
