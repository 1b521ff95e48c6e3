"""A machine that was set up before the agent came to it: what it has stays.

    adopted.json    for which instance that holds, the first document that it was delivered, the NICs that
                    were there, and the marks of what counts as done

Such a machine is known by its UUID alone until the platform delivers a document. The first one tells its
identity and is stored; of its items none is applied, and what runs once per instance counts as done. What
the platform changes afterwards is applied as on any machine.
"""

from __future__ import annotations

from agent.lib.records import asdict
from agent.state import json_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from agent.config.model import Identity, InstanceConfig
    from agent.host.host import Host

#: The source of an instance that no document has named yet.
SOURCE = "adopted"
FILE = f"{json_file.FOLDER}/adopted.json"
_BOOT = "/proc/sys/kernel/random/boot_id"
#: Kinds of items (the word before the colon) that a platform delivers; the others are the agent's own.
_DELIVERED = frozenset(
    {
        *("user", "group", "shell", "password", "lock", "sudo", "key", "file"),
        *("hostname", "hosts", "mailname", "nic", "dhcp", "nic parameters", "resolvers", "timezone"),
    }
)
#: Repairs of the administrator's own files, of which none is made on such a machine.
_REPAIRS = frozenset({"localhost", "fstab", "cron"})
#: What a reset on the platform's side delivers although the document is the same: first seen in a later boot
#: than the document, it is new.
_RESET = "password"


def begin(host: Host, identity: Identity, nics: Iterable[str]) -> None:
    """Remember that this machine was there before us, with these NICs (MACs)."""
    json_file.store(
        host, FILE, {"instance": asdict(identity), "nics": sorted(nics), "document": "", "done": []}
    )


def take(host: Host, config: InstanceConfig) -> None:
    """Remember the first document of such a machine, before it becomes the instance that this names."""
    from agent.config.model import dump

    found = json_file.load(host, FILE) or {}
    said = {"document": json_file.digest(dump(config)), "boot": host.read(_BOOT) or "", "done": list[str]()}
    json_file.store(host, FILE, found | {"instance": asdict(config.identity)} | said)


def nics(host: Host) -> frozenset[str]:
    """The MACs of the NICs that were configured, or left alone, by whoever set the machine up."""
    return frozenset((json_file.load(host, FILE) or {}).get("nics", ()))


def keeps(host: Host, identity: Identity | None, folder: str, item: str) -> bool:
    """Whether an item that was never applied to the instance stays as it was before us."""
    kind = item.partition(":")[0]
    if kind in _REPAIRS:
        return _record(host, identity) is not None
    if kind not in _DELIVERED or (found := _in_force(host, identity, folder)) is None:
        return False
    return kind != _RESET or found.get("boot") == (host.read(_BOOT) or "")


def untouched(host: Host, identity: Identity | None, folder: str) -> bool:
    """Whether nothing has changed on the platform's side since the machine was adopted."""
    return _in_force(host, identity, folder) is not None


def counts_as_done(host: Host, identity: Identity | None, folder: str, mark: str) -> bool:
    """Whether a thing that runs once, and was never asked for before, counts as done; it is remembered that
    it was asked for, so that an operator who has it run again (and removes its mark) is obeyed.
    """
    found = _in_force(host, identity, folder)
    if found is None or mark in found["done"]:
        return False
    json_file.store(host, FILE, found | {"done": [*found["done"], mark]})
    return True


def _record(host: Host, identity: Identity | None) -> dict[str, Any] | None:
    """What is known of the instance from before us, None where it was not adopted."""
    found = json_file.load(host, FILE)
    return found if found and identity is not None and found.get("instance") == asdict(identity) else None


def _in_force(host: Host, identity: Identity | None, folder: str) -> dict[str, Any] | None:
    """The record, while the instance is the one that was adopted, and its document the first."""
    found = _record(host, identity)
    if found is None:
        return None
    document = host.read_bytes(f"{folder}/config.json")
    return found if (json_file.digest(document) if document else "") == found.get("document") else None
