"""The verdict on a boot as JSON, posted to the operator's CONFIG_REPORT_URL once in each boot."""

from __future__ import annotations

import socket

from agent.host import processes
from agent.host.machine_uuid import read_uuid
from agent.lib.errors import HostError
from agent.lib.text import WHITE
from agent.network import online
from agent.programs import posting
from agent.reporting import facts, records
from agent.stages import Stage
from agent.systemd import transient, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent.context import Context
    from agent.reporting.records import Record

UNIT = "gandi-report"
#: The request, readable by root alone, since a URL may hold a token; it also marks that it was made.
REQUEST = "/run/gandi/report.request"
#: What the program printed.
RESULT = "/run/gandi/report.result"
TRIES = 3
#: The note in the status.
NOTE = "report to CONFIG_REPORT_URL"
_LIMIT = 1024
#: Most failed items that are posted: so the request is within poster's bound, whatever their texts are.
FAILED = 100
_HINT = "see: journalctl -b -u gandi-report"


def is_due(ctx: Context) -> bool:
    """Return whether the boot has ended and its verdict was not posted."""
    if not ctx.settings.report_url or ctx.host.exists(REQUEST):
        return False
    return _end(ctx) is not None


def post(ctx: Context) -> None:
    """Wait for the network and post the verdict; note in the status how that ended. Raise HostError."""
    end = _end(ctx)
    if end is None:
        return
    host = ctx.host
    request = posting.json_request(ctx.settings.report_url, TRIES, _document(ctx, end))
    host.write(REQUEST, request, mode=0o600)
    host.remove(RESULT)
    # A daemon that is stopped during this leaves it: it is not tried again in this boot.
    ctx.status.merge("notes", NOTE, f"begun, and not known how it ended ({_HINT})")
    try:
        online.wait(host)
        transient.start(
            host,
            UNIT,
            posting.command(),
            description="Report of the boot to CONFIG_REPORT_URL",
            properties=(
                ("StandardInputFile", "s", REQUEST),
                ("StandardOutputFileToTruncate", "s", RESULT),
                ("RuntimeMaxUSec", "t", f"{posting.TIMEOUT * 1_000_000}"),
            ),
        )
        process = units.main_process(host, f"{UNIT}.service")
        if process:
            processes.wait_for_exit(process, posting.TIMEOUT)
        note = (host.read(RESULT, limit=_LIMIT) or "").strip(WHITE) or f"not sent ({_HINT})"
    except HostError as error:
        note = f"not sent: {error.message}"
    ctx.status.merge("notes", NOTE, note)


def _end(ctx: Context) -> Record | None:
    document = ctx.status.read()
    if not facts.may_have_ended(ctx, document):
        return None
    return records.of_boot(facts.after_boot(ctx, document))


def _document(ctx: Context, end: Record) -> dict[str, Any]:
    """Return what is posted: the record of the boot, the failed items, and which machine it is."""
    stages = ctx.status.read()["stages"]
    made = [one for stage in Stage if stage in stages for one in records.of_stage(stage, stages[stage])]
    identity = ctx.state.identity()
    machine = {
        "hostname": socket.gethostname(),
        "uuid": read_uuid(ctx.host),
        "instance": identity.id if identity else "",
    }
    items = [one for one in made if one["type"] == records.ITEM]
    left_out = len(items) - FAILED
    more = {"failed_left_out": left_out} if left_out > 0 else {}
    return end | machine | {"failed": items[:FAILED]} | more
