"""Which NIC of the document is which of this machine's. Pure."""

from __future__ import annotations

from agent.lib.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from agent.config.model import Nic
    from agent.network.interfaces import Interface


@dataclass(frozen=True, slots=True)
class Pairing:
    """Who goes with whom, in the order of the document's numbers, and who is left on either side."""

    pairs: tuple[tuple[Nic, Interface], ...]
    nics: tuple[Nic, ...]
    interfaces: tuple[Interface, ...]


def pair(
    nics: Iterable[Nic],
    interfaces: Iterable[Interface],
    stored: Mapping[int, str],
    held: Collection[Interface] = (),
) -> Pairing:
    """Pair by the document's MAC; else by its name; else as it was ``stored`` (number → MAC); else vif N
    with ethN where there is such a name; else what is left in order, by number and by bus.

    A NIC whose MAC or name is in the document and not on this machine is paired with nothing: the platform
    named another. One that has been paired before takes none of those that are ``held``, which have been
    here in this boot and are not it: it was unplugged.
    """
    ordered = sorted(nics, key=lambda nic: nic.number)
    waiting = list(ordered)
    free = list(interfaces)
    found: dict[int, Interface] = {}

    def take(fits: Callable[[Nic, Interface], bool]) -> None:
        for nic in list(waiting):
            match = next((one for one in free if fits(nic, one)), None)
            if match is not None:
                found[nic.number] = match
                waiting.remove(nic)
                free.remove(match)

    take(lambda nic, one: nic.mac is not None and nic.mac == one.mac)
    take(lambda nic, one: nic.mac is None and nic.name == one.name)
    take(lambda nic, one: _free(nic) and stored.get(nic.number) == one.mac)

    def may_take(nic: Nic, one: Interface) -> bool:
        return _free(nic) and not (nic.number in stored and one in held)

    take(lambda nic, one: may_take(nic, one) and one.name == f"eth{nic.number}")
    take(may_take)
    pairs = tuple((nic, found[nic.number]) for nic in ordered if nic.number in found)
    return Pairing(pairs, tuple(waiting), tuple(free))


def _free(nic: Nic) -> bool:
    """Whether the document leaves open which one it is."""
    return nic.mac is None and nic.name is None
