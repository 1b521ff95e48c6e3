"""Convert the records that version 0.1 wrote in this boot, before the package was upgraded.

It had five files in /run/gandi: ``disks.json``, ``begun.json`` (about to be mounted) and ``gone.json`` hold
records by device, or by "device diskseq"; ``pending.json`` the process that mounts, by device number;
``once.json`` what was tried, by a word and the device, and the diskseq at coldplug.
"""

from __future__ import annotations

from agent.block import storage
from agent.lib.canonical_json import parsed_object
from agent.lib.text import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent.host.host import Host

    Facts = dict[str, Any]

#: The present names of the fields that had others.
_RENAMED = {"sequence": "diskseq", "number": "devno", "at": "mountpoint"}
#: In the order of their removal.
FILES = ("pending.json", "begun.json", "gone.json", "once.json", "disks.json")


def coldplug(host: Host, folder: str) -> str:
    """Return the highest diskseq at the start of the mount stage, or "" if it is unknown."""
    return str(_read(host, folder, "once.json").get("coldplug", ""))


def records(host: Host, folder: str) -> dict[str, Facts]:
    """Return the fields of each record by its present key. A damaged file counts as an empty one."""
    found: dict[str, Facts] = {}
    processes = _read(host, folder, "pending.json")
    for name, facts in _converted(host, folder, "begun.json"):
        process = processes.get(facts["devno"], {})
        state = {"state": "mounting", "pid": process.get("pid", 0), "started": process.get("started", 0)}
        found[name] = facts | state
    found |= dict(_converted(host, folder, "disks.json"))
    for name, facts in _converted(host, folder, "gone.json"):
        found[name.replace(" ", "@")] = facts | {"state": "removed"}
    _add_tried(host, found, _read(host, folder, "once.json"))
    return found


def _converted(host: Host, folder: str, file: str) -> list[tuple[str, Facts]]:
    found: list[tuple[str, Facts]] = []
    try:
        for name, older in _read(host, folder, file).items():
            facts = {_RENAMED.get(key, key): value for key, value in older.items()}
            kind = facts.pop("kind")
            found.append((name, facts | {"state": "announced" if kind == "told" else kind}))
    except (KeyError, TypeError, AttributeError):
        return []
    return found


def _add_tried(host: Host, found: dict[str, Facts], tried: Facts) -> None:
    """Add what was tried: ``look`` (a whole disk was handled) and ``fsck``, with the diskseq, and ``grow``,
    with the diskseq and a size in bytes.
    """
    for what, value in tried.items():
        word, _, name = what.partition(" ")
        diskseq, _, size = str(value).partition(" ")
        if devno := storage.devno_of(host, name):
            new = {
                "disk": storage.whole_disk(host, name),
                "diskseq": diskseq,
                "devno": devno,
                "state": "new",
            }
            facts = found.setdefault(name, new | {"uuid": "", "label": "", "services": []})
            if facts["diskseq"] == diskseq:
                facts |= {"checked": True} if word == "fsck" else {}
                facts |= {"not_grown": number(size)} if number(size) else {}


def _read(host: Host, folder: str, file: str) -> Facts:
    return parsed_object(host.read(f"{folder}/{file}") or "") or {}
