"""The NoCloud drive: ``meta-data``, ``user-data``, ``network-config``, ``vendor-data`` in its root, YAML.

Lines ``ds=nocloud;KEY=VALUE`` have precedence over ``meta-data``.

Format: cloud-init's NoCloud data source.
"""

from __future__ import annotations

from base64 import b64decode

from agent.lib.records import dataclass
from agent.lib.text import WHITE
from agent.reader.common import nocloud_names, values
from agent.reader.common.document import read_text, small
from agent.reader.common.drive_names import DriveNames
from agent.reader.common.lenient import plain, validate, value
from agent.reader.common.merge import DEFAULT, Draft
from agent.reader.common.problem import UNSUPPORTED, shown
from agent.reader.formats import cloudinit_v1, interfaces_text, netplan_v2, user_data, yaml_events
from agent.reader.formats.gzip_data import gunzip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from agent.reader.common.result import Reading

SOURCE = "nocloud"
_LIMIT = 4 << 20
#: The first has precedence.
_LINES = (nocloud_names.COMMAND_LINE, nocloud_names.SERIAL)


@dataclass(frozen=True, slots=True)
class MetaData:
    """``meta-data``; all of its keys are available as metadata."""

    instance_id: str = value(values.instance, "")
    local_hostname: str = value(values.host_name, "")
    hostname: str = value(values.host_name, "")
    public_keys: tuple[object, ...] = value(values.public_keys, ())


#: The keys of a line, with their short names.
LINE_KEYS = {"i": "instance-id", "h": "local-hostname", "s": "seedfrom"}


def parse_files(files: Mapping[str, bytes]) -> Reading:
    """Return the drive's configuration."""
    names, draft = DriveNames(files), Draft(SOURCE)
    user, vendor = names.find("user-data"), names.find("vendor-data")
    found, network = names.find("meta-data"), names.find("network-config")
    if nocloud_names.NETWORK in files:
        files, network = _decoded(files, draft), nocloud_names.NETWORK
    metadata = _mapping(found, files, draft) if found is not None else {}
    lines = {name: _line(name, files[name], draft) for name in _LINES if name in files}
    for line in reversed(lines.values()):
        metadata = {key: of for key, of in metadata.items() if plain(key) not in map(plain, line)} | line
    if user is not None:
        user_data.read(files[user], user, draft, metadata=metadata)
    if found is None and not lines:
        draft.add_problem("the drive", "no meta-data", "add one; it may be empty")
    else:
        has_network = network is not None and bool(files[network].strip(WHITE.encode()))
        place = found if found is not None else next(iter(lines))
        _describe(place, metadata, draft, has_network=has_network)
    if network is not None:
        _network(network, _mapping(network, files, draft), draft)
    if vendor is not None:
        user_data.read(files[vendor], vendor, draft, vendor=True, metadata=metadata)
    return draft.reading()


def _line(name: str, raw: bytes, draft: Draft) -> dict[str, Any]:
    """Return the good values of a line by their long names; add a problem for each other one."""
    good = dict[str, object]()
    for part in read_text(raw).split(";")[1:]:
        short, equals, text = part.partition("=")
        key = LINE_KEYS.get(short.strip(WHITE), short.strip(WHITE))
        if not part.strip(WHITE):
            continue
        if not equals or key not in LINE_KEYS.values():
            what, hint = "not a key of the line", f"write {', '.join(LINE_KEYS)}, each with = and its value"
            draft.add_problem(f"{name}: {shown(key)}", what, hint, severity=UNSUPPORTED)
        elif key == "seedfrom":
            what, hint = "nothing is fetched from the network or a path", "deliver it on a drive"
            draft.add_problem(f"{name}: {key}", what, hint, severity=UNSUPPORTED)
        else:
            _, problems = validate(MetaData, {key: text})
            draft.add_problems(name, problems)
            good |= {} if problems else {key: text}
    return good


