"""The marks of a device's event: what caused it, in the order in which it comes to be."""

from __future__ import annotations

import pytest

from agent.systemd.journal import Message
from agent.timeline.events import AGENT, events
from agent.timeline.recorded import STARTING, Entry

KERNEL = Entry(20.0, "", "virtio_blk virtio7: [vdc] 131072 512-byte logical blocks")
MOUNTED = Entry(
    21.0,
    Message.DEVICE,
    fields={"GANDI_DEVICE": "vdc", "GANDI_OUTCOME": "changed", "GANDI_ITEM": "vdc", "GANDI_SECONDS": "0.5"},
)


@pytest.mark.parametrize(
    ("started", "ready", "names"),
    [
        (9.0, 20.1, ["kernel", "udev", "begun", "done"]),
        (9.0, 0.0, ["kernel", "begun", "done"]),
        (20.2, 20.1, ["kernel", "udev", "daemon", "begun", "done"]),
        (20.2, 0.0, ["kernel", "daemon", "begun", "done"]),
    ],
    ids=["for the stages", "for the stages, no record of udev", "for it", "for it, no record of udev"],
)
def test_a_daemon_that_was_started_for_something_else_has_no_part(
    started: float, ready: float, names: list[str]
) -> None:
    own = [Entry(started, STARTING, fields={"UNIT": AGENT}), MOUNTED]
    (event,) = events(own, [KERNEL], {}, {"vdc": ready}, 0.0)
    assert [name for name, _ in event.marks] == names
    assert [at for _, at in event.marks] == sorted(at for _, at in event.marks)
