"""The OpenStack config drive: ``openstack/VERSION/meta_data.json`` and the files beside it.

Format: OpenStack Nova, doc/source/user/metadata.rst. Keys that are not declared here have no effect: newer
versions of the platform add some, which describe the machine.
"""

from __future__ import annotations

from agent.config.model import File
from agent.lib.records import dataclass
from agent.lib.text import WHITE
from agent.reader.common import fields, values
from agent.reader.common.bounds import load, read_json
from agent.reader.common.document import read_text, small
from agent.reader.common.drive_names import DriveNames
from agent.reader.common.lenient import NOTHING, named, part, parts, unused, validate, value
from agent.reader.common.merge import DEFAULT, Draft, PasswordForm
from agent.reader.common.problem import HARMLESS, UNSUPPORTED
from agent.reader.formats import interfaces_text, openstack_network_data, user_data

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from agent.reader.common.result import Reading

SOURCE = "openstack"
#: The newest one on the drive is used: it contains all of the older ones.
VERSIONS = (
    *("2025-04-04", "2020-10-14", "2018-08-27", "2017-02-22", "2016-10-06", "2016-06-30"),
    *("2015-10-15", "2013-10-17", "2013-04-04", "2012-08-10", "latest"),
)
#: Maximum bytes of each JSON document.
LIMIT = 4 << 20


@dataclass(frozen=True, slots=True)
class Key:
    """``keys[]``, of which those of type ssh are used."""

    data: str = value(fields.any_text)
    type: str = value(fields.text, "ssh")


unused(Key, harmless={"name": "a name for the person who reads it"}, unknown=NOTHING, is_quiet=True)


@dataclass(frozen=True, slots=True)
class Injected:
    """``files[]``; the content is in another file on the drive."""

    path: str = value(values.path)
    content_path: str = value(fields.text)


@dataclass(frozen=True, slots=True)
class Content:
    """``network_config``: the file with the text of interfaces(5)."""

    content_path: str = value(fields.text)


unused(Content, harmless={"name": "a name for the person who reads it"}, is_quiet=True)


@dataclass(frozen=True, slots=True)
class MetaData:
    """``meta_data.json``."""

    uuid: str = value(values.instance, "")
    hostname: str = value(values.host_name, "")
    name: str = value(values.word, "")
    availability_zone: str = value(values.word, "")
    project_id: str = value(values.word, "")
    launch_index: str = value(values.word, "")
    public_keys: tuple[object, ...] = value(values.public_keys, ())
    keys: list[Key | None] | None = parts(Key)
    meta: dict[str, str] | None = named(values.word)
    files: list[Injected | None] | None = parts(Injected)
    admin_pass: str = value(values.number_or_text, "")
    network_config: Content | None = part(Content)


unused(
    MetaData,
    harmless={
        "dedicated_cpus": "it describes the machine",
        "devices": "it describes the machine",
        "instance_type": "it describes the machine",
        "random_seed": "the kernel's random numbers need no seed from a medium that others can read",
    },
    unknown=NOTHING,
    is_quiet=True,
)


def parse_files(files: Mapping[str, bytes]) -> Reading:
    """Return the drive's configuration."""
    names, draft = DriveNames(files), Draft(SOURCE)
    folder = newest(names)
    name = names.find(f"{folder}/meta_data.json")
    found = MetaData()
    if name is None:
        draft.add_problem("the drive", f"no {folder}/meta_data.json", "the platform must deliver it")
    else:
        found = metadata(name, files[name], draft)
    if found.admin_pass:
        draft.add_password(DEFAULT, found.admin_pass, f"{name}: admin_pass", form=PasswordForm.PLAIN)
    user = names.find(f"{folder}/user_data")
    if user is not None:
        user_data.read(files[user], user, draft, metadata=instance_data(found))
    if name is not None:
        describe(found, name, draft)
        _inject(found, name, files, names, draft)
    has_network = network(f"{folder}/network_data.json", files, names, draft)
    if name is not None and found.network_config is not None:
        path = f"{name}: network_config"
        _interfaces(found.network_config, path, files, names, draft, is_used=not has_network)
    vendor_data(folder, files, names, draft, instance_data(found))
    return draft.reading()


def instance_data(found: MetaData) -> dict[str, object]:
    """Return the metadata that templates may use, by cloud-init's names and the platform's own."""
    names = ("uuid", "hostname", "name", "availability_zone", "project_id", "launch_index")
    data: dict[str, object] = {name: text for name in names if (text := getattr(found, name))}
    # Nova puts the password there too.
    meta = {key: text for key, text in (found.meta or {}).items() if key != "admin_pass"}
    return data | {"instance_id": found.uuid, "local_hostname": found.hostname, "meta": meta}


def newest(names: DriveNames) -> str:
    """Return the folder of the newest known version with metadata."""
    folders = [f"openstack/{version}" for version in VERSIONS]
    return next((f for f in folders if names.find(f"{f}/meta_data.json")), "openstack/latest")


