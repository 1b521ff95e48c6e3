"""The ids of a user namespace in which a user is root."""

from __future__ import annotations

import pytest

from agent.host.user_namespace import Ids, mapped, subordinate

TEXT = "other:100000:65536\nme:165536:65536\n# me:1:1\nme:x:65536\nme:1\n1000:500000:10\nme:300000:0\n"


def test_the_ranges_of_a_user_by_name_or_number() -> None:
    assert subordinate(TEXT, ("me", "1000")) == ((165536, 65536), (500000, 10))
    assert subordinate("", ("me",)) == ()


@pytest.mark.parametrize(
    ("owner", "ranges", "ids"),
    [
        (1000, ((165536, 65536),), (Ids(0, 1000, 1), Ids(1, 165536, 65536))),
        # The first range with enough of them.
        (1000, ((9000, 10), (165536, 65536)), (Ids(0, 1000, 1), Ids(1, 165536, 65536))),
        (1000, ((165536, 100),), ()),
        (1000, (), ()),
        # A tree that was made in a namespace has a subordinate id as its root.
        (165536, ((165536, 65536),), (Ids(0, 165536, 65536), Ids(65536, 1000, 1))),
        (165540, ((165536, 65536),), (Ids(0, 165540, 65532), Ids(65532, 1000, 1))),
        (0, ((165536, 65536),), ()),
        (231072, ((165536, 65536),), ()),
    ],
)
def test_who_is_root(owner: int, ranges: tuple[tuple[int, int], ...], ids: tuple[Ids, ...]) -> None:
    assert mapped(1000, owner, ranges) == ids
