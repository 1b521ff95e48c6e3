"""The native document: the agent's own model as JSON, in ``gandi.json`` or ``gandi/config``.

The format is declared only here; ``gandi-agent config schema`` makes its JSON Schema from this.
"""

from __future__ import annotations

from agent.config.model import File, User
from agent.config.nics import Bond, Kind, Nic, Route
from agent.config.system import Apt, Archive, SwapFile, System
from agent.lib.records import dataclass, replace
from agent.lib.records import fields as fields_of
from agent.reader.common import fields, network_fields, values
from agent.reader.common.archive_layout import CONFIG
from agent.reader.common.bounds import read_json
from agent.reader.common.document import small
from agent.reader.common.drive_names import DriveNames
from agent.reader.common.lenient import named, part, parts, unused, validate, value
from agent.reader.common.merge import Draft
from agent.reader.common.native_names import DOCUMENTS, SCRIPTS
from agent.reader.common.problem import Problem
from agent.reader.common.result import Reading
from agent.reader.common.topology import Link, assemble
from agent.reader.common.values import Choice, Whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from agent.reader.common.fields import IP, Sealed
    from agent.reader.common.network_fields import Interface

SOURCE = "native"
VERSION = 1
#: Maximum bytes of a document on a drive, including files in base64.
LIMIT = 16 << 20
#: Maximum serial consoles.
_CONSOLES = 16
#: The largest counter: the largest integer that every reader of JSON keeps exactly.
_LAST = (1 << 53) - 1


def reference(written: object) -> str:
    """Return the reference to another NIC of the document, by its name or number."""
    return (
        str(fields.number(written)) if isinstance(written, int) else network_fields.interface_name(written)
    )


def optional_reference(written: object) -> str | None:
    """Return the reference to another NIC; None for null."""
    return None if written is None else reference(written)


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """A route. ``via`` is its gateway; without one the destination is on the link itself."""

    to: str = value(network_fields.destination)
    via: IP | None = value(fields.optional_address, None)
    on_link: bool = value(values.boolean, default=False)
    metric: int | None = value(network_fields.METRIC, None)


@dataclass(frozen=True, slots=True)
class BondSpec:
    """The options of a bond, by the kernel's names. ``miimon`` is in milliseconds."""

    mode: str = value(network_fields.bond_mode, "active-backup")
    miimon: int | None = value(network_fields.MILLISECONDS, None)
    xmit_hash_policy: str | None = value(network_fields.xmit_hash_policy, None)
    lacp_rate: str | None = value(network_fields.lacp_rate, None)
    primary: str | None = value(optional_reference, None)


@dataclass(frozen=True, slots=True)
class NicSpec:
    """A NIC. A physical one is matched by its mac, else by its name, else by its number (by default its
    place among the others); a bond, VLAN or bridge is created, and needs a name. ports and parent refer to
    other NICs by their names or numbers.
    """

    kind: str = value(Choice(tuple(Kind)), Kind.PHYSICAL.value)
    number: int | None = value(fields.optional_number, None)
    name: str | None = value(network_fields.optional_name, None)
    mac: str | None = value(fields.mac, None)
    ports: list[str | None] | None = parts(reference)
    parent: str | None = value(optional_reference, None)
    vlan: int | None = value(network_fields.VLAN, None)
    bond: BondSpec | None = part(BondSpec, exact=True)
    addresses: list[Interface | None] | None = parts(network_fields.interface)
    routes: list[RouteSpec | None] | None = parts(RouteSpec)
    nameservers: list[IP | None] | None = parts(fields.resolver)
    search: list[str | None] | None = parts(network_fields.search_domain)
    mtu: int | None = value(network_fields.MTU, None)
    optional: bool = value(values.boolean, default=False)
    dhcp4: bool = value(values.boolean, default=False)
    dhcp6: bool = value(values.boolean, default=False)
    accept_ra: bool = value(values.boolean, default=True)
    ra_address: bool = value(values.boolean, default=True)
    ra_dns: bool = value(values.boolean, default=True)
    ra_gateway: bool = value(values.boolean, default=True)


