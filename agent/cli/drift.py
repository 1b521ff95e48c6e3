"""``gandi-agent status --drift``: each item that is no longer as the agent left it. It changes nothing."""

from __future__ import annotations

import time

from agent.cli import comparison, document_places, running_system, status, status_text
from agent.context import context
from agent.host import terminal
from agent.lib.records import asdict
from agent.reporting import verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from agent.cli.comparison import Comparison, Finding
    from agent.host.host import Host

#: The exit status if an item is no longer as it was left; 1 is that of a failure.
DRIFTED = 3
#: The exit status while a stage of this boot has not ended.
_UNFINISHED = 2


def drift(host: Host, *, as_json: bool) -> int:
    """Print the items that have changed since. Return 0 if there are none, DRIFTED if there are, 1 if there
    are none but some could not be read, and 2, without a comparison, while the boot's stages have not ended.
    """
    facts = status.gather_facts(context(host))
    if verdict.exit_status(facts) == _UNFINISHED:
        terminal.print_error("gandi-agent: not compared: the stages of this boot have not ended")
        terminal.print_error(*(f"  {line}" for line in status_text.unfinished(facts)))
        return _UNFINISHED
    compared = gather(host)
    changed = comparison.changes(compared.findings)
    if as_json:
        terminal.print_json(document(compared), sort_keys=True)
    else:
        terminal.print_lines(*text(compared))
    return DRIFTED if changed else int(compared.has_failed)


def gather(host: Host) -> Comparison:
    """Return the items of the steps, and what is in force of them."""
    compared = comparison.compare(host)
    compared.findings.extend(list(running_system.findings(compared)))
    return compared


def text(compared: Comparison) -> Iterator[str]:
    """Yield the lines for people."""
    changed = comparison.changes(compared.findings)
    number = len(compared.findings)
    items = f"{number} item{'' if number == 1 else 's'} compared"
    if changed:
        left = "it" if len(changed) == 1 else "them"
        yield f"{len(changed)} of {items}: no longer as the agent left {left}"
    else:
        yield f"{items}: each as the agent left it"
    for one in changed:
        yield f"  {one.name}: {one.change}{_about(compared, one)}"
    for name, why in compared.left_out.items():
        yield f"  not compared: {name}: {why}"


def _about(compared: Comparison, one: Finding) -> str:
    where = [", ".join(one.files)] if one.files else []
    where += [f"document: {', '.join(paths)}"] if (paths := places(compared, one)) else []
    where += [f"applied {when(one.applied)}"] if one.applied else []
    return f" ({'; '.join(where)})" if where else ""


def places(compared: Comparison, one: Finding) -> tuple[str, ...]:
    """Return the paths of the item's values in the document."""
    ctx = compared.ctx
    return document_places.places(ctx.config, one.name, ctx.settings.default_user)


def when(seconds: float) -> str:
    """Return a time for people, in this machine's timezone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def record(compared: Comparison, one: Finding) -> dict[str, Any]:
    """Return an item for JSON."""
    return asdict(one) | {"document": places(compared, one)}


def document(compared: Comparison) -> dict[str, Any]:
    """Return what --json prints."""
    return {
        "compared": sorted(one.name for one in compared.findings),
        "drift": [record(compared, one) for one in comparison.changes(compared.findings)],
        "not_compared": [{"name": name, "why": why} for name, why in compared.left_out.items()],
    }
