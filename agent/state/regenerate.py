"""Notes of what a new instance must regenerate, since it was copied with the disk: machine-id and host keys.

The notes are written to the new instance's folder before the machine becomes that instance, so a power cut
loses none; each step removes its note when it is done. An instance that is known already, or adopted, has no
notes, and nothing of it is ever regenerated.
"""

from __future__ import annotations

from agent.state import settled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.context import Context

MACHINE_ID, HOST_KEYS = "machine-id", "host-keys"


def schedule(ctx: Context) -> None:
    """Write all notes for the instance that the machine is about to become."""
    for what in (MACHINE_ID, HOST_KEYS):
        ctx.host.write(ctx.state.path_for_writing(f"renew/{what}"), b"", mode=0o600)


def is_due(ctx: Context, what: str) -> bool:
    """Return whether MACHINE_ID or HOST_KEYS is still to be regenerated."""
    return ctx.config is not None and ctx.host.exists(f"{ctx.state.folder()}/renew/{what}")


def is_late(ctx: Context) -> bool:
    """Return whether the network, and the units ordered after the bootstrap stage, may have started already:
    a drive came late, or the stage runs again.
    """
    begun = ctx.status.read()["stages"] if ctx.host.live else {}
    if settled.is_settled(ctx.host):
        return ctx.host.live
    return ctx.host.live and ("mount" in begun or begun.get("bootstrap", {}).get("state") != "running")


def mark_done(ctx: Context, what: str) -> None:
    """Remove the note: it was regenerated, or is to stay as it is."""
    ctx.host.remove(f"{ctx.state.folder()}/renew/{what}")
