"""``ganeti rename``: give an instance that has booted the name and addresses that Ganeti has for it now.

The document of the new variables is applied as at a creation: what has changed in it is applied, and the
rest stays as it is. The machine is the same one: its machine-id stays, and its SSH host keys unless the
parameter hostkeys says renew.
"""

from __future__ import annotations

import json
import os
import re

from agent.cli import apply
from agent.image import delivery, ganeti
from agent.image.ganeti_variables import Variables
from agent.reader.common import fields
from agent.report import changed, kept, skipped, unchanged
from agent.stages import Stage
from agent.steps import hostkeys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item, StepReport

_ETC = "/etc"
#: Bounds of the search for the old name: files, bytes of each, and files that are named.
_FILES, _SIZE, _NAMED = 10000, 1 << 20, 20


def steps(ctx: Context, environment: Mapping[str, str], document: bytes) -> Iterator[StepReport]:
    """Apply the operator's document, or if it is empty that of the variables, and yield each step's report.

    Raise ConfigError for a variable that is missing or wrong, before anything is changed.
    """
    variables = Variables(environment)
    old = variables.required("OLD_INSTANCE_NAME", fields.hostname)
    new = variables.required("INSTANCE_NAME", fields.hostname)
    for error in variables.wrong_parameters():
        raise error
    renew = variables.parameter("hostkeys") == "renew"
    data = document or json.dumps(_document(ctx, environment)).encode()
    yield from apply.steps(
        ctx,
        delivery.STDIN,
        tuple(Stage),
        read=lambda: delivery.document(data),
        identity=lambda: _identity(ctx, old, new, renew=renew),
    )


def _document(ctx: Context, environment: Mapping[str, str]) -> dict[str, object]:
    """Return the document of the variables. An instance without a UUID of Ganeti's keeps the id that it has:
    with its new name as id it would count as another one.
    """
    made, identity = ganeti.document(environment), ctx.state.identity()
    if not environment.get("INSTANCE_UUID") and identity is not None:
        made["id"] = identity.id
    return made


def _identity(ctx: Context, old: str, new: str, *, renew: bool) -> Iterator[Item]:
    host = ctx.host
    if renew:
        yield apply.renew_host_keys(host, ctx.config)
    else:
        renamed = [name for name in hostkeys.keys(host) if _rename_comment(host, name, old, new)]
        yield kept("host keys", "OSP_HOSTKEYS=keep")
        if renamed:
            yield changed("comments of host keys", new)
    left = list(_with_name(host, old)) if old.lower() != new.lower() else []
    for name in left[:_NAMED]:
        yield skipped(
            name, f"still has the name {old}: the agent did not write it; change it in the instance"
        )
    if len(left) > _NAMED:
        yield skipped(_ETC, f"{len(left) - _NAMED} more files still have the name {old}")
    if not left:
        yield unchanged(_ETC, f"no file has the name {old}")


def _rename_comment(host: Host, name: str, old: str, new: str) -> bool:
    """Replace the old name in the comment that ssh-keygen(1) has put into a public key; return whether it
    was there.
    """
    path = f"{hostkeys.FOLDER}/{name}"
    there = host.read_file(path) if name.endswith(".pub") else None
    if there is None:
        return False
    found = re.fullmatch(rb"([^ ]+ [^ ]+ root@)" + re.escape(old.encode()) + rb"\n?", there.content)
    if found is None:
        return False
    host.write(path, found[1] + f"{new}\n".encode(), mode=there.mode, owner=there.owner)
    return True


def _with_name(host: Host, old: str) -> Iterator[str]:
    """Yield the files below /etc that have the name as a whole."""
    name = re.compile(rb"(?<![a-z0-9_.-])" + re.escape(old.encode()) + rb"(?!\.?[a-z0-9_-])", re.IGNORECASE)
    root = host.path(_ETC)
    seen = 0
    for folder, folders, files in os.walk(root):
        folders.sort()
        for file in sorted(files):
            path = f"{_ETC}{folder.removeprefix(root)}/{file}"
            if os.path.islink(f"{folder}/{file}") or not os.path.isfile(f"{folder}/{file}"):
                continue
            seen += 1
            if seen > _FILES:
                return
            if name.search(host.read_bytes(path, limit=_SIZE) or b""):
                yield path
