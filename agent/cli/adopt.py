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
        terminal.print_lines(f"this machine is already recorded: {known.source} {known.id}")
        return 0
    uuid = machine_uuid.read_uuid(host)
    machine = Identity(adopted.SOURCE, uuid or machine_uuid.fallback_id(host) or "unnamed")
    adopted.record_adoption(host, machine, (nic.mac for nic in interfaces.physical(host)))
    state.set_instance(machine, dmi_uuid=uuid)
    terminal.print_lines(f"recorded as configured already, left unchanged: {machine.id}")
    return 0