def metadata(name: str, raw: bytes, draft: Draft) -> MetaData:
    """Return ``meta_data.json``; add its errors to the draft."""
    document = _json(name, raw, draft)
    found, problems = validate(MetaData, document or {})
    draft.add_problems(name, problems)
    return found


def describe(found: MetaData, name: str, draft: Draft) -> None:
    """Add the metadata to the draft; earlier values are kept."""
    draft.id = draft.id or found.uuid
    draft.hostname = draft.hostname or found.hostname
    more = [key.data for key in found.keys or () if key is not None and key.type == "ssh"]
    draft.add_keys(DEFAULT, found.public_keys, f"{name}: public_keys")
    draft.add_keys(DEFAULT, [line for text in more for line in fields.items(text)], f"{name}: keys")
    for place, other in enumerate(found.keys or ()):
        if other is not None and other.type != "ssh":
            what = "no effect: only keys for ssh are used"
            draft.add_problem(f"{name}: keys[{place}].type", what, severity=HARMLESS)
    for key in ("uuid", "hostname", "name", "availability_zone", "project_id", "launch_index"):
        if getattr(found, key):
            draft.add_metadata(key, getattr(found, key))
    for key, text in (found.meta or {}).items():
        # Nova puts the password there too.
        if key != "admin_pass":
            draft.add_metadata(f"meta.{key}", text)


def network(wanted: str, files: Mapping[str, bytes], names: DriveNames, draft: Draft) -> bool:
    """Add ``network_data.json`` to the draft; return whether it exists and is not empty."""
    name = names.find(wanted)
    document = _json(name, files[name], draft) if name is not None else None
    if document and name is not None:
        openstack_network_data.read(document, name, draft)
    return bool(document)


def _interfaces(
    said: Content,
    path: str,
    files: Mapping[str, bytes],
    names: DriveNames,
    draft: Draft,
    *,
    is_used: bool,
) -> None:
    """Add the text of interfaces(5) to the draft, unless there is a newer network document."""
    if not is_used:
        what, hint = "not used: network_data.json has precedence", "deliver one of them"
        draft.add_problem(path, what, hint, severity=UNSUPPORTED)
        return
    name = _content(said.content_path, path, names, draft)
    held = small(name, files[name], LIMIT, draft.problems) if name is not None else None
    if name is not None and held is not None:
        interfaces_text.read(read_text(held), name, draft)


def _content(written: str, path: str, names: DriveNames, draft: Draft) -> str | None:
    """Return the name of the file at a ``content_path``; None and a problem if it is missing."""
    name = names.find("openstack/" + written.strip("/"))
    if name is None:
        what = "not on the drive: left out"
        draft.add_problem(f"{path}.content_path", what, "the platform must deliver it")
    return name


def vendor_data(
    folder: str,
    files: Mapping[str, bytes],
    names: DriveNames,
    draft: Draft,
    instance_data: Mapping[str, object] | None = None,
) -> None:
    """Add ``vendor_data2.json`` and ``vendor_data.json`` to the draft. The first has precedence, and both
    come after user data.
    """
    first, second = (names.find(f"{folder}/vendor_data{number}.json") for number in ("2", ""))
    # A name that could be either, cut short, is the one that every platform writes.
    for name in dict.fromkeys((None if first == second else first, second)):
        if name is not None and files[name].strip(WHITE.encode()):
            _vendor_document(name, files[name], draft, instance_data)


def _vendor_document(
    name: str, raw: bytes, draft: Draft, instance_data: Mapping[str, object] | None
) -> None:
    """Add one of them: a string or a list of these, each in one of the formats of user data; or an object
    with these in ``cloud-init``, where other keys are for other programs.
    """
    held = small(name, raw, LIMIT, draft.problems)
    if held is None:
        return
    try:
        found = load(read_text(held), name, draft.problems)
    except (ValueError, RecursionError):
        draft.add_problem(name, "not JSON: left out", "the platform must deliver a correct document")
        return
    place = ""
    if isinstance(found, dict):
        found, place = found.get("cloud-init"), ".cloud-init"
    for number, text in enumerate(found if isinstance(found, list) else [found]):
        at = f"{name}{place}[{number}]" if isinstance(found, list) else f"{name}{place}"
        if isinstance(text, str):
            raw = text.encode("utf-8", "replace")
            user_data.read(raw, at, draft, vendor=True, metadata=instance_data)
        elif text is not None:
            what = "neither text nor a list of texts: left out"
            draft.add_problem(at, what, "write user data in it, as text")


def _json(name: str, raw: bytes, draft: Draft) -> dict[str, Any] | None:
    problems = draft.problems
    held = small(name, raw, LIMIT, problems)
    return None if held is None else read_json(name, held, problems)


def _inject(found: MetaData, name: str, files: Mapping[str, bytes], names: DriveNames, draft: Draft) -> None:
    for place, file in enumerate(found.files or ()):
        if file is None:
            continue
        path = f"{name}: files[{place}]"
        content = _content(file.content_path, path, names, draft)
        if content is not None:
            draft.add_file(File(file.path, "", ""), files[content], path)
