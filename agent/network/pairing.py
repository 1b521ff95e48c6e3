"""Assign this machine's NICs to those of the document. Pure."""

from __future__ import annotations

from agent.lib.records import dataclass
from agent.network.interfaces import given_name
from agent.report import skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from agent.config.nics import Nic
    from agent.network.interfaces import Interface
    from agent.report import Item


@dataclass(frozen=True, slots=True)
class Pairing:
    """The pairs, in the order of the document's numbers, and the unpaired NICs of either side."""

    pairs: tuple[tuple[Nic, Interface], ...]
    nics: tuple[Nic, ...]
    interfaces: tuple[Interface, ...]

    @property
    def by_number(self) -> dict[int, Interface]:
        """The paired interfaces, by the NIC's number in the document."""
        return {nic.number: one for nic, one in self.pairs}


def pair(
    nics: Iterable[Nic],
    interfaces: Iterable[Interface],
    stored: Mapping[int, str],
    held: Collection[Interface] = (),
) -> Pairing:
    """Pair by the document's MAC; else by its name; else by its other conditions; else as ``stored`` (number
    → MAC); else number N with the name ethN; else the rest in order, by number and by bus.

    A NIC for which the document has conditions is only paired with an interface that fulfils all of them. A
    NIC that was paired before (``stored``) and is missing takes none of the ``held`` interfaces, which were
    present earlier in this boot: it was unplugged. The loopback NIC is never paired.
    """
    ordered = sorted((nic for nic in nics if not nic.loopback), key=lambda nic: nic.number)
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

    def was(nic: Nic, interface: Interface) -> bool:
        return stored.get(nic.number) == interface.mac

    def may_take(nic: Nic, interface: Interface) -> bool:
        return fulfils(nic, interface) and not (nic.number in stored and interface in held)

    take(lambda nic, interface: nic.mac is not None and fulfils(nic, interface))
    take(lambda nic, interface: nic.name is not None and fulfils(nic, interface))
    take(lambda nic, interface: nic.match is not None and was(nic, interface) and fulfils(nic, interface))
    take(lambda nic, interface: nic.match is not None and may_take(nic, interface))
    take(lambda nic, interface: was(nic, interface) and fulfils(nic, interface))
    take(lambda nic, interface: may_take(nic, interface) and interface.name == f"eth{nic.number}")
    take(may_take)
    pairs = tuple((nic, paired[nic.number]) for nic in ordered if nic.number in paired)
    return Pairing(pairs, tuple(unpaired), tuple(free))


def fulfils(nic: Nic, interface: Interface) -> bool:
    """Return whether the interface fulfils every condition of the document for that NIC. A name is one only
    without a MAC: version 0.1 paired by the MAC alone. The name that the document gives to the NIC is taken
    for the one that it has.
    """
    if nic.mac is not None and nic.mac != interface.mac:
        return False
    by_name = interface.name != given_name(nic)
    if by_name and nic.mac is None and nic.name is not None and nic.name != interface.name:
        return False
    if nic.match is None:
        return True
    import fnmatch

    if by_name and nic.match.name is not None and not fnmatch.fnmatchcase(interface.name, nic.match.name):
        return False
    drivers = nic.match.drivers
    return not drivers or any(fnmatch.fnmatchcase(interface.driver, one) for one in drivers)


def others_that_match(pairing: Pairing) -> Iterator[Item]:
    """Yield an item for each NIC with conditions that further interfaces fulfil: it is one of them only."""
    for nic, one in pairing.pairs:
        others = [other.name for other in pairing.interfaces if nic.match and fulfils(nic, other)]
        if others:
            why = f"fits {', '.join(others)} too, not applied there: the NIC is {one.name}"
            yield skipped(f"nic:{nic.number} match", why)
