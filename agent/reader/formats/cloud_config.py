"""``#cloud-config``: the keys that the model has a place for; each other key is reported once.

Format: cloud-init's module reference. Values of earlier documents (another part, the drive) are kept.
"""

from __future__ import annotations

import re
import shlex

from agent.config.model import File, Naming, merge_parts
from agent.lib.records import dataclass
from agent.lib.text import WHITE
from agent.reader.common import fields, values
from agent.reader.common.bounds import Typed
from agent.reader.common.lenient import ITSELF, parts, unused, validate, value
from agent.reader.common.merge import appended
from agent.reader.common.problem import HARMLESS
from agent.reader.common.values import Choice
from agent.reader.formats import (
    cloud_account_forms,
    cloud_accounts,
    cloud_ssh,
    cloud_system,
    cloud_unhandled,
    yaml_events,
)
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


def permissions(written: object) -> int:
    """Return a file's mode. A number without quotes may be octal digits as they are written, or the number
    that YAML or JSON made of them (420 of 0644): it is taken where only one of both is a usual mode.
    """
    digits = str(written).strip(WHITE) if isinstance(written, Typed | int) else ""
    if not re.fullmatch("[1-9][0-9]{0,3}", digits):
        return values.mode(written)
    octal = int(digits, 8) if re.fullmatch("[0-7]+", digits) else 0
    usual = {mode for mode in (octal, int(digits)) if _is_usual(mode)}
    if len(usual) != 1:
        raise ValueError('not a file mode without doubt; write its octal digits in quotes: "0644"')
    return usual.pop()


def _is_usual(mode: int) -> bool:
    """Return whether no one may do more than the owner, and others no more than the group."""
    owner, group, others = mode >> 6, mode >> 3 & 7, mode & 7
    return 0 < owner <= 7 and owner | group == owner and group | others == group


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
    owner: str = value(values.line, "", exact=True)
    permissions: int | None = value(permissions, None, exact=True)
    append: bool = value(values.boolean, default=False, exact=True)
    defer: bool = value(values.boolean, default=False, exact=True)


unused(Written, refused={"source": "content is not fetched from elsewhere"}, off=("source",))


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
    draft.add_problems(name, cloud_account_forms.normalise(document))
    cloud_system.normalise(document)
    names_user, has_vendor_data = bool(document.get("user")), document.get("vendor_data") is not None
    found, problems = validate(CloudConfig, document)
    draft.add_problems(name, problems)
    _add_names(found, draft)
    draft.timezone = draft.timezone or found.timezone
    cloud_accounts.apply(found, name, draft, names_user=names_user)
    cloud_ssh.apply(found, name, draft)
    cloud_system.add(found, name, draft, has_vendor_data=has_vendor_data)
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


@dataclass(slots=True)
class _Item:
    """A file of the document: its place there, and the content of all items that are one file."""

    at: str
    file: File
    contents: list[bytes]


def _add_files(files: list[Written | None], name: str, draft: Draft) -> None:
    """Add the files. As in cloud-init, a later item overwrites the file of an earlier one, or appends."""
    found: dict[tuple[str, bool], _Item] = {}
    for number, written in enumerate(files):
        if written is None:
            continue
        at = f"{name}[{number}]"
        try:
            content, file = _unpacked(written.content, written.encoding), _file(written)
        except ValueError as error:
            draft.add_refused(at, error)
            continue
        place = written.path, written.defer
        if file.append and place in found:
            found[place].file = appended(found[place].file, file)
            found[place].contents.append(content)
            continue
        if not file.append:
            for earlier in [found.pop(key, None) for key in (place, (written.path, not written.defer))]:
                if earlier is not None:
                    what = "overwritten by a later item of the same path"
                    draft.add_problem(earlier.at, what, "write it once", severity=HARMLESS)
        found[place] = _Item(at, file, [content])
    for (_, is_late), item in found.items():
        draft.add_file(item.file, b"".join(item.contents), item.at, deferred=is_late)


def _file(written: Written) -> File:
    """Return the file, without its content. Raise ValueError."""
    owner, _, group = (written.owner or "root").partition(":")
    return File(
        written.path,
        "",
        "",
        owner=values.owner(owner or "root"),
        group=values.owner(group or owner or "root"),
        mode=0o644 if written.permissions is None else written.permissions,
        append=written.append,
        sets_owner=written.append and bool(written.owner),
        sets_mode=written.append and written.permissions is not None,
    )


def _unpacked(packed: bytes, encoding: str) -> bytes:
    if "64" in encoding:
        try:
            packed = fields.unpacked(packed)
        except ValueError:
            raise ValueError("its base64 is damaged; encode it again, whole") from None
    return gunzip(packed, _FILE) if encoding.startswith("gz") else packed
