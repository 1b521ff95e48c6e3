"""The verb ``adopt``, run by the package: record a machine that is already configured as it is."""

from __future__ import annotations

from agent.config.model import Identity
from agent.host import machine_uuid, terminal
from agent.network import interfaces
from agent.state import adopted
from agent.state.store import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host


def adopt(host: Host) -> int:
    """Store the machine's identity unless one is stored; change nothing else. Return the exit status."""
    state = State(host)
    known = state.identity()
    if known is not None:
        terminal.say(f"this machine is already recorded: {known.source} {known.id}")
        return 0
    uuid = machine_uuid.machine(host)
    machine = Identity(adopted.SOURCE, uuid or machine_uuid.fallback(host) or "unnamed")
    adopted.begin(host, machine, (nic.mac for nic in interfaces.physical(host)))
    state.adopt(machine, dmi=uuid)
    terminal.say(f"recorded as configured already, left unchanged: {machine.id}")
    return 0
