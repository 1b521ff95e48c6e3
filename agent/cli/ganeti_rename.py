"""``ganeti rename``: give an instance that has booted the name and addresses that Ganeti has for it now.

The document of the new variables is applied as at a creation: what has changed in it is applied, and the
rest stays as it is. The machine is the same one: its machine-id stays, and its SSH host keys unless the
parameter hostkeys says renew. With another UUID it is another one, made from a backup of the former, which
may still run: it loses both.
"""

from __future__ import annotations

import json
import os
import re
from functools import partial

from agent.cli import apply
from agent.context import context
from agent.host import trees
from agent.image import delivery, ganeti
from agent.image.ganeti_variables import Variables
from agent.lib.canonical_json import parsed_object
from agent.reader.common import fields
from agent.report import changed, kept, skipped, unchanged
from agent.stages import Stage
from agent.steps import hostkeys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from agent.config.model import Identity
    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item, StepReport

_ETC = "/etc"
#: The source of a native document (agent/reader/dialects/native.py, which the parser child alone imports).
_SOURCE = "native"
#: Bounds of the search for the old name: files, bytes of each, and files that are named.
_FILES, _SIZE, _NAMED = 10000, 1 << 20, 20


def steps(ctx: Context, environment: Mapping[str, str], document: bytes) -> Iterator[StepReport]:
    """Apply the operator's document, or if it is empty that of the variables, and yield each step's report.

    Raise ConfigError for a variable that is missing or wrong, before anything is changed.
    """
    variables = Variables(environment)
    old = variables.required("OLD_INSTANCE_NAME", fields.hostname)
    new = variables.required("INSTANCE_NAME", fields.hostname)
    renew = variables.parameter("hostkeys") == "renew"
    before = ctx.state.identity()
    former = ctx.state.folder() if before is not None else ""
    data = document or json.dumps(_document(ctx, environment)).encode()
    if before is not None and (as_former := _with_id(data, before)):
        # First as the former machine, which has the record of its items: what is no longer delivered goes.
        yield from _applied(ctx, as_former, lambda: iter(()))
        ctx = context(ctx.host)
    yield from _applied(ctx, data, lambda: _identity(ctx, before, former, (old, new), renew=renew))


def _applied(ctx: Context, data: bytes, identity: Callable[[], Iterator[Item]]) -> Iterator[StepReport]:
    read = partial(delivery.document, data)
    return apply.steps(ctx, delivery.STDIN, tuple(Stage), read=read, identity=identity)


def _with_id(data: bytes, before: Identity) -> bytes:
    """Return a native document with the id of the former instance, b"" if it has that or is not usable."""
    found = parsed_object(data)  # None: the reader says why, with its place
    if found is None or before.source != _SOURCE or found.get("id") == before.id:
        return b""
    return json.dumps(found | {"id": before.id}).encode()


def _document(ctx: Context, environment: Mapping[str, str]) -> dict[str, object]:
    """Return the document of the variables. An instance without a UUID of Ganeti's keeps the id that it has:
    with its new name as id it would count as another one.
    """
    made, identity = ganeti.document(environment), ctx.state.identity()
    if not environment.get("INSTANCE_UUID") and identity is not None:
        made["id"] = identity.id
    return made


def _identity(
    ctx: Context, before: Identity | None, former: str, names: tuple[str, str], *, renew: bool
) -> Iterator[Item]:
    host, (old, new) = ctx.host, names
    if before is not None and ctx.state.identity() != before:
        trees.remove(host, former)
        yield from apply.remove_host_identity(host, ctx.config)
    elif renew:
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
