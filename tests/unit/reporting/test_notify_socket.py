"""Messages of sd_notify(3) to the socket of the credential, by the exact bytes.

Few build hosts have a transport for AF_VSOCK, so a UNIX socket of the same type stands for it: the code is
the same but for the two calls that make and bind the socket. tests/vm/test_report.py sends over AF_VSOCK,
within the guest.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.host.host import Host
from agent.lib.errors import HostError
from agent.report import NOTIFY_SOCKET
from agent.reporting.notify_socket import Address, NotifySocket, parse
from agent.reporting.outbox import LIMIT, Outbox

if TYPE_CHECKING:
    from collections.abc import Iterator

DGRAM, SEQPACKET, STREAM = socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_STREAM
MOMENT = {"version": 1, "time": 1_700_000_000, "uptime": 9.8}
ITEM = MOMENT | {
    "type": "item",
    "stage": "config",
    "step": "users",
    "result": "failed",
    "item": "user:daemon",
    "detail": "not an account of the agent's",
    "hint": "deliver another name",
}
BOOT = MOMENT | {"type": "boot", "result": "ready", "verdict": "ready: boot took 9.8 s, nothing failed"}
DISK = MOMENT | {"type": "device", "device": "vdb", "role": "disk", "action": "add", "result": "changed"}


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("vsock:2:1234", Address(socket.AF_VSOCK, (2, 1234), (DGRAM, SEQPACKET, STREAM))),
        ("vsock-stream:2:1234\n", Address(socket.AF_VSOCK, (2, 1234), (STREAM,))),
        ("vsock-dgram:2:9", Address(socket.AF_VSOCK, (2, 9), (DGRAM,))),
        ("vsock-seqpacket:1:9", Address(socket.AF_VSOCK, (1, 9), (SEQPACKET,))),
        ("/run/host/notify", Address(socket.AF_UNIX, "/run/host/notify", (DGRAM,))),
        ("@host", Address(socket.AF_UNIX, "\0host", (DGRAM,))),
        ("vsock::1234", None),
        ("vsock:2", None),
        ("vsock:4294967295:1234", None),
        ("vsock:2:4294967295", None),
        ("vsock:-1:5", None),
        ("vsock:2:5:6", None),
        ("tcp:2:5", None),
        ("/", None),
        ("", None),
    ],
)
def test_the_credential(text: str, address: Address | None) -> None:
    assert parse(text) == address


def test_without_the_credential_or_with_a_damaged_one_there_is_no_socket(tmp_path: Path) -> None:
    made = NotifySocket(Host(tmp_path), lambda _: None)
    assert not made.exists()
    credential = tmp_path / NOTIFY_SOCKET[1:]
    credential.parent.mkdir(parents=True)
    credential.write_text("elsewhere")
    assert not made.exists()
    with pytest.raises(HostError):
        made.send(memoryview(b"x"))
    credential.write_text("vsock:2:1234")
    assert made.exists()


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            ITEM,
            "X_GANDI_STAGE=config\nX_GANDI_RESULT=failed\nX_GANDI_STEP=users\nX_GANDI_ITEM=user:daemon\n"
            "X_GANDI_DETAIL=not an account of the agent's\nX_GANDI_HINT=deliver another name",
        ),
        (BOOT, "X_GANDI_STAGE=boot\nX_GANDI_RESULT=ready\nSTATUS=ready: boot took 9.8 s, nothing failed"),
        (
            BOOT | {"ready": True, "lost": 3},
            "READY=1\nX_GANDI_STAGE=boot\nX_GANDI_RESULT=ready\nX_GANDI_LOST=3\n"
            "STATUS=ready: boot took 9.8 s, nothing failed",
        ),
        (DISK, "X_GANDI_DEVICE=vdb\nX_GANDI_ACTION=add\nX_GANDI_RESULT=changed"),
    ],
)
def test_the_exact_bytes(tmp_path: Path, record: dict[str, Any], message: str) -> None:
    assert NotifySocket(Host(tmp_path), lambda _: None).encode(record) == message.encode()


@pytest.fixture(params=[DGRAM, SEQPACKET, STREAM], ids=["dgram", "seqpacket", "stream"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, request.param) as made:
        made.bind(str(tmp_path / "notify"))
        made.settimeout(5)
        if request.param != DGRAM:
            made.listen(1)
        yield made


def outbox_to(listener: socket.socket, tmp_path: Path) -> Outbox:
    address = Address(socket.AF_UNIX, str(tmp_path / "notify"), (listener.type,))
    return Outbox(NotifySocket(Host(tmp_path), lambda _: None, address))


def received(listener: socket.socket) -> bytes:
    """Return one message; of a connection, all that it has until its end."""
    if listener.type == DGRAM:
        return listener.recv(1 << 16)
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(5)
        data = connection.recv(1 << 16)
        assert connection.recv(1) == b"", "the connection ends with its message"
        return data


def test_each_message_is_one_datagram_or_connection(listener: socket.socket, tmp_path: Path) -> None:
    outbox = outbox_to(listener, tmp_path)
    for record in (ITEM, BOOT):
        outbox.put(record)
        outbox.flush()
        assert received(listener) == outbox.channel.encode(record)
    assert not outbox.waiting


def test_a_receiver_that_does_not_read_loses_the_oldest(listener: socket.socket, tmp_path: Path) -> None:
    outbox = outbox_to(listener, tmp_path)
    for number in range(4 * LIMIT):
        outbox.put(DISK | {"item": str(number)})
        outbox.flush()
    assert len(outbox.waiting) == LIMIT
    sent, numbers, lost = 4 * LIMIT - LIMIT - outbox.lost, list[int](), 0
    while outbox.waiting or len(numbers) < sent:
        fields = dict(line.split("=", 1) for line in received(listener).decode().split("\n"))
        numbers.append(int(fields["X_GANDI_ITEM"]))
        lost += int(fields.get("X_GANDI_LOST", 0))
        before = len(outbox.waiting)
        outbox.flush()
        sent += before - len(outbox.waiting)
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 4 * LIMIT - 1
    assert len(numbers) + lost == 4 * LIMIT
    assert lost


def test_no_receiver_costs_nothing_and_loses_nothing(tmp_path: Path) -> None:
    address = Address(socket.AF_UNIX, str(tmp_path / "missing"), (SEQPACKET,))
    outbox = Outbox(NotifySocket(Host(tmp_path), lambda _: None, address))
    outbox.put(BOOT)
    outbox.flush()
    assert len(outbox.waiting) == 1
    with socket.socket(socket.AF_UNIX, SEQPACKET) as late:
        late.bind(str(tmp_path / "missing"))
        late.listen(1)
        outbox.flush()
        assert received(late) == outbox.channel.encode(BOOT)


def test_vsock_without_a_host_fails_at_once_or_later_but_never_waits(tmp_path: Path) -> None:
    """By the kernel's own AF_VSOCK: no such family, no transport, or no listener at the address."""
    outbox = Outbox(NotifySocket(Host(tmp_path), lambda _: None, parse("vsock-stream:2:4294967290")))
    outbox.put(BOOT)
    outbox.flush()
    outbox.flush()
    assert len(outbox.waiting) == 1
    outbox.channel.close()
