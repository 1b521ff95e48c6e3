"""What two machines must never share, and a new instance has from the disk that it was copied from.

Noted in the new instance's folder before the machine becomes that instance, so a power cut loses none of it;
each step takes its own note away when it has done its work. An instance that is known already, or was
adopted as it was found, has no notes: nothing of it is ever made anew.
"""

from __future__ import annotations

from agent.state import settled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.context import Context

MACHINE_ID, HOST_KEYS = "machine-id", "host-keys"


def expect(ctx: Context) -> None:
    """Note all of it, for the instance that the machine is about to become."""
    for what in (MACHINE_ID, HOST_KEYS):
        ctx.host.write(ctx.state.file(f"renew/{what}"), b"", mode=0o600)


def is_due(ctx: Context, what: str) -> bool:
    """Whether it has not been made anew yet."""
    return ctx.config is not None and ctx.host.exists(f"{ctx.state.folder()}/renew/{what}")


def is_late(ctx: Context) -> bool:
    """Whether the time before the network, and before the units that follow the first stage, has passed in
    this boot: a drive came late, or the stage is run once more.
    """
    begun = ctx.status.read()["stages"] if ctx.host.live else {}
    if settled.is_settled(ctx.host):
        return ctx.host.live
    return ctx.host.live and ("mount" in begun or begun.get("bootstrap", {}).get("state") != "running")


def done(ctx: Context, what: str) -> None:
    """It was made anew, or is to stay as it is."""
    ctx.host.remove(f"{ctx.state.folder()}/renew/{what}")
