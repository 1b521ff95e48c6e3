"""The verbs ``plan`` and ``config show``: what would be done, and the settings and document in force."""

from __future__ import annotations

import os
import re

from agent import stages
from agent.cli.status_text import problem
from agent.config.settings import Settings, variable
from agent.context import context
from agent.host import terminal
from agent.host.host import Host
from agent.lib.records import asdict, fields
from agent.lib.text import lines
from agent.report import Outcome
from agent.state import store

#: The beginning of an item's detail that files do not show (plan_image.py).
KNOWN_AT_BOOT = "known at the boot"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from agent.config.model import InstanceConfig
    from agent.context import Context
    from agent.report import Item, StepReport


def plan(host: Host, chosen: Sequence[stages.Stage]) -> int:
    """Print what the stages would do now, and change nothing; return 1 if a step would fail."""
    worst, ctx = 0, context(Host(host.root, dry_run=True, debug=host.debug))
    for stage in chosen:
        terminal.print_lines(f"{stage}:" if stages.STAGES[stage] else f"{stage}: {stages.NO_STEPS}")
        for report, effects in stages.plan(ctx, stage):
            worst |= print_step(report, effects)
    return worst


def print_step(report: StepReport, effects: Iterable[str]) -> int:
    """Print what a step would do, and by which effects; return 1 if it would fail, else 0."""
    terminal.print_lines(f"  {report.step}: {planned_outcome(report.outcome)}")
    terminal.print_lines(*(f"    {item.name}: {_planned(item)}" for item in report.items))
    terminal.print_lines(*(f"      {doing}" for doing in effects if not _is_bookkeeping(doing)))
    return int(report.outcome is Outcome.FAILED)


def _planned(item: Item) -> str:
    if item.detail.startswith(KNOWN_AT_BOOT):
        return item.detail
    return planned_outcome(item.outcome) + (f": {item.detail}" if item.detail else "")


def planned_outcome(outcome: Outcome) -> str:
    """Return an outcome in the words of a plan."""
    words = {Outcome.CHANGED: "would change", Outcome.FAILED: "would fail"}
    return words.get(outcome, str(outcome))


def _is_bookkeeping(effect: str) -> bool:
    """Return whether an effect only records another one."""
    return f" {store.FOLDER}/instances/" in effect and "/applied.json " in effect


def config_show(host: Host, *, as_json: bool, as_sh: bool = False) -> int:
    """Print the settings with their origins and, for root, the document without secrets; with ``as_sh`` the
    settings alone, for a shell. Return 0.
    """
    ctx = context(host)
    if as_sh:
        from agent.config import settings_text

        terminal.print_bytes(settings_text.shell_text(ctx.settings_file).encode("utf-8", "surrogateescape"))
        return 0
    found = effective_settings(ctx)
    if as_json:
        terminal.print_json(found, sort_keys=True)
        return 0
    terminal.print_lines(*config_lines(ctx, found))
    return 0


def config_lines(ctx: Context, found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of ``config show`` for the result of ``effective_settings``."""
    for name, entry in found["settings"].items():
        yield f"{name}={entry['value']}  ({entry['origin']})"
    yield from (problem(ctx.settings_file.name, one) for one in found["problems"])
    yield ""
    if found["document"] is None:
        yield "document: shown to root only" if os.geteuid() else "document: none yet"
    else:
        yield "document:"
        yield from _outline(found["document"], "  ")


def effective_settings(ctx: Context) -> dict[str, Any]:
    """Return what --json prints: the settings, their problems, and the document.

    The document is None if there is none yet, or for users other than root.
    """
    settings, document = settings_with_origins(ctx), _document(ctx)
    problems = [asdict(problem) for problem in ctx.settings_file.problems]
    return {"settings": settings, "problems": problems, "document": document}


def _outline(value: Any, indent: str) -> Iterator[str]:
    """Yield the lines of a part of the document: each name with its value, or its content indented below."""
    is_list = not isinstance(value, dict)
    for name, part in (("-", part) for part in value) if is_list else value.items():
        head = f"{indent}{name}" if is_list else f"{indent}{name}:"
        if isinstance(part, dict | list | tuple) and part:
            yield head
            yield from _outline(part, f"{indent}  ")
        elif isinstance(part, bool):
            yield f"{head} {'yes' if part else 'no'}"
        else:
            yield f"{head} {'none' if part in (None, '', [], ()) else part}"


def settings_with_origins(ctx: Context) -> dict[str, dict[str, str]]:
    """Return each variable's value as spelled in the file, and its origin: ``default`` or file:line."""
    now = ctx.settings
    written = lines(ctx.host.read(ctx.settings_file.name) or "")
    bad = {problem.line for problem in ctx.settings_file.problems}
    found = {}
    for name in sorted((field.name for field in fields(Settings)), key=variable):
        pattern = re.compile(rf"[ \t\r]*(?:export[ \t]+)?{variable(name)}=")
        where = [n for n, line in enumerate(written, 1) if n not in bad and pattern.match(line)]
        origin = f"{ctx.settings_file.name}:{where[-1]}" if where else "default"
        value = getattr(now, name)
        if name == "report_url" and value:
            value = "(set)"  # it may hold a token
        found[variable(name)] = {"value": _setting_text(value), "origin": origin}
    return found


def _setting_text(value: object) -> str:
    if isinstance(value, bool):
        return str(int(value))
    text = " ".join(value) if isinstance(value, tuple) else str(value)
    return f'"{text}"' if " " in text or not text else text


def _document(ctx: Context) -> dict[str, Any] | None:
    if os.geteuid():
        return None
    config = ctx.state.config()
    return redacted(config) if config else None


def redacted(config: InstanceConfig) -> dict[str, Any]:
    """Return the document without passwords, programs, contents of files and values of metadata: only that
    there are some. (``get`` prints metadata to the machine's users; this also goes into fault reports.)
    """
    document = asdict(config)
    for user in document["users"]:
        user["password"] = "(set)" if user.pop("sealed") or user["password"] else None
    for kind in ("scripts", "boot"):
        document[kind] = [{"name": script["name"]} for script in document[kind]]
    for file in document["files"]:
        del file["digest"]
        if not file["sealed"]:
            del file["sealed"]
    document["metadata"] = {name: "(set)" for name, _ in document["metadata"]}
    if document["system"] is None:
        del document["system"]
    else:
        _redact_system(document["system"])
    return document


def _redact_system(system: dict[str, Any]) -> None:
    """Remove what may hold a password: URLs, settings of apt, options of mounts, a command."""
    for mount in system["mounts"]:
        mount["options"] = "(set)"
    if apt := system["apt"]:
        apt["conf"] = "(set)" if apt["conf"] else ""
        apt["sources"] = [{"name": source["name"]} for source in apt["sources"]]
        for kind in ("proxies", "mirrors"):
            apt[kind] = {name: "(set)" for name, _ in apt[kind]}
        if not apt["archive"]:
            del apt["archive"]
    if system["power"] and system["power"]["condition"]:
        system["power"]["condition"] = "(set)"
    if system["phone_home"]:
        system["phone_home"]["url"] = "(set)"
    for name, part in list(system.items()):
        if part in (None, "", ()):
            del system[name]
