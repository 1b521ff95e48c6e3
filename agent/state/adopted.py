"""An adopted machine: one that was set up before the agent was installed. What it has is kept.

    adopted.json    the instance, the digest of its first document and the boot it came in, the MACs of the
                    NICs that were there, and the marks that were requested

Until the platform delivers a document, such a machine is identified by its UUID. The first document sets the
identity and is stored, but none of its items is applied, and what runs once per instance counts as done.
What the platform changes afterwards is applied as on any machine.
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

#: Recorded as the live value of an adopted machine's item; no real value is equal to it.
BEFORE_US = "\0before us"
#: The source of an instance without a document.
SOURCE = "adopted"
FILE = f"{json_file.FOLDER}/adopted.json"
_BOOT = "/proc/sys/kernel/random/boot_id"
#: Kinds of items (the name up to the colon) that a platform delivers; all others are the agent's own.
_DELIVERED = frozenset(
    {
        *("user", "account", "groups", "group", "sshd", "shell", "password", "lock", "sudo", "key", "file"),
        *("hostname", "hosts", "mailname", "nic", "dhcp", "nic parameters", "resolvers", "timezone"),
        *("locale", "keyboard", "ntp", "ca certificates", "apt", "apt mirror", "mount", "swap file"),
    }
)
#: Kinds of items that repair the administrator's files; none is applied on an adopted machine.
_REPAIRS = frozenset({"localhost", "fstab", "cron"})
#: The kind that the platform can deliver without a new document (a password reset): it is applied when it
#: first comes in a later boot than the document.
_RESET = "password"


def record_adoption(host: Host, identity: Identity, nics: Iterable[str]) -> None:
    """Record that this machine is adopted, with the MACs of its NICs."""
    json_file.store(
        host, FILE, {"instance": asdict(identity), "nics": sorted(nics), "document": "", "done": []}
    )


def record_first_document(host: Host, config: InstanceConfig) -> None:
    """Record the first document of an adopted machine, before the machine becomes its instance."""
    from agent.config.model import dump

    found = json_file.load(host, FILE) or {}
    said = {"document": json_file.digest(dump(config)), "boot": host.read(_BOOT) or "", "done": list[str]()}
    json_file.store(host, FILE, found | {"instance": asdict(config.identity)} | said)


def nic_macs(host: Host) -> frozenset[str]:
    """Return the MACs of the NICs that an adopted machine had; none on any other machine."""
    return frozenset((_file(host) or {}).get("nics", ()))


def is_kept(host: Host, identity: Identity | None, folder: str, item: str) -> bool:
    """Return whether an item that was never applied to the instance stays as it is."""
    kind = item.partition(":")[0]
    if kind in _REPAIRS:
        return _record(host, identity) is not None
    if kind not in _DELIVERED or (found := _in_force(host, identity, folder)) is None:
        return False
    return kind != _RESET or found.get("boot") == (host.read(_BOOT) or "")


def has_first_document_only(host: Host, identity: Identity | None, folder: str) -> bool:
    """Return whether the machine is adopted and the platform has delivered at most its first document."""
    return _in_force(host, identity, folder) is not None


def counts_as_done(host: Host, identity: Identity | None, folder: str, mark: str) -> bool:
    """Return whether a program or step that runs once counts as done although it has no mark.

    That is so for the first request only, which is recorded: when the operator removes the mark to have it
    run again, it runs.
    """
    found = _in_force(host, identity, folder)
    if found is None or mark in found["done"]:
        return False
    json_file.store(host, FILE, found | {"done": [*found["done"], mark]})
    return True


def _file(host: Host) -> dict[str, Any] | None:
    """Return the record of any instance. Raise as ``json_file.load``."""
    found = json_file.load(host, FILE)
    lists = [found.get(name, []) for name in ("nics", "done")] if found else []
    if not all(isinstance(one, list) and all(isinstance(of, str) for of in one) for one in lists):
        raise json_file.Damaged(f"{FILE}: damaged: nics or done", hint="remove it to start afresh")
    return found


def _record(host: Host, identity: Identity | None) -> dict[str, Any] | None:
    """Return the record of an adopted instance, None for any other."""
    found = _file(host)
    return found if found and identity is not None and found.get("instance") == asdict(identity) else None


def _in_force(host: Host, identity: Identity | None, folder: str) -> dict[str, Any] | None:
    """Return the record while the instance is adopted and has at most its first document, else None."""
    found = _record(host, identity)
    if found is None:
        return None
    document = host.read_bytes(f"{folder}/config.json")
    return found if (json_file.digest(document) if document else "") == found.get("document") else None
