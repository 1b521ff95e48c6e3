"""``gandi-agent why``: where one thing on this machine comes from, and whether it was changed since."""

from __future__ import annotations

import os

from agent import stages
from agent.cli import answers, drift, plan
from agent.cli.drift import when
from agent.config.settings import FIELDS, variable
from agent.context import context
from agent.host import terminal
from agent.lib.records import asdict
from agent.lib.text import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from agent.cli.comparison import Comparison, Finding
    from agent.context import Context
    from agent.disks.survey import Row
    from agent.host.host import Host

#: The exit status if nothing of the agent's has that name.
UNKNOWN = 2
_WHAT = (
    "a path, a mountpoint, an address, a NIC, a user, a group, a key's fingerprint or comment, a disk,"
    " a kernel parameter, a setting (CONFIG_...), or an item that gandi-agent status --drift --json lists"
)
#: Settings that decide on each data disk.
_OF_DISKS = ("mount_mode", "disk_root", "mount_params", "disk_only", "disk_ignore")


def is_setting(what: str) -> bool:
    """Return whether the word is the name of a setting, which every user may ask about."""
    return what.startswith(("CONFIG_", "GANDI_"))


def why(host: Host, what: str, *, as_json: bool) -> int:
    """Print what the agent knows of it. Return 0, or UNKNOWN if it is nothing of the agent's."""
    ctx = context(host)
    found = _setting(ctx, what) if is_setting(what) else _of_system(host, what)
    if not found:
        terminal.print_error(f"gandi-agent: why: {what or 'an empty word'}: {_not_known(what)}")
        return UNKNOWN
    if as_json:
        terminal.print_json({"what": what, "answers": found}, sort_keys=True)
    else:
        sources = [one["source"] for one in found if one.get("source")]
        terminal.print_lines(*_source_lines(sources), *(line for one in found for line in _lines(one)))
    return 0


def _not_known(what: str) -> str:
    if is_setting(what):
        near = nearest(what, FIELDS)
        return f"no such setting{f'; did you mean {near}?' if near else ''}; see gandi(5)"
    return f"nothing that the agent has set or knows. Ask about {_WHAT}"


# -- settings ----------------------------------------------------------------------------


def _setting(ctx: Context, what: str) -> list[dict[str, Any]]:
    if what not in FIELDS:
        return []
    ctx.settings_file.current()
    entry = plan.settings_with_origins(ctx)[what]
    name = FIELDS[what]
    steps = [step.name for every in stages.STAGES.values() for step in every if name in step.settings]
    problems = [
        f"{ctx.settings_file.name}:{problem.line}: {problem.message}"
        for problem in ctx.settings_file.problems
        if problem.message.startswith(f"{what}:")
    ]
    return [{"kind": "setting", "name": what, **entry, "steps": steps, "problems": problems}]


# -- what is on the machine --------------------------------------------------------------


def _of_system(host: Host, what: str) -> list[dict[str, Any]]:
    if not what:
        return []
    compared = drift.gather(host)
    source = _source(compared)
    found = [_item(compared, one, source) for one in answers.items(compared, what)]
    rows = answers.disks(compared, what) if host.live else []
    # A data disk that is compared is an item too; its row says more.
    names = {f"disk:{row.device}" for row in rows}
    changes = {one.name: one.change for one in compared.findings if one.name in names}
    found = [one for one in found if one["name"] not in names]
    return found + [_disk(compared.ctx, row, changes.get(f"disk:{row.device}", "")) for row in rows]


def _item(compared: Comparison, one: Finding, source: dict[str, Any]) -> dict[str, Any]:
    record = drift.record(compared, one)
    return {"kind": "item", **record, "source": source if record["document"] else None}


def _source(compared: Comparison) -> dict[str, Any]:
    """Return which source the document in force is from, when it was stored, and what this boot found."""
    ctx = compared.ctx
    identity = ctx.state.identity()
    if identity is None or ctx.config is None:
        return {}
    stored = os.stat(ctx.host.path(f"{ctx.state.folder()}/config.json")).st_mtime
    steps = ctx.status.read()["stages"].get(stages.Stage.BOOTSTRAP, {}).get("steps", ())
    items = (item for step in steps if step["step"] == "source" for item in step["items"])
    found = next((item.get("detail", "") for item in items if item["name"] == "source"), "")
    return {"name": identity.source, "id": identity.id, "stored": int(stored), "this_boot": found}


def _disk(ctx: Context, row: Row, change: str) -> dict[str, Any]:
    entry = ctx.status.read()["devices"].get(row.device, {})
    settings = plan.settings_with_origins(ctx)
    used = {variable(name): settings[variable(name)] for name in _OF_DISKS}
    return {
        "kind": "disk",
        **asdict(row),
        "change": change,
        "handled": entry.get("ended"),
        "action": entry.get("action", ""),
        "settings": used,
    }


# -- for people --------------------------------------------------------------------------


def _source_lines(sources: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the source of the document, once for all items."""
    for source in sources[:1]:
        yield f"source: {source['name']} {source['id']}, stored {when(source['stored'])}"
        if source["this_boot"]:
            yield f"  in this boot: {source['this_boot']}"


def _lines(one: dict[str, Any]) -> Iterator[str]:
    match one["kind"]:
        case "setting":
            yield f"{one['name']}={one['value']}  ({one['origin']})"
            if one["steps"]:
                yield f"  without it no step: {', '.join(one['steps'])}"
            yield from (f"  {problem}" for problem in one["problems"])
        case "disk":
            yield from _disks_lines(one)
        case _:
            yield from _items_lines(one)


def _items_lines(one: dict[str, Any]) -> Iterator[str]:
    about = f" ({one['detail']})" if one["detail"] and not one["change"] else ""
    state = one["change"] or one["note"] or "as the agent left it"
    yield f"{one['name']}{about}: {state}"
    if one["document"]:
        yield f"  in the document: {', '.join(one['document'])}"
    else:
        yield "  in no document: the agent itself"
    stage = f" of stage {one['stage']}" if one["stage"] else ""
    yield f"  step: {one['step']}{stage}"
    if one["settings"]:
        yield f"  by: {', '.join(one['settings'])}"
    if one["files"]:
        yield f"  in: {', '.join(one['files'])}"
    if one["applied"]:
        word = "found" if one["note"] else "applied"
        yield f"  {word}: {when(one['applied'])}"


def _disks_lines(one: dict[str, Any]) -> Iterator[str]:
    word = " at" if one["state"] == "mounted" else "; its mountpoint is"
    yield f"{one['device']}: {one['state']}{word + ' ' + one['mountpoint'] if one['mountpoint'] else ''}"
    yield f"  decision: {one['decision']}{': ' + one['reason'] if one['reason'] else ''}"
    content = " ".join(filter(None, (one["fstype"], repr(one["label"]) if one["label"] else "")))
    if content:
        yield f"  content: {content}"
    if one["handled"]:
        yield f"  handled: {when(one['handled'])}{' (' + one['action'] + ')' if one['action'] else ''}"
    for name, entry in one["settings"].items():
        yield f"  {name}={entry['value']}  ({entry['origin']})"
    if one["change"]:
        yield f"  changed since: {one['change']}"
