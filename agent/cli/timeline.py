"""``gandi-agent timeline``: gather what is recorded of this boot anyway, and print or draw it.

Users other than root get what systemd and the status say; the journal is closed to them.
"""

from __future__ import annotations

import time

from agent.context import context
from agent.disks.decide import canonical, effective_settings
from agent.host import terminal
from agent.lib.errors import HostError
from agent.lib.records import asdict
from agent.steps import script
from agent.systemd.journal import Message
from agent.timeline import assembled, critical, recorded, text
from agent.timeline.events import AGENT
from agent.udev import database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.context import Context
    from agent.host.host import Host
    from agent.timeline.assembled import Records, Timeline

#: Of the form that --json prints. To be raised when a reader of the old one would misread it.
VERSION = 1
#: Seconds for each program.
_TIMEOUT = 60.0
#: Most entries that are read: the newest of this boot. A boot has some dozens, and a device event a few.
_AGENT_ENTRIES, _KERNEL_ENTRIES = 20_000, 10_000
_FIELDS = (
    *("MESSAGE", "MESSAGE_ID", "UNIT", "_SOURCE_MONOTONIC_TIMESTAMP"),
    *(f"GANDI_{name}" for name in ("STAGE", "DEVICE", "ITEM", "OUTCOME", "DETAIL", "SECONDS")),
)
_OF_UNITS = (recorded.STARTING, recorded.STARTED, recorded.ENDED, recorded.FAILED)
#: Every user may write entries with any other field; this one is journald's.
_ROOTS = "_UID=0"
_OF_AGENT = (Message.STAGE_ENDED, Message.STAGE_FAILED, Message.DEVICE, Message.DEVICE_FAILED)


def timeline(host: Host, *, as_json: bool, svg: str | None) -> int:
    """Print the timeline of this boot, or write it to ``svg`` as a drawing. Return 0, or 1 if systemd has no
    time at which ssh was reachable.
    """
    found = assembled.timeline(gather(context(host)))
    if svg is not None:
        from agent.timeline import drawing

        host.write(svg, drawing.svg(found))
        terminal.print_lines(svg)
    elif as_json:
        terminal.print_json(document(found))
    else:
        terminal.print_lines(*text.render(found))
    return 0 if found.path else 1


def document(found: Timeline) -> dict[str, object]:
    """Return what --json prints."""
    return {"version": VERSION, "path_seconds": critical.total(found.path)} | asdict(found)


def gather(ctx: Context) -> Records:
    """Return what is recorded of this boot. A program that fails costs its own part alone."""
    host, status = ctx.host, ctx.status.read()
    show = ("systemctl", "show", _properties(recorded.UNIT_PROPERTIES), "--")
    units = _output(host, *show, "*")
    if devices := critical.devices(recorded.units(units)):
        units = f"{units}\n{_output(host, *show, *devices)}"
    on_path = critical.candidates(recorded.units(units))
    services = sorted(name for name in on_path if name.endswith(".service"))
    journal = (
        _ROOTS,
        *(f"MESSAGE_ID={message}" for message in _OF_UNITS),
        *(f"UNIT={name}" for name in (*services, AGENT, assembled.PROGRAMS)),
        "+",
        _ROOTS,
        *(f"MESSAGE_ID={message}" for message in _OF_AGENT),
    )
    return assembled.Records(
        manager=_output(host, "systemctl", "show", _properties(recorded.MANAGER_PROPERTIES)),
        units=units,
        journal=_journal(host, _AGENT_ENTRIES, *journal),
        kernel=_journal(host, _KERNEL_ENTRIES, "_TRANSPORT=kernel"),
        status=status,
        programs=host.read(script.ENDED) or "",
        ready={name: at for name in status["devices"] if (at := _ready(host, name))},
        disk_root=canonical(host, effective_settings(ctx).disk_root),
        offset=time.time() - time.monotonic(),
    )


def _properties(names: Iterable[str]) -> str:
    return f"--property={','.join(names)}"


def _journal(host: Host, most: int, *matches: str) -> str:
    options = ("--boot", "--output=json", f"--output-fields={','.join(_FIELDS)}", f"--lines={most}")
    return _output(host, "journalctl", "--quiet", "--no-pager", *options, *matches)


def _output(host: Host, *argv: str) -> str:
    try:
        return host.run(argv, timeout=_TIMEOUT, check=False, changes=False).stdout
    except HostError as error:
        terminal.print_error(f"gandi-agent: {error.message}")
        return ""


def _ready(host: Host, device: str) -> float:
    """Return when udev had processed a block device for the first time; 0 for another device."""
    if "/" in device:
        return 0.0
    return int(database.block(host, device).get("USEC_INITIALIZED", "0")) / 1e6
