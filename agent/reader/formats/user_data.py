"""User data and vendor data: scripts, boothooks and #cloud-config, also in gzip, base64, templates, archives
and MIME parts.

Format: cloud-init, doc/rtd/explanation/format.rst. A part's type is that of its header, or else follows from
its first line. Nothing is included from elsewhere, and nothing is run here. Any other content (text for an
application) is only stored for ``gandi-agent get user-data``.
"""

from __future__ import annotations

import re

from agent.lib.records import dataclass, field, replace
from agent.lib.text import WHITE, number
from agent.reader.common import fields, lenient
from agent.reader.common.document import read_text, small
from agent.reader.common.merge import KINDS, USER_DATA, Draft
from agent.reader.common.problem import HARMLESS, UNSUPPORTED, shown
from agent.reader.formats import cloud_config, cloud_config_archive, cloud_config_merge, mime, template
from agent.reader.formats.cloud_account_forms import has_plain_password
from agent.reader.formats.gzip_data import GZIP, gunzip
from agent.reader.formats.mime import Part
from agent.reader.formats.part_types import (
    ARCHIVE,
    BOOTHOOK,
    BY_CONTENT,
    COMPRESSED,
    CONFIG,
    MESSAGE,
    PROGRAMS,
    REFUSED,
    SCRIPT,
    TEMPLATE,
    begun,
    mark,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

#: Maximum bytes, as delivered and unpacked: far more than any platform accepts.
LIMIT = 4 << 20
#: Maximum bytes that are read in all: packed parts in packed parts multiply.
_ALL = 2 * LIMIT
#: Maximum layers of gzip, base64 and templates around one part.
_LAYERS = 4
_WHITE = WHITE.encode()
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BASE64 = re.compile(rb"[A-Za-z0-9+/\r\n \t]{8,}+={0,2}[\r\n \t]*+")
#: In a first line: a key with its value, or how a line end is written elsewhere.
_LOST_LINES = re.compile(r"[A-Za-z]:(?: |\Z)|\\n|%0[Aa]")
_PASSWORD = re.compile(r"(?i)passwo?r?d[\"']?[ \t]*:")
_TYPES = f"give it a type that is: {CONFIG} or {SCRIPT}"
_EXPLAINED = "begin it with #! for a script, with #cloud-config for configuration"


@dataclass(slots=True)
class _UserData:
    """What the parts of one delivery contain so far, and the bytes ``left`` to read."""

    draft: Draft
    prefix: str
    names: Mapping[str, str]
    launch_index: int | None
    is_joined: bool
    left: int = _ALL
    count: int = 0
    configs: list[tuple[str, dict[str, Any], cloud_config_merge.Rules]] = field(default_factory=list)


def load() -> None:
    """Import, while files can still be opened, what is otherwise imported at the first use."""
    mime.load()
    b"\xff\xfe".decode("utf-16")


def read(
    raw: bytes,
    name: str,
    draft: Draft,
    *,
    vendor: bool = False,
    metadata: Mapping[str, object] | None = None,
    is_joined: bool = False,
) -> None:
    """Add the configuration in the data to the draft; user data is also stored unchanged.

    ``metadata``: the medium's, for templates and Launch-Index. With ``is_joined``, two cloud-configs may
    have been joined to one text, without the first line of the second.
    """
    if not raw.strip(_WHITE):
        return
    if vendor and draft.ignores_vendor_data:
        what = "not used: the user data say so (vendor_data.enabled)"
        draft.add_problem(name, what, severity=HARMLESS)
        return
    held = small(name, raw, LIMIT, draft.problems)
    if held is None:
        return
    plain, known = draft.plain, metadata or {}
    index = next((known[key] for key in ("launch-index", "launch_index") if key in known), "")
    data = _UserData(
        draft, "vendor-" if vendor else "", template.names(known), number(str(index)), is_joined
    )
    _read(Part(name, held), data, 0)
    _add_configs(name, data)
    if vendor:
        return
    if draft.plain > plain:
        hint = "give a crypt(3) hash instead, and it is stored"
        draft.add_problem(name, "contains a password in plain text: not stored", hint, severity=HARMLESS)
    elif USER_DATA not in draft.kept:
        draft.store_content(USER_DATA, held, name)


def _read(part: Part, data: _UserData, depth: int) -> None:
    """Read one part, or the whole data."""
    try:
        if part.damage:
            raise ValueError(part.damage)
        _unpack(part, data)
        kind = _type(part)
        if kind not in (MESSAGE, ARCHIVE):
            data.count += 1
            part.filename = part.filename.rpartition("/")[2] or f"part-{data.count:03}"
            _use(part, kind, data)
            return
    except ValueError as error:
        data.draft.add_refused(part.name, error)
        return
    for inner in _parts(part, kind, data, depth):
        _read(inner, data, depth + 1)


def _use(part: Part, kind: str, data: _UserData) -> None:
    """Add a part of this type. Raise ValueError if it cannot be read."""
    draft, prefix = data.draft, data.prefix or "user-"
    if kind == CONFIG and mark(part.content) not in ("", CONFIG):
        raise ValueError(
            "its header says that it is a cloud-config, and its first line does not; correct one of them"
        )
    if kind == CONFIG:
        _config(part, data)
    elif not _is_for_this_machine(part, part.launch_index, data):
        pass
    elif kind in (*PROGRAMS, BOOTHOOK) and mark(part.content) not in ("", SCRIPT, kind):
        raise ValueError(
            "its header says that it is a script, and its first line does not; correct one of them"
        )
    elif kind in PROGRAMS:
        frequency, name = PROGRAMS[kind]
        order = (KINDS.index(name), part.filename)
        content = _script(part.content)
        draft.add_program(f"{prefix}{name}", content, part.name, frequency=frequency, order=order)
    elif kind == BOOTHOOK:
        draft.add_program(f"{prefix}boothook", _boothook(part.content), part.name, boot=True)
    elif kind in REFUSED:
        draft.add_problem(part.name, *REFUSED[kind])
    else:
        what = "neither a script nor #cloud-config" + (": left out" if data.prefix else ": only stored")
        hint = _EXPLAINED
        if kind:
            what, hint = f"of the type {shown(kind)}, which is not supported: left out", _TYPES
        draft.add_problem(part.name, what, hint, severity=UNSUPPORTED)


def _unpack(part: Part, data: _UserData) -> None:
    """Remove the layers around the part's content: gzip, base64, templates, and what comes before its first
    character. Raise ValueError if one is damaged, or for too many bytes in all.
    """
    for _ in range(_LAYERS):
        content = part.content
        data.left -= len(content)
        if data.left < 0:
            raise ValueError(f"more than {_ALL} bytes in all, unpacked; deliver less")
        if content.startswith(GZIP):
            content = gunzip(content, LIMIT)
        elif content.startswith(_UTF16):
            content = _from_utf16(content)
        elif (head := template.HEAD.match(begun(content))) or part.type == TEMPLATE:
            content = _rendered(begun(content), head, data)
            part.type = "" if part.type == TEMPLATE else part.type
        elif part.type in BY_CONTENT and not mark(begun(content)):
            content = _from_base64(content)
        if content is part.content:
            if COMPRESSED.fullmatch(part.type):
                raise ValueError("its header says that it is compressed, and it is not; correct one of them")
            part.content = begun(content)
            return
        part.content = content
        if COMPRESSED.fullmatch(part.type):
            part.type = ""
    raise ValueError("packed in too many layers; deliver the content itself")


def _from_utf16(content: bytes) -> bytes:
    try:
        return content.decode("utf-16").encode()
    except UnicodeError:
        raise ValueError("begins as UTF-16 and is not; write it as UTF-8") from None


def _from_base64(content: bytes) -> bytes:
    """Return what the content is in base64, if that begins with a known mark; else the content."""
    if not _BASE64.fullmatch(content):
        return content
    try:
        decoded = fields.unpacked(content)
    except ValueError:
        return content
    is_known = decoded.startswith((GZIP, *_UTF16)) or mark(begun(decoded))
    return decoded if is_known else content


def _rendered(content: bytes, head: re.Match[bytes] | None, data: _UserData) -> bytes:
    if head and head[1].lower() != b"jinja":
        raise ValueError("a template in another language than jinja; write ## template: jinja")
    content = content[head.end() :] if head else content
    if template.HEAD.match(begun(content)):
        raise ValueError("a template in a template; write one ## template: line")
    return template.rendered(content, data.names)


def _type(part: Part) -> str:
    if part.type in BY_CONTENT:
        return mark(part.content)
    # Other content under this type is common; a script always has its first line.
    return (mark(part.content) or SCRIPT) if part.type == SCRIPT else part.type


def _parts(part: Part, kind: str, data: _UserData, depth: int) -> Iterable[Part]:
    if kind == MESSAGE:
        return mime.split(part.content, part.name, data.draft, depth)
    if depth >= mime.DEEPEST:
        data.draft.add_problem(part.name, "archives nested too deeply: left out", "deliver one archive")
        return []
    inner = cloud_config_archive.split(read_text(part.content), part.name, data.draft)
    return [replace(one, launch_index=one.launch_index or part.launch_index) for one in inner]


def _is_for_this_machine(part: Part, index: object, data: _UserData) -> bool:
    """Return whether the part is for this machine's place among those that were launched together. Raise
    ValueError if that cannot be read.
    """
    if index in ("", None):
        return True
    wanted = number(str(index).strip(WHITE))
    if wanted is None:
        raise ValueError("its Launch-Index is not a number; write 0 for the first machine")
    if data.launch_index in (None, wanted):
        return True
    what = f"for the machine with Launch-Index {wanted}: not used here"
    data.draft.add_problem(part.name, what, severity=HARMLESS)
    return False


def _script(content: bytes) -> bytes:
    """Return a script with the line ends that the kernel needs, if its first line has those of Windows.
    Raise ValueError if its line ends were lost on the way.
    """
    first, line_end, rest = content.partition(b"\n")
    if first.startswith(b"#!") and not line_end and (b"\\n" in first or b"%0A" in first.upper()):
        raise ValueError("a script of one line, which names its interpreter; deliver real line ends")
    if not first.endswith(b"\r") or not first.startswith(b"#!"):
        return content
    # A program with binary data after its first line needs them as they are.
    return first[:-1] + b"\n" + (rest if b"\0" in rest else rest.replace(b"\r\n", b"\n"))


def _boothook(content: bytes) -> bytes:
    """Return the program of a boothook."""
    content = begun(content[len("#cloud-boothook") :] if mark(content) == BOOTHOOK else content)
    if not content:
        raise ValueError("a boothook without commands; write them below its first line")
    return _script(content)


def _config(part: Part, data: _UserData) -> None:
    """Add the part's cloud-configs to those of the delivery."""
    texts = _joined(read_text(part.content)) if data.is_joined else [read_text(part.content)]
    texts = [one for text in texts for one in _at_marks(text)]
    if len(texts) > mime.PARTS:
        raise ValueError(f"more than {mime.PARTS} documents; join them")
    for place, text in enumerate(texts, start=1):
        name = part.name if len(texts) == 1 else f"{part.name}, document {place}"
        document = cloud_config.parse(text, name, data.draft)
        # Of what is not read, by its words.
        is_read = document is not None and "\n---" not in text
        data.draft.plain += has_plain_password(document) or (not is_read and bool(_PASSWORD.search(text)))
        if document is None or not _holds_anything(text, document, name, data.draft):
            continue
        spelled = [key for key in document if lenient.plain(key) == "launch_index"]
        index = [document.pop(key) for key in spelled]
        try:
            rules = cloud_config_merge.rules(document, part.merge_type)
            is_ours = _is_for_this_machine(part, part.launch_index or next(iter(index), ""), data)
        except ValueError as error:
            data.draft.add_refused(name, error)
            is_ours = False
        if is_ours:
            data.configs.append((name, document, rules))


def _at_marks(text: str) -> list[str]:
    """Return the documents of a text in which each begins with its own #cloud-config line."""
    return re.split(r"(?i)(?<=\n)(?=#cloud-config[ \t]*(?:\n|\Z))", text)


def _joined(text: str) -> list[str]:
    """Return the documents of a text that CloudStack made of two, with an empty line between them and
    without the first line of the second: a key of the first that appears again belongs to the second.
    """
    seen, first = set[str](), text.find("\n\n")
    if first < 0:
        return [text]
    for key in re.finditer(r"^([A-Za-z][A-Za-z0-9_-]*)[ \t]*:(?=[ \t\n]|\Z)", text, re.MULTILINE):
        if key[1] in seen and key.start() > first:
            place = text.rfind("\n\n", 0, key.start()) + 2
            return [text[:place], text[place:]]
        seen.add(key[1])
    return [text]


def _holds_anything(text: str, document: dict[str, Any], name: str, draft: Draft) -> bool:
    """Return whether the document holds anything. Add a problem if its first line does, which is a comment:
    line ends were lost on the way.
    """
    first = text.partition("\n")[0].strip(WHITE)
    more = first[len("#cloud-config") :].strip(WHITE) if first.lower().startswith("#cloud-config") else ""
    if more and not more.startswith("#") and (not document or _LOST_LINES.search(more)):
        what = "its first line is a comment, of which nothing is read"
        what = what if document else f"says #cloud-config and holds nothing: {what}"
        draft.add_problem(name, what, "begin a new line after #cloud-config; deliver real line ends")
    return bool(document)


def _add_configs(name: str, data: _UserData) -> None:
    """Add the cloud-configs of the delivery, merged."""
    draft = data.draft
    document, lost = cloud_config_merge.combine(data.configs)
    for part, key, what in lost:
        hint = "give merge_how with other rules to combine them"
        draft.add_problem(f"{part}: {shown(key)}", what, hint, severity=HARMLESS)
    if document:
        cloud_config.apply(
            document, data.configs[0][0] if len(data.configs) == 1 else name, draft, data.prefix
        )
