"""Groups that a document names, made with groupadd(8)."""

from __future__ import annotations

from agent.accounts import passwd, shadow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.report import Item
    from agent.state.store import State


def reconcile(state: State, name: str) -> Iterator[Item]:
    """Make the group once; one that the administrator removed stays removed."""

    def apply() -> None:
        shadow.make_group(state.host, name)
        # After a power cut the group may lack its line in gshadow.
        shadow.complete_group(state.host, name)

    yield state.reconcile(
        f"groups:{name}",
        delivered=name,
        wanted="there",
        live="there" if passwd.group(state.host, name) is not None else None,
        apply=apply,
        parts="",
    )
