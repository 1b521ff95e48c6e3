"""User data that cannot be written as text: compressed, in other encodings, damaged."""

from __future__ import annotations

import base64
import gzip
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

_CONFIG = b"#cloud-config\nhostname: vm7\n"
_SCRIPT = b"#!/bin/sh\necho corpus\n"


def _gzip(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def _message(*parts: MIMEText | MIMEApplication) -> bytes:
    message = MIMEMultipart(boundary="==corpus==")
    for part in parts:
        message.attach(part)
    return message.as_bytes()


def _packed(content: bytes, kind: str) -> MIMEApplication:
    return MIMEApplication(content, kind)


USER_DATA = {
    "gzip-of-cloud-config": _gzip(_CONFIG),
    "gzip-of-a-script": _gzip(_SCRIPT),
    "gzip-of-mime": _gzip(_message(MIMEText(_CONFIG.decode(), "cloud-config"))),
    "gzip-of-gzip": _gzip(_gzip(_CONFIG)),
    "gzip-cut-short": _gzip(_CONFIG * 20)[:-12],
    "gzip-of-nothing": _gzip(b""),
    "gzip-of-an-archive": _gzip(
        b"#cloud-config-archive\n- type: text/cloud-config\n  content: 'hostname: vm7'\n"
    ),
    "gzip-of-a-template": _gzip(
        b"## template: jinja\n#cloud-config\nhostname: {{ ds.meta_data.instance_id }}\n"
    ),
    "gzip-in-base64": base64.encodebytes(_gzip(_CONFIG)),
    "cloud-config-in-base64": base64.b64encode(_CONFIG),
    "mime-with-gzip-by-type": _message(_packed(_gzip(_CONFIG), "gzip")),
    "mime-with-x-gzip": _message(_packed(_gzip(_SCRIPT), "x-gzip")),
    "mime-with-gzip-as-octets": _message(_packed(_gzip(_CONFIG), "octet-stream")),
    "mime-with-gzip-of-each": _message(_packed(_gzip(_CONFIG), "gzip"), _packed(_gzip(_SCRIPT), "gzip")),
    "bom-utf-8": b"\xef\xbb\xbf" + _CONFIG,
    "bom-before-a-script": b"\xef\xbb\xbf" + _SCRIPT,
    "utf-16": _CONFIG.decode().encode("utf-16"),
    "crlf-cloud-config": _CONFIG.replace(b"\n", b"\r\n"),
    "crlf-script": _SCRIPT.replace(b"\n", b"\r\n"),
    "crlf-mime": _message(MIMEText(_SCRIPT.decode(), "x-shellscript")).replace(b"\n", b"\r\n"),
    "cr-only": _CONFIG.replace(b"\n", b"\r"),
    "latin-1-in-a-comment": b"#cloud-config\n# caf\xe9\nhostname: vm7\n",
    "latin-1-in-a-value": b"#cloud-config\nhostname: vm7\nusers:\n- name: jo\n  gecos: Jos\xe9\n",
    "latin-1-in-a-script": b"#!/bin/sh\necho caf\xe9\n",
    "an-elf-program": b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x3e\x00",
    "zeros": bytes(64),
    "a-nul-in-cloud-config": b"#cloud-config\nhostname: vm7\ntimezone: Etc/UTC\0\n",
}
