"""The types of user data, by the header of a MIME part or by the first line.

Format: cloud-init, doc/rtd/explanation/format.rst.
"""

from __future__ import annotations

import re

from agent.config.model import PER_BOOT, PER_INSTANCE, PER_ONCE
from agent.lib.text import WHITE
from agent.reader.formats import mime, template

CONFIG, ARCHIVE, SCRIPT = "text/cloud-config", "text/cloud-config-archive", "text/x-shellscript"
BOOTHOOK, TEMPLATE, MESSAGE = "text/cloud-boothook", "text/jinja2", "message/rfc822"
_INCLUDE, _INCLUDE_ONCE = "text/x-include-url", "text/x-include-once-url"
_PATCH, _HANDLER, _UPSTART = "text/cloud-config-jsonp", "text/part-handler", "text/upstart-job"
#: Types by the first line, in lower case; the first that fits counts.
_MARKS = (
    (b"#cloud-config-archive", ARCHIVE),
    (b"#cloud-config-jsonp", _PATCH),
    (b"#cloud-config", CONFIG),
    (b"#cloud-boothook", BOOTHOOK),
    (b"#include-once", _INCLUDE_ONCE),
    (b"#include", _INCLUDE),
    (b"#part-handler", _HANDLER),
    (b"#upstart-job", _UPSTART),
    (b"#!", SCRIPT),
)
#: Types with which only the first line shows what the content is; types of content in gzip.
BY_CONTENT = ("", "text/plain", "text/x-not-multipart", "application/octet-stream")
COMPRESSED = re.compile(r"application/(?:x-)?(?:g(?:un)?zip(?:ped|-compressed)?|compress(?:ed)?)")
#: For each type of program, how often it runs, and its kind (merge.KINDS).
PROGRAMS = {
    "text/x-shellscript-per-once": (PER_ONCE, "per-once"),
    "text/x-shellscript-per-boot": (PER_BOOT, "per-boot"),
    "text/x-shellscript-per-instance": (PER_INSTANCE, "per-instance"),
    SCRIPT: (PER_INSTANCE, "script"),
}
_FETCHED = "no network is used for user data: left out", "deliver its content itself"
_INSTEAD = "deliver a script or #cloud-config instead"
#: Types of cloud-init that are not handled: message and hint of the error.
REFUSED = {
    _INCLUDE: (f"#include: {_FETCHED[0]}", _FETCHED[1]),
    _INCLUDE_ONCE: (f"#include-once: {_FETCHED[0]}", _FETCHED[1]),
    _PATCH: ("a JSON patch of cloud-config: not supported, left out", "deliver it as #cloud-config"),
    _HANDLER: ("a part handler: not supported, left out", _INSTEAD),
    _UPSTART: ("a job for Upstart: not supported, left out", _INSTEAD),
}
_WHITE, _BOM = WHITE.encode(), b"\xef\xbb\xbf"


def begun(content: bytes) -> bytes:
    """Return the content from its first character on: without a byte order mark, and blanks around that."""
    return content.lstrip(_WHITE).removeprefix(_BOM).lstrip(_WHITE)


def mark(content: bytes) -> str:
    """Return the type that the first line shows, "" if it shows none."""
    if template.HEAD.match(content[:4096]):
        return TEMPLATE
    start = content[:32].lower()
    if kind := next((kind for first, kind in _MARKS if start.startswith(first)), ""):
        return kind
    return MESSAGE if mime.is_message(content[:4096]) else ""