@dataclass(frozen=True, slots=True)
class UserSpec:
    """An account; an empty name stands for CONFIG_DEFAULT_USER. ``password`` is a crypt(3) hash;
    ``plain_password`` is hashed by the system and not stored; it may be sealed.
    """

    name: str | None = value(fields.user)
    password: str | None = value(fields.password, None)
    plain_password: str | Sealed = value(fields.sealable, "")
    keys: list[str | None] | None = parts(values.key_line)
    admin: bool = value(values.boolean, default=False)
    groups: list[str | None] | None = parts(values.group)
    shell: str | None = value(values.path, None)
    sudo: list[str | None] | None = parts(values.line)
    locked: bool = value(values.boolean, default=False, exact=True)


@dataclass(frozen=True, slots=True)
class FileSpec:
    """A file to write. Its ``content`` may be sealed; ``encoding`` is that of the opened text then."""

    path: str = value(values.path)
    content: str | Sealed = value(fields.sealable, "", exact=True)
    encoding: str = value(Choice(("text", "base64")), "text", exact=True)
    owner: str = value(values.owner, "root", exact=True)
    group: str = value(values.owner, "root", exact=True)
    mode: int = value(values.mode, 0o644, exact=True)
    append: bool = value(values.boolean, default=False, exact=True)


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """A program; one without an interpreter line is run by sh."""

    content: str = value(fields.text)
    name: str = value(values.program_name, "script")
    encoding: str = value(Choice(("text", "base64")), "text", exact=True)
    arguments: list[str | None] | None = parts(fields.text)


@dataclass(frozen=True, slots=True)
class ArchiveSpec:
    """The mirror of Debian's archive. ``security`` is that of the security updates, by default Debian's own;
    ``suite`` is a release's name, by default that of the system.
    """

    uri: str = value(values.archive_url, exact=True)
    security: str = value(values.optional_archive_url, "", exact=True)
    suite: str = value(values.optional_suite, "", exact=True)


@dataclass(frozen=True, slots=True)
class AptSpec:
    """Where apt takes packages from: Debian's archive, and a proxy."""

    archive: ArchiveSpec | None = part(ArchiveSpec)
    proxy: str = value(values.proxy_url, "")


@dataclass(frozen=True, slots=True)
class SwapSpec:
    """A file to swap to. Sizes are in bytes, or with a unit (2G). Without ``size`` it depends on the memory;
    with 0 there is no file.
    """

    size: int | None = value(values.size, None, exact=True)
    path: str = value(values.path, "/swap.img", exact=True)
    maxsize: int | None = value(values.size, None, exact=True)


for _item in (RouteSpec, BondSpec, UserSpec, FileSpec, ProgramSpec, ArchiveSpec):
    unused(_item)
_IN_IMAGES = "a partition for swap is made only in an image, by apply --image --swap"
unused(SwapSpec, refused=dict.fromkeys(("kind", "partition"), _IN_IMAGES))
unused(AptSpec, section=True)


@dataclass(frozen=True, slots=True)
class Document:
    """The document. Without ``id`` the machine's UUID identifies the instance. ``counter`` orders signed
    documents of one machine. ``consoles``: serial terminals with a login prompt.
    """

    version: int | None = value(Whole(VERSION, VERSION), None)
    id: str = value(values.instance, "")
    counter: int | None = value(Whole(1, _LAST), None)
    hostname: str = value(fields.hostname, "")
    timezone: str = value(values.timezone, "")
    locale: str = value(values.locale, "")
    apt: AptSpec | None = part(AptSpec)
    nameservers: list[IP | None] | None = parts(fields.resolver)
    search: list[str | None] | None = parts(network_fields.search_domain)
    nics: list[NicSpec | None] | None = parts(NicSpec)
    users: list[UserSpec | None] | None = parts(UserSpec)
    scripts: list[ProgramSpec | None] | None = parts(ProgramSpec)
    boot: list[ProgramSpec | None] | None = parts(ProgramSpec)
    files: list[FileSpec | None] | None = parts(FileSpec)
    metadata: dict[str, str] | None = named(values.word)
    consoles: list[str | None] | None = parts(values.console)
    swap: SwapSpec | None = part(SwapSpec)


