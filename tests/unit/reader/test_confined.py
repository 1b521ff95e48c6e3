"""The confined reader can no longer import anything, and gives the same result as its code here."""

from __future__ import annotations

import gzip
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from agent.reader import client
from agent.reader.common.problem import shown
from agent.reader.common.result import Reading
from agent.reader.dialects import cloudstack, native, nocloud, openstack
from agent.reader.formats import mime, yaml_events
from tests.unit.reader import drives

READERS: dict[str, Callable[[Mapping[str, bytes]], Reading]] = {
    "cloudstack": cloudstack.parse_files,
    "native": native.parse_files,
    "nocloud": nocloud.parse_files,
    "openstack": openstack.parse_files,
}
ENCODINGS = {
    "base64": b"IyEvYmluL3NoCg==",
    "quoted-printable": b"#!/bin/sh=0A",
    "x-uuencode": b'begin 644 x\n*(R$O8FEN+W-H"@  \n \nend\n',
    "8bit": b"#!/bin/sh\necho \xe9\n",
    "unheard-of": b"#!/bin/sh\n",
}
CONFIG, MAIL = "Content-Type: text/cloud-config", "Content-Type: message/rfc822"


def message(encoding: str, content: bytes, head: str = "Content-Type: text/x-shellscript") -> bytes:
    begun = f"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n{head}\n".encode()
    return begun + f"Content-Transfer-Encoding: {encoding}\n\n".encode() + content + b"\n--b--\n"


USER_DATA = {
    **{encoding: message(encoding, content) for encoding, content in ENCODINGS.items()},
    "header": message("7bit", b"#!/bin/sh", "Content-Type: text/plain; charset=koi8-r; name*=utf-8''%e2"),
    "encoded words": message("7bit", b"a: 1", f"Subject: =?utf-8?q?=e2?=\n{CONFIG}"),
    "broken base64": message("base64", b"x"),
    "no end": message("7bit", b"#!/bin/sh")[:-6],
    "in each other": message("7bit", message("base64", b"IyEvYmluL3NoCg=="), MAIL),
    "packed": gzip.compress(message("7bit", drives.CLOUD_CONFIG.encode(), CONFIG)),
    "cut": gzip.compress(b"#!/bin/sh\n")[:-5],
    "foreign": b"#include\nhttp://192.0.2.1/\n",
    "not YAML": b"#cloud-config\na: [\n",
    "no text": b"#cloud-config\n\xff",
    "misspelled": b"#cloud-config\nhostnme: x\ntimezone: Europe/Pari\nusers: [{name: -, passwd: x}]\n",
    "UTF-16": "#cloud-config\nhostname: vm1\n".encode("utf-16"),
    "base64 of gzip": b64encode(gzip.compress(b"#!/bin/sh\n")),
    "template": b"## template: jinja\n#!/bin/sh\necho {{ ds.meta_data.uuid }}\n",
    "not only names": b"## template: jinja\n#!/bin/sh\n{% if x %}\n",
    "archive": b"#cloud-config-archive\n- '#!/bin/sh'\n- {content: 'a: 1', merge-type: dict()}\n",
    "odd headers": message("7bit", b"a: 1", f"Launch-Index: \xe9\nMerge-Type: =?koi8-r?b?//8=?=\n{CONFIG}"),
    "a date": b"#cloud-config\nusers: [{name: a, expiredate: 2032-09-01}, {name: b, expiredate: x}]\n",
    "something": b"what an application wants to know",
}
USER = "openstack/latest/user_data"
DRIVES = {
    "cloudstack": drives.cloudstack(local_ipv4=b"02:00:00:00:00:01", vm_id=b"\xff"),
    "native": drives.native(hostname="-", nics=[{"mac": "x", "addresses": ["300.0.0.1"]}], usres=1),
    "nocloud": drives.nocloud(drives.VERSION_1) | {"meta-data": b"- a\n"},
    "openstack": drives.openstack(uuid=3, files=[{"path": "x"}], keys="none", admin_pass=["a"]),
}
CASES = [
    *((dialect, files) for dialect, files in DRIVES.items()),
    ("cloudstack", drives.cloudstack()),
    ("native", drives.native()),
    ("nocloud", drives.nocloud()),
    ("openstack", drives.openstack()),
    *(("openstack", drives.openstack() | {USER: data}) for data in USER_DATA.values()),
    *(("nocloud", drives.nocloud() | {"vendor-data": data}) for data in USER_DATA.values()),
]


@pytest.mark.parametrize(("dialect", "files"), CASES, ids=range(len(CASES)))
def test_the_same_as_here(dialect: str, files: dict[str, bytes]) -> None:
    yaml_events.load()
    here = READERS[dialect](files)
    there = client.parse_files(dialect, files)
    assert _told(there.problems) == _told(here.problems)
    assert there.config == here.config
    assert (there.files, there.secrets) == (here.files, here.secrets)


def _told(problems: Any) -> list[tuple[str, str, str, bool]]:
    return [(shown(p.path), p.message, p.hint, p.harmless) for p in problems]


def test_what_a_message_cannot_have_caused_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    def unable(_message: bytes, _name: str) -> list[bytes]:
        raise ImportError("no more files")

    monkeypatch.setattr(mime, "_split", unable)
    files = drives.openstack() | {USER: USER_DATA["8bit"]}
    with pytest.raises(ImportError):
        openstack.parse_files(files)
