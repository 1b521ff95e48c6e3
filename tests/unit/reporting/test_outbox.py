"""The queue of a channel: bounded, in order, never waited for, and its losses named."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from agent.lib.records import dataclass, field
from agent.reporting.outbox import LIMIT, Outbox

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Stream:
    """A channel into one end of a socket pair, with lines of JSON."""

    sender: socket.socket
    closed: int = 0
    failure: type[OSError] | None = None
    encoded: list[dict[str, Any]] = field(default_factory=list)

    def exists(self) -> bool:
        return True

    def encode(self, record: dict[str, Any]) -> bytes:
        self.encoded.append(record)
        return json.dumps(record).encode() + b"\n"

    def send(self, data: memoryview) -> int:
        if self.failure:
            raise self.failure
        return self.sender.send(data)

    def complete(self) -> None:
        pass

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def pair() -> Iterator[tuple[Outbox, Stream, socket.socket]]:
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with sender, receiver:
        for one in (sender, receiver):
            one.settimeout(0)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        stream = Stream(sender)
        yield Outbox(stream), stream, receiver


def received(outbox: Outbox, receiver: socket.socket) -> list[dict[str, Any]]:
    """Read all that the outbox can send."""
    data = b""
    while True:
        outbox.flush()
        try:
            data += receiver.recv(1 << 16)
        except BlockingIOError:
            return [json.loads(line) for line in data.split(b"\n")[:-1]]


def test_records_are_sent_in_order_and_forgotten(pair: tuple[Outbox, Stream, socket.socket]) -> None:
    outbox, _, receiver = pair
    for number in range(3):
        outbox.put({"n": number})
    assert received(outbox, receiver) == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert not outbox.waiting
    assert received(outbox, receiver) == []


def test_a_receiver_that_does_not_read_costs_the_oldest_and_they_are_counted_once(
    pair: tuple[Outbox, Stream, socket.socket],
) -> None:
    outbox, _, receiver = pair
    text = "x" * 100
    for number in range(5 * LIMIT):
        outbox.put({"n": number, "text": text})
        outbox.flush()
    assert len(outbox.waiting) == LIMIT
    got = received(outbox, receiver)
    numbers, losses = [one["n"] for one in got], [one["lost"] for one in got if "lost" in one]
    assert numbers == sorted(set(numbers)), "none twice, none out of order"
    assert numbers[-1] == 5 * LIMIT - 1
    assert len(losses) == 1
    assert len(numbers) + losses[0] == 5 * LIMIT
    first_after = next(one for one in got if "lost" in one)
    assert first_after["n"] - got[got.index(first_after) - 1]["n"] - 1 == losses[0]
    outbox.put({"n": -1})
    assert received(outbox, receiver) == [{"n": -1}], "the count is not named again"


def test_a_record_that_was_begun_is_sent_to_its_end(pair: tuple[Outbox, Stream, socket.socket]) -> None:
    outbox, _, receiver = pair
    outbox.put({"n": "begun", "text": "x" * 100_000})
    outbox.flush()
    assert outbox.waiting, "larger than the buffers"
    for number in range(LIMIT + 10):
        outbox.put({"n": number})
    first, second, *_ = received(outbox, receiver)
    assert first["n"] == "begun"
    assert second["lost"] == 11
    assert second["n"] == 11


def test_a_receiver_that_goes_gets_the_record_again_from_its_start(
    pair: tuple[Outbox, Stream, socket.socket],
) -> None:
    outbox, stream, receiver = pair
    outbox.put({"n": 0, "text": "x" * 100_000})
    outbox.flush()
    stream.failure = BrokenPipeError
    outbox.flush()
    assert stream.closed == 1
    while True:  # what came of it is not a whole line
        try:
            assert b"\n" not in receiver.recv(1 << 16)
        except BlockingIOError:
            break
    stream.failure = None
    assert [one["n"] for one in received(outbox, receiver)] == [0]


def test_the_next_daemon_goes_on_with_what_waits(pair: tuple[Outbox, Stream, socket.socket]) -> None:
    outbox, stream, receiver = pair
    stream.failure = BlockingIOError
    for number in range(LIMIT + 2):
        outbox.put({"n": number})
    outbox.flush()
    outbox.stages["mount"], outbox.boot, outbox.is_ready_sent = 7, ["ready", "ready: all"], True
    saved = json.loads(json.dumps(outbox.saved()))
    stream.failure = None
    then = Outbox(stream)
    then.restore(saved)
    assert then.saved() == saved
    got = received(then, receiver)
    assert got[0] == {"n": 2, "lost": 2}
    assert len(got) == LIMIT


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        [],
        None,
        {"waiting": 3},
        {"waiting": [], "lost": "x", "ready": 1},
        {"waiting": [], "lost": 1e999, "ready": 1},
    ],
)
def test_what_was_saved_may_be_damaged(
    pair: tuple[Outbox, Stream, socket.socket], damaged: dict[str, Any]
) -> None:
    outbox, _, receiver = pair
    outbox.restore(damaged)
    outbox.put({"n": 1})
    assert received(outbox, receiver) == [{"n": 1}]