def parse_files(files: Mapping[str, bytes]) -> Reading:
    """Return the configuration in a drive's files: the document, and the script beside it if present."""
    names = DriveNames(files)
    draft = Draft(SOURCE)
    wanted = next((document for document in DOCUMENTS if names.find(document)), "")
    name = names.find(wanted)
    if name is None:
        what = f"no {DOCUMENTS[0]}"
        return Reading(None, {}, [Problem("the drive", what, "put it into the root of the drive")])
    held = small(name, files[name], LIMIT, draft.problems)
    document = read_json(name, held, draft.problems) if held is not None else None
    if document is None:
        return Reading(None, {}, draft.problems)
    script = next((files[found] for wanted in SCRIPTS if (found := names.find(wanted))), None)
    return (reading if wanted == CONFIG else parse)(document, script, draft)


def parse(document: dict[str, Any], script: bytes | None, draft: Draft | None = None) -> Reading:
    """Return the configuration; the platform's ``script`` runs before the document's."""
    draft = draft or Draft(SOURCE)
    if document.get("version") is None:
        draft.add_problem("version", "missing", f"write {VERSION}: the version of this format")
    parsed, problems = validate(Document, document)
    draft.problems.extend(problems)
    draft.id, draft.hostname, draft.timezone = parsed.id, parsed.hostname, parsed.timezone
    draft.counter = parsed.counter
    draft.nameservers = [str(found) for found in _good(parsed.nameservers)]
    draft.search = _good(parsed.search)
    draft.nics = assemble(
        [_link(nic, place) for place, nic in enumerate(parsed.nics or ()) if nic is not None], draft.problems
    )
    for place, user in enumerate(parsed.users or ()):
        if user is None:
            continue
        plain = user.plain_password
        if isinstance(plain, fields.Sealed):
            draft.add_user(replace(_user(user), sealed=plain.text))
        else:
            usable = draft.is_valid_password(plain, f"users[{place}].plain_password")
            draft.add_user(_user(user), plain if usable else "")
    draft.system = _system(parsed, draft)
    for name, text in (parsed.metadata or {}).items():
        draft.add_metadata(name, text)
    if script:
        draft.add_program("script", script, "the script")
    for key in ("scripts", "boot"):
        for place, spec in enumerate(getattr(parsed, key) or ()):
            _program(spec, f"{key}[{place}]", draft, boot=key == "boot")
    for place, file in enumerate(parsed.files or ()):
        _file(file, f"files[{place}]", draft)
    return draft.reading()


def reading(document: dict[str, Any], script: bytes | None, draft: Draft | None = None) -> Reading:
    """Return the reading of a document in an archive. One with no key of the format but ``version``, which
    many other files have, is refused: the disk that it is on would be wiped.
    """
    if not document.keys() & ({one.name for one in fields_of(Document)} - {"version"}):
        what = "has no key of the format but version: not used"
        problem = Problem(CONFIG, what, "the platform must deliver a correct document")
        return Reading(None, {}, [*(draft.problems if draft else ()), problem])
    return parse(document, script, draft)


def _good(found: list[Any] | None) -> list[Any]:
    return [one for one in found or () if one is not None]