def _decoded(files: Mapping[str, bytes], draft: Draft) -> Mapping[str, bytes]:
    """Return the files with the network document of the kernel command line decoded from base64."""
    name = nocloud_names.NETWORK
    text = files[name].strip(WHITE.encode())
    if text == b"disabled":
        return {**files, name: b"config: disabled\n"}
    try:
        document = b64decode(text, validate=True)
        document = gunzip(document, _LIMIT) if document.startswith(b"\x1f\x8b") else document
    except ValueError:
        draft.add_problem(name, "neither base64 of a document nor disabled: left out", "encode it again")
        document = b""
    return {**files, name: document}


def _mapping(name: str, files: Mapping[str, bytes], draft: Draft) -> dict[str, Any]:
    """Return a YAML document; if it is not a dictionary, add a problem and return an empty one."""
    held = small(name, files[name], _LIMIT, draft.problems)
    text = read_text(held) if held else ""
    document = yaml_events.read(name, text, draft.problems) if text.strip(WHITE) else None
    if document is None or isinstance(document, dict):
        return document or {}
    draft.add_problem(name, "not a dictionary: left out", "write keys, each with its value")
    return {}


def _describe(name: str, document: dict[str, Any], draft: Draft, *, has_network: bool) -> None:
    known = {key: text for key, text in document.items() if plain(key) in MetaData.__slots__}
    found, problems = validate(MetaData, known)
    draft.add_problems(name, problems)
    draft.id = found.instance_id
    draft.hostname = draft.hostname or found.local_hostname or found.hostname
    draft.add_keys(DEFAULT, found.public_keys, f"{name}: public-keys")
    for key, text in document.items():
        if plain(key) == "seedfrom":
            what, hint = "nothing is fetched from the network", "deliver it all on the drive"
            draft.add_problem(f"{name}: {key}", what, hint, severity=UNSUPPORTED)
        elif plain(key) == "network_interfaces":
            _interfaces(f"{name}: {key}", text, draft, is_used=not has_network)
        elif plain(key) in ("network", "network_config") and isinstance(text, dict):
            what, hint = "no effect in meta-data", "deliver it as the file network-config"
            draft.add_problem(f"{name}: {key}", what, hint, severity=UNSUPPORTED)
        else:
            draft.add_metadata(key, text)


def _interfaces(place: str, text: object, draft: Draft, *, is_used: bool) -> None:
    """Add the text of interfaces(5) to the draft, unless there is a newer network document."""
    if not is_used:
        what, hint = "not used: network-config has precedence", "deliver one of them"
        draft.add_problem(place, what, hint, severity=UNSUPPORTED)
    elif text is not None and not isinstance(text, str):
        draft.add_problem(place, "not text: left out", "write it as a block of text, after |")
    elif text:
        interfaces_text.read(text, place, draft)


def _lower(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with the keys that choose its reader in lower case, if each is there once."""
    found = [str(key).strip(WHITE).lower() for key in document]
    chosen = {key for key in ("network", "version", "config") if found.count(key) == 1}
    return {
        low if low in chosen else key: of for (key, of), low in zip(document.items(), found, strict=True)
    }


def _network(name: str, document: dict[str, Any], draft: Draft) -> None:
    """Add ``network-config`` of either version, at the top level or below ``network``, to the draft."""
    document = _lower(document)
    if "network" in document:
        inner = document.pop("network")
        for key in document:
            what, hint = "no effect beside network", "write it below network"
            draft.add_problem(f"{name}: {shown(key)}", what, hint, severity=UNSUPPORTED)
        if not isinstance(inner, dict):
            what, hint = "not a dictionary: left out", "write version and devices in it"
            draft.add_problem(f"{name}: network", what, hint)
            return
        document = _lower(inner)
    if not document or _word(document.get("config")) == "disabled":
        draft.network_disabled = bool(document)
        return
    match _word(document.get("version")).removesuffix(".0"):
        case "1":
            cloudinit_v1.read(document, name, draft)
        case "2":
            netplan_v2.read(document, name, draft)
        case _:
            draft.add_problem(
                f"{name}: version", "neither 1 nor 2: left out", "write the version of its format"
            )


def _word(value: object) -> str:
    """Return a word or number as text, in lower case; "" for anything else."""
    return str(value).strip(WHITE).lower() if isinstance(value, str | int | float) else ""
