"""Records against the library with the same names: each case runs with both."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from agent.lib import records as plain

if TYPE_CHECKING:
    from types import ModuleType


@pytest.fixture(params=[plain, dataclasses], ids=["plain", "dataclasses"])
def library(request: pytest.FixtureRequest) -> ModuleType:
    """The one and the other."""
    module: ModuleType = request.param
    return module


def records(library: ModuleType) -> tuple[Any, Any, Any]:
    """A frozen record, one that inherits from it, and one that can change and counts what it was given."""

    @library.dataclass(frozen=True, slots=True)
    class Point:
        x: int
        y: int = 2
        tag: str = library.field(default="", compare=False)

        @property
        def sum(self) -> int:
            return self.x + self.y

    @library.dataclass(frozen=True, slots=True)
    class Named(Point):
        name: str = "none"

    @library.dataclass(slots=True)
    class Bag:
        points: list[Any] = library.field(default_factory=list)
        count: int = library.field(init=False)
        seen: int = library.field(default=7, init=False, repr=False)
        by_name: dict[str, Any] = library.field(default_factory=dict, metadata={"kind": "map"})

        def __post_init__(self) -> None:
            self.count = len(self.points)

    return Point, Named, Bag


def test_made_by_position_by_name_and_by_default(library: ModuleType) -> None:
    point, named, bag = records(library)
    made = point(1)
    assert (made.x, made.y, made.tag, made.sum) == (1, 2, "", 3)
    assert (point(1, 5).y, point(x=4, y=6).sum) == (5, 10)
    assert named(1, name="a").name == "a"
    filled = bag([made])
    assert (filled.count, filled.seen, filled.by_name) == (1, 7, {})
    assert bag().points is not bag().points


@pytest.mark.parametrize("given", [(), (1, 2, "", 4)])
def test_too_few_or_too_many_values_are_refused(library: ModuleType, given: tuple[int, ...]) -> None:
    point, _, _ = records(library)
    with pytest.raises(TypeError):
        point(*given)


@pytest.mark.parametrize("named", [{"x": 2}, {"nowhere": 1}])
def test_names_that_are_not_free_are_refused(library: ModuleType, named: dict[str, int]) -> None:
    point, _, _ = records(library)
    with pytest.raises(TypeError):
        point(1, **named)


def test_what_is_made_after_the_call_cannot_be_given(library: ModuleType) -> None:
    _, _, bag = records(library)
    with pytest.raises(TypeError):
        bag(count=3)


def test_frozen_ones_do_not_change(library: ModuleType) -> None:
    point, named, _ = records(library)
    for one in (point(1), named(1)):
        with pytest.raises(library.FrozenInstanceError):
            one.x = 2
        with pytest.raises(library.FrozenInstanceError):
            del one.x
        with pytest.raises((library.FrozenInstanceError, TypeError)):
            one.other = 2


def test_slots_leave_no_room_for_other_names(library: ModuleType) -> None:
    point, named, bag = records(library)
    assert not any(hasattr(one, "__dict__") for one in (point(1), named(1), bag()))
    with pytest.raises(AttributeError):
        bag().other = 2


def test_equal_by_value_within_one_class(library: ModuleType) -> None:
    point, named, bag = records(library)
    assert point(1) == point(1, 2, "not compared")
    assert point(1) != point(2)
    assert point(1) != named(1)
    assert point(1) != (1, 2, "")
    assert len({point(1), point(1), named(1)}) == 2
    assert bag() == bag()
    with pytest.raises(TypeError):
        hash(bag())


def test_identity_where_equality_is_not_asked_for(library: ModuleType) -> None:
    @library.dataclass(slots=True, eq=False)
    class PeerRecord:
        name: str

    made: Any = PeerRecord
    assert made("a") != made("a")
    assert len({made("a"), made("a")}) == 2


def test_replace_leaves_the_rest(library: ModuleType) -> None:
    point, _, bag = records(library)
    assert library.replace(point(1, 5), x=3) == point(3, 5)
    changed = library.replace(bag([1]), points=[1, 2])
    assert (changed.points, changed.count) == ([1, 2], 2)
    with pytest.raises(TypeError):
        library.replace(point(1), nowhere=1)


def test_asdict_goes_into_lists_tuples_and_dicts(library: ModuleType) -> None:
    point, _, bag = records(library)
    inside = {"x": 1, "y": 2, "tag": ""}
    made = bag([point(1), (point(1), "a")], {"one": point(1)})
    expected = {"points": [inside, (inside, "a")], "count": 2, "seen": 7, "by_name": {"one": inside}}
    assert library.asdict(made) == expected


def test_fields_tell_names_types_and_metadata(library: ModuleType) -> None:
    point, named, bag = records(library)
    assert [one.name for one in library.fields(named)] == ["x", "y", "tag", "name"]
    assert [one.type for one in library.fields(point(1))] == ["int", "int", "str"]
    assert library.fields(bag)[3].metadata["kind"] == "map"
    assert library.fields(point)[0].metadata == {}


def test_matched_by_position_and_shown_by_name(library: ModuleType) -> None:
    point, _, _ = records(library)
    match point(1, 5):
        case point(x, y):
            assert (x, y) == (1, 5)
        case _:
            pytest.fail("no match")
    assert repr(point(1)) == "records.<locals>.Point(x=1, y=2, tag='')"


def test_what_is_not_to_be_shown_is_not(library: ModuleType) -> None:
    _, _, bag = records(library)
    assert repr(bag()).endswith("Bag(points=[], count=0, by_name={})")


def test_a_default_that_all_records_would_share_is_refused(library: ModuleType) -> None:
    with pytest.raises(ValueError, match="points"):

        @library.dataclass(slots=True)
        class Shared:
            points: list[int] = []  # noqa: RUF012  # what is refused