def _link(nic: NicSpec, place: int) -> Link:
    kind = Kind(nic.kind)
    bond = nic.bond or BondSpec()
    made = Nic(
        number=0,
        mac=nic.mac,
        name=nic.name,
        kind=kind,
        vlan=nic.vlan if kind is Kind.VLAN else None,
        bond=Bond(bond.mode, bond.miimon, bond.xmit_hash_policy, bond.lacp_rate)
        if kind is Kind.BOND
        else None,
        addresses=tuple(map(str, _good(nic.addresses))),
        routes=tuple(
            Route(network_fields.toward(r.to, r.via), str(r.via) if r.via else None, r.on_link, r.metric)
            for r in _good(nic.routes)
        ),
        nameservers=tuple(map(str, _good(nic.nameservers))),
        search=tuple(_good(nic.search)),
        mtu=nic.mtu,
        optional=nic.optional,
        dhcp4=nic.dhcp4,
        dhcp6=nic.dhcp6,
        accept_ra=nic.accept_ra,
        ra_address=nic.ra_address,
        ra_dns=nic.ra_dns,
        ra_gateway=nic.ra_gateway,
    )
    return Link(
        path=f"nics[{place}]",
        nic=made,
        refs=tuple(str(ref) for ref in (nic.number, nic.name) if ref is not None),
        ports=tuple(_good(nic.ports)) if kind in (Kind.BOND, Kind.BRIDGE) else (),
        parent=nic.parent if kind is Kind.VLAN else None,
        primary=bond.primary if kind is Kind.BOND else None,
        number=nic.number,
    )


def _user(user: UserSpec) -> User:
    return User(
        user.name or "",
        user.password,
        tuple(_good(user.keys)),
        user.admin,
        tuple(_good(user.groups)),
        user.shell,
        tuple(_good(user.sudo)),
        user.locked,
    )


def _system(document: Document, draft: Draft) -> System | None:
    consoles = tuple(dict.fromkeys(_good(document.consoles)))
    if len(consoles) > _CONSOLES:
        what = f"more than {_CONSOLES}: the others are left out"
        draft.add_problem("consoles", what, "deliver fewer")
    swap = document.swap
    file = SwapFile(swap.path, swap.size, swap.maxsize or 0) if swap and swap.size != 0 else None
    apt = _apt(document.apt)
    made = System(locale=document.locale, apt=apt, consoles=consoles[:_CONSOLES], swap=file)
    return made if made != System() else None


def _apt(spec: AptSpec | None) -> Apt | None:
    if spec is None or not (spec.archive or spec.proxy):
        return None
    proxies = tuple((scheme, spec.proxy) for scheme in ("http", "https") if spec.proxy)
    found = spec.archive
    archive = Archive(found.uri, found.security, found.suite) if found else None
    return Apt(proxies=proxies, archive=archive)


def _content(spec: FileSpec | ProgramSpec, path: str, draft: Draft) -> bytes | None:
    if isinstance(spec.content, fields.Sealed):
        return spec.content.text.encode()
    if spec.encoding == "text":
        return spec.content.encode()
    try:
        return fields.unpacked(spec.content)
    except ValueError:
        draft.add_problem(f"{path}.content", "its base64 is damaged: left out", "encode it again, whole")
        return None


def _program(spec: ProgramSpec | None, path: str, draft: Draft, *, boot: bool) -> None:
    if spec is None:
        return
    arguments = tuple(word for word in spec.arguments or () if word is not None)
    if len(arguments) < len(spec.arguments or ()):
        draft.add_problem(path, "an argument cannot be read: not run", "correct it")
        return
    content = _content(spec, path, draft)
    if content is not None:
        draft.add_program(spec.name, content, path, arguments=arguments, boot=boot)


def _file(spec: FileSpec | None, path: str, draft: Draft) -> None:
    sealed = spec.encoding if spec is not None and isinstance(spec.content, fields.Sealed) else ""
    if spec is not None and sealed and spec.append:
        what = "sealed content cannot be appended: the file is left out"
        draft.add_problem(path, what, "seal the whole content, without append")
        return
    content = _content(spec, path, draft) if spec is not None else None
    if spec is not None and content is not None:
        file = File(spec.path, "", "", spec.owner, spec.group, spec.mode, spec.append, sealed=sealed)
        draft.add_file(file, content, path)
