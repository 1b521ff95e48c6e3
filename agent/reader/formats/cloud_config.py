"""``#cloud-config``: the keys that the model has a place for; each other key is reported once.

Format: cloud-init's module reference. Values of earlier documents (another part, the drive) are kept.
"""

from __future__ import annotations

import shlex

from agent.config.model import File, Naming, merge_parts
from agent.lib.records import dataclass
from agent.lib.text import WHITE
from agent.reader.common import fields, values
from agent.reader.common.lenient import ITSELF, parts, unused, validate, value
from agent.reader.common.problem import HARMLESS
from agent.reader.common.values import Choice
from agent.reader.formats import cloud_accounts, cloud_ssh, cloud_system, cloud_unhandled, yaml_events
from agent.reader.formats.gzip_data import gunzip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent.reader.common.merge import Draft

#: cloud-init's names of encodings of a file's content.
_PACKED = ("gz", "gzip", "gz+base64", "gzip+base64", "gz+b64", "gzip+b64", "b64", "base64")
_ENCODINGS = Choice(("text/plain", "utf-8", "utf8", *_PACKED, ""))
#: Maximum bytes of a file, unpacked.
_FILE = 8 << 20


def command(written: object) -> str:
    """Return a line for the shell: a string unchanged, a list as quoted words."""
    if isinstance(written, list):
        return shlex.join(values.word(one) for one in written if one is not None)
    return values.word(written)


def content(written: object) -> bytes:
    """Return a file's content, given as text, as a number or as YAML's !!binary."""
    if written is None:
        raise ValueError('empty, which would empty the file; write "" if that is meant')
    return written if isinstance(written, bytes) else values.number_or_text(written).encode()


def etc_hosts(written: object) -> str:
    """Return a value of ``Naming.hosts``, for a boolean, localhost or template; "" for null."""
    word = fields.stripped(written).lower() if isinstance(written, str) else written
    if word in (None, "", "localhost", "template"):
        return str(word or "")
    return "template" if values.boolean(word) else "off"


@dataclass(frozen=True, slots=True)
class Written:
    """``write_files[]``."""

    path: str = value(values.path)
    content: bytes = value(content, b"", exact=True)
    encoding: str = value(_ENCODINGS, "", exact=True)
    owner: str = value(values.line, "root:root", exact=True)
    permissions: int = value(values.mode, 0o644, exact=True)
    append: bool = value(values.boolean, default=False, exact=True)
    defer: bool = value(values.boolean, default=False, exact=True)


unused(Written, refused={"source": "content is not fetched from elsewhere"})


@dataclass(frozen=True, slots=True)
class CloudConfig(cloud_system.SystemKeys):
    """The document."""

    hostname: str = value(values.host_name, "")
    fqdn: str = value(values.host_name, "")
    prefer_fqdn_over_hostname: bool = value(values.boolean, default=False)
    manage_etc_hosts: str = value(etc_hosts, "")
    preserve_hostname: bool = value(values.boolean, default=False)
    create_hostname_file: bool = value(values.boolean, default=True)
    write_files: list[Written | None] | None = parts(Written)
    runcmd: list[str | None] | None = parts(command)
    bootcmd: list[str | None] | None = parts(command)
    timezone: str = value(values.timezone, "")


unused(
    CloudConfig,
    harmless=cloud_unhandled.HARMLESS | cloud_ssh.HARMLESS,
    refused=cloud_unhandled.REFUSED | cloud_accounts.REFUSED | cloud_ssh.REFUSED,
    unknown=ITSELF,
)


def parse(text: str, name: str, draft: Draft) -> dict[str, Any] | None:
    """Return the document's values, {} for an empty one; None and a problem if it cannot be read."""
    if not text.strip(WHITE):
        return {}
    count = len(draft.problems)
    document = yaml_events.read(name, text, draft.problems)
    if isinstance(document, dict):
        return document
    if document is None and len(draft.problems) == count:
        return {}
    if document is not None:
        draft.add_problem(name, "not a dictionary: left out", "write keys, each with its value")
    return None


def apply(document: dict[str, Any], name: str, draft: Draft, prefix: str) -> None:
    """Add the document's configuration to the draft; ``prefix`` is that of its programs' names."""
    cloud_accounts.normalise(document)
    cloud_system.normalise(document)
    names_user = bool(document.get("user"))
    found, problems = validate(CloudConfig, document)
    draft.add_problems(name, problems)
    _add_names(found, draft)
    draft.timezone = draft.timezone or found.timezone
    cloud_accounts.apply(found, name, draft, names_user=names_user)
    cloud_ssh.apply(found, name, draft)
    cloud_system.add(found, name, draft)
    _add_files(found.write_files or [], f"{name}: write_files", draft)
    for key, boot in (("bootcmd", True), ("runcmd", False)):
        # An invalid one is reported, and costs itself; an empty one has no effect.
        if wanted := [line for line in getattr(found, key) or () if line]:
            script = "".join(f"{line}\n" for line in ("#!/bin/sh", *wanted))
            draft.add_program(f"{prefix}{key}", script.encode(), f"{name}: {key}", boot=boot)


def _add_names(found: CloudConfig, draft: Draft) -> None:
    # The hostname of another document does not belong to this one's FQDN.
    fqdn = found.fqdn if found.hostname and not draft.hostname else ""
    draft.hostname = draft.hostname or found.hostname or found.fqdn
    naming = Naming(
        fqdn,
        found.prefer_fqdn_over_hostname,
        found.manage_etc_hosts,
        found.preserve_hostname,
        found.create_hostname_file,
    )
    if naming != Naming():
        draft.naming = merge_parts(draft.naming, naming)


def _add_files(files: list[Written | None], name: str, draft: Draft) -> None:
    """Add the files. As in cloud-init, a later item overwrites the file of an earlier one."""
    written = dict[str, str]()
    for place, file in enumerate(files):
        if file is None or not _file(file, f"{name}[{place}]", draft, is_later=file.path in written):
            continue
        if earlier := written.get(file.path):
            what = "overwritten by a later item of the same path"
            draft.add_problem(earlier, what, "write it once", severity=HARMLESS)
        written[file.path] = f"{name}[{place}]"


def _file(file: Written, path: str, draft: Draft, *, is_later: bool) -> bool:
    """Add the file; return whether it is written whole, and not by a document with precedence."""
    owner, _, group = file.owner.partition(":")
    try:
        found = _unpacked(file.content, file.encoding)
        made = File(
            file.path,
            "",
            "",
            owner=values.owner(owner or "root"),
            group=values.owner(group or owner or "root"),
            mode=file.permissions,
            append=file.append,
        )
    except ValueError as error:
        what, _, hint = str(error).partition("; ")
        draft.add_problem(path, f"{what}: left out", hint)
        return False
    is_first = draft.add_file(made, found, path, deferred=file.defer, is_later=is_later)
    return is_first and not file.append


def _unpacked(packed: bytes, encoding: str) -> bytes:
    if "64" in encoding:
        try:
            packed = fields.unpacked(packed)
        except ValueError:
            raise ValueError("its base64 is damaged; encode it again, whole") from None
    return gunzip(packed, _FILE) if encoding.startswith("gz") else packed
