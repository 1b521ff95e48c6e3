"""Assign this machine's NICs to those of the document. Pure."""

from __future__ import annotations

from agent.lib.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from agent.config.nics import Nic
    from agent.network.interfaces import Interface


@dataclass(frozen=True, slots=True)
class Pairing:
    """The pairs, in the order of the document's numbers, and the unpaired NICs of either side."""

    pairs: tuple[tuple[Nic, Interface], ...]
    nics: tuple[Nic, ...]
    interfaces: tuple[Interface, ...]


def pair(
    nics: Iterable[Nic],
    interfaces: Iterable[Interface],
    stored: Mapping[int, str],
    held: Collection[Interface] = (),
) -> Pairing:
    """Pair by the document's MAC; else by its name; else as ``stored`` (number → MAC); else number N with
    the name ethN; else the rest in order, by number and by bus.

    A NIC of which the document names the MAC or the name is not paired with any other interface. A NIC that
    was paired before (``stored``) and is missing takes none of the ``held`` interfaces, which were present
    earlier in this boot: it was unplugged.
    """
    ordered = sorted(nics, key=lambda nic: nic.number)
    unpaired = list(ordered)
    free = list(interfaces)
    paired: dict[int, Interface] = {}

    def take(fits: Callable[[Nic, Interface], bool]) -> None:
        for nic in list(unpaired):
            match = next((interface for interface in free if fits(nic, interface)), None)
            if match is not None:
                paired[nic.number] = match
                unpaired.remove(nic)
                free.remove(match)

    take(lambda nic, interface: nic.mac is not None and nic.mac == interface.mac)
    take(lambda nic, interface: nic.mac is None and nic.name == interface.name)
    take(lambda nic, interface: _free(nic) and stored.get(nic.number) == interface.mac)

    def may_take(nic: Nic, interface: Interface) -> bool:
        return _free(nic) and not (nic.number in stored and interface in held)

    take(lambda nic, interface: may_take(nic, interface) and interface.name == f"eth{nic.number}")
    take(may_take)
    pairs = tuple((nic, paired[nic.number]) for nic in ordered if nic.number in paired)
    return Pairing(pairs, tuple(unpaired), tuple(free))


def _free(nic: Nic) -> bool:
    """Return whether the document names neither MAC nor name, so that any interface may be taken."""
    return nic.mac is None and nic.name is None
