"""Documents of the formats that the agent reads, one for each thing that a document can say.

Each file ``KIND/FORMAT.yaml`` is a dictionary: the name of a document, and its text. The text is delivered
as the format is: a network document as NoCloud's ``network-config``, interfaces(5) as the file that a
config drive's ``meta_data.json`` names, ``network_data`` (written as YAML here) as JSON on a config drive,
user data as NoCloud's ``user-data``. In ``drives.yaml`` a document is a whole drive: its files by name.
What cannot be written as text is made in ``tests/corpus/made.py``.

``FORMAT.golden`` beside it has what the reader makes of each, written by
``tests/unit/reader/test_corpus.py``. To add a document, add it to the file, and make the golden file again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from agent.lib.records import dataclass
from tests.corpus import made

FOLDER = Path(__file__).parent
META_DATA = b"instance-id: i-1\n"
Drive = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Document:
    """One document. ``place`` is the name of its file on the drive, "" for a whole drive."""

    group: str
    name: str
    place: str
    files: Drive

    @property
    def dialect(self) -> str:
        """Return the dialect of its drive."""
        folder = next(iter(sorted(self.files))).partition("/")[0]
        return folder if folder in ("cloudstack", "openstack") else "nocloud"

    def with_text(self, text: bytes) -> Drive:
        """Return the drive with another text of the document."""
        return self.files | {self.place: text}


def documents() -> list[Document]:
    """Return all documents."""
    found = [_document(path, *one) for path in sorted(FOLDER.glob("*/*.yaml")) for one in _texts(path)]
    return found + [
        Document("userdata/made", name, "user-data", {"meta-data": META_DATA, "user-data": content})
        for name, content in made.USER_DATA.items()
    ]


def _texts(path: Path) -> list[tuple[str, Any]]:
    return list(yaml.safe_load(path.read_bytes()).items())


def _document(path: Path, name: str, given: Any) -> Document:
    group = f"{path.parent.name}/{path.stem}"
    if isinstance(given, dict) and path.stem == "drives":
        return Document(group, name, "", {file: _bytes(content) for file, content in given.items()})
    place, drive = _drive(group)
    return Document(group, name, place, drive | {place: _bytes(given)})


def _drive(group: str) -> tuple[str, Drive]:
    """Return the place of a format's documents, and the rest of the drive."""
    folder = "openstack/latest"
    meta: dict[str, Any] = {"uuid": "i-1"}
    match group:
        case "network/interfaces":
            meta["network_config"] = {"name": "network_config", "content_path": "/content/0000"}
            return "openstack/content/0000", {f"{folder}/meta_data.json": _bytes(meta)}
        case "network/network_data":
            return f"{folder}/network_data.json", {f"{folder}/meta_data.json": _bytes(meta)}
    place = "network-config" if group.startswith("network/") else "user-data"
    return place, {"meta-data": META_DATA}


def _bytes(given: Any) -> bytes:
    return given.encode() if isinstance(given, str) else json.dumps(given).encode()
