"""Which NIC of the document is paired with which interface, and that pairs are stable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.nics import Match, Nic, NicOptions
from agent.network.interfaces import Interface
from agent.network.pairing import pair


def _mac(number: int) -> str:
    return f"52:54:00:00:00:{number:02x}"


def _interfaces(*names: str) -> list[Interface]:
    """Make interfaces in bus order; the MAC of number n ends in n."""
    return [Interface(name, _mac(number)) for number, name in enumerate(names)]


def _names(
    nics: list[Nic], interfaces: list[Interface], stored: dict[int, str] | None = None
) -> dict[int, str]:
    return {nic.number: one.name for nic, one in pair(nics, interfaces, stored or {}).pairs}


@pytest.mark.parametrize(
    ("why", "nics", "interfaces", "stored", "expected"),
    [
        ("by order", [Nic(0), Nic(1)], ("ens3", "ens4"), {}, {0: "ens3", 1: "ens4"}),
        ("numbers order, not the list", [Nic(5), Nic(2)], ("ens3", "ens4"), {}, {2: "ens3", 5: "ens4"}),
        ("ethN by its number", [Nic(0), Nic(1)], ("eth1", "eth0"), {}, {0: "eth0", 1: "eth1"}),
        ("ethN, the rest by order", [Nic(0), Nic(1)], ("eth2", "eth0"), {}, {0: "eth0", 1: "eth2"}),
        ("the document's MAC", [Nic(0, _mac(1)), Nic(1)], ("eth0", "eth1"), {}, {0: "eth1", 1: "eth0"}),
        ("stored wins over names", [Nic(0), Nic(1)], ("eth0", "eth1"), {0: _mac(1)}, {0: "eth1", 1: "eth0"}),
        ("stored, gone from here", [Nic(0)], ("eth0",), {0: _mac(9)}, {0: "eth0"}),
        ("the document wins over stored", [Nic(0, _mac(0))], ("a", "b"), {0: _mac(1)}, {0: "a"}),
        ("the document's name", [Nic(0, name="b"), Nic(1)], ("a", "b"), {}, {0: "b", 1: "a"}),
        ("a name wins over stored", [Nic(0, name="b")], ("a", "b"), {0: _mac(0)}, {0: "b"}),
        ("another's name is not ours", [Nic(0, name="c")], ("a",), {0: _mac(0)}, {}),
        ("another's MAC is not ours", [Nic(0, _mac(9))], ("eth0",), {}, {}),
    ],
)
def test_pairs(
    why: str, nics: list[Nic], interfaces: tuple[str, ...], stored: dict[int, str], expected: dict[int, str]
) -> None:
    assert _names(nics, _interfaces(*interfaces), stored) == expected, why


def test_what_is_left_on_either_side_is_told() -> None:
    more_nics = pair([Nic(0), Nic(1)], _interfaces("ens3"), {})
    assert [nic.number for nic in more_nics.nics] == [1]
    more_interfaces = pair([Nic(0)], _interfaces("ens3", "ens4"), {})
    assert [one.name for one in more_interfaces.interfaces] == ["ens4"]


@given(
    st.lists(st.integers(0, 9), unique=True, max_size=6),
    st.lists(
        st.sampled_from([f"{kind}{n}" for kind in ("eth", "ens") for n in range(6)]), unique=True, max_size=6
    ),
    st.randoms(use_true_random=False),
)
def test_a_stored_pairing_survives_any_order_of_the_bus(
    numbers: list[int], names: list[str], shuffle: object
) -> None:
    interfaces = _interfaces(*names)
    nics = [Nic(number) for number in numbers]
    first = pair(nics, interfaces, {})
    assert len(first.pairs) == min(len(nics), len(interfaces))
    assert len({one.mac for _, one in first.pairs}) == len(first.pairs)
    stored = {nic.number: one.mac for nic, one in first.pairs}
    moved = list(interfaces)
    shuffle.shuffle(moved)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    assert {n.number: one.mac for n, one in pair(nics, moved, stored).pairs} == stored


VIRTIO, E1000 = (
    Interface(name, _mac(n), driver=d)
    for n, (name, d) in enumerate([("ens3", "virtio_net"), ("eno1", "e1000")])
)


@pytest.mark.parametrize(
    ("nic", "expected"),
    [
        (Nic(0, match=Match(name="en*")), {"ens3"}),
        (Nic(0, match=Match(name="eno*")), {"eno1"}),
        (Nic(0, match=Match(name="eth*")), set()),
        (Nic(0, match=Match(drivers=("ixgbe", "e1000*"))), {"eno1"}),
        (Nic(0, match=Match(drivers=("ixgbe",))), set()),
        (Nic(0, match=Match(name="ens*", drivers=("e1000",))), set()),
        (Nic(0, _mac(0), match=Match(drivers=("virtio*",))), {"ens3"}),
        (Nic(0, _mac(0), match=Match(drivers=("e1000",))), set()),
        (Nic(0, _mac(0), name="eno1"), {"ens3"}),
        (Nic(0, match=Match()), {"ens3"}),
        (Nic(0, name="eth0", options=NicOptions(set_name="eno1")), {"eno1"}),
        (Nic(0, match=Match(name="eth*"), options=NicOptions(set_name="eno1")), {"eno1"}),
        (Nic(0, loopback=True), set()),
    ],
    ids=repr,
)
def test_a_nic_with_conditions_is_paired_with_what_fulfils_all_of_them(nic: Nic, expected: set[str]) -> None:
    pairing = pair([nic], [VIRTIO, E1000], {})
    assert {one.name for _, one in pairing.pairs} == expected
    # Not by its number, by the order, nor by what it was before, either.
    before = pair([nic], [VIRTIO, E1000], {0: VIRTIO.mac})
    assert {one.name for _, one in before.pairs} == expected


def test_a_nic_with_a_wide_match_stays_with_its_interface() -> None:
    wide = Nic(0, match=Match(name="e*"))
    assert pair([wide], [VIRTIO, E1000], {0: E1000.mac}).pairs == ((wide, E1000),)
    # Its interface was unplugged: it takes none that was here before.
    assert pair([wide], [VIRTIO], {0: E1000.mac}, held=[VIRTIO]).pairs == ()


def test_a_wide_match_takes_nothing_from_a_narrow_one() -> None:
    wide, mac, name = Nic(0, match=Match(name="e*")), Nic(1, VIRTIO.mac), Nic(2, name="eno1")
    assert dict(pair([wide, mac, name], [VIRTIO, E1000], {}).pairs) == {mac: VIRTIO, name: E1000}
