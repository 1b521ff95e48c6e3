"""A network behind a NIC of a guest, simulated on the host: its router answers ARP for every address, and a
host behind it pings the guest. It shows by which NIC an answer leaves.

Ethernet frames come over QEMU's stream socket, each after its length (four bytes, network order).
"""

from __future__ import annotations

import contextlib
import ipaddress
import queue
import socket
import struct
import threading
import time
from pathlib import Path

from tests.vm.rig import Nic

_ARP, _IPV4, _TAG = 0x0806, 0x0800, 0x8100
_REQUEST, _REPLY = 1, 2
_ICMP, _ECHO_REPLY, _ECHO = 1, 0, 8
_ROUTER = bytes.fromhex("5254000000fe")
_IDENTIFIER = 0x4747
#: Seconds between two pings without an answer.
_AGAIN = 0.5


class Wire:
    """A network on a UNIX socket below ``folder``; a daemon thread answers as its router until QEMU closes
    the socket. ``vlan``: the tag of the guest's frames.
    """

    def __init__(self, folder: Path, id: str, mac: str, *, vlan: int | None = None) -> None:
        self.id, self.mac, self.vlan = id, mac, vlan
        self._path = folder / f"{id}.sock"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._guest: socket.socket | None = None
        self._answers: queue.Queue[tuple[str, str]] = queue.Queue()
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def nic(self) -> Nic:
        """Return the guest's NIC on this wire."""
        backend = f"stream,server=off,addr.type=unix,addr.path={self._path}"
        return Nic(id=self.id, mac=self.mac, backend=backend)

    def close(self) -> None:
        """Close the socket: no guest can connect any more."""
        self._listener.close()

    def ping(self, source: str, target: str) -> None:
        """Send an echo request from ``source``, a host behind the router, to the guest's address."""
        body = struct.pack("!HH", _IDENTIFIER, 1) + b"gandi"
        icmp = struct.pack("!BBH", _ECHO, 0, _checksum(struct.pack("!BBH", _ECHO, 0, 0) + body)) + body
        self._send(bytes.fromhex(self.mac.replace(":", "")), _IPV4, _packet(source, target, icmp))

    def answered(self, source: str, target: str, timeout: float) -> bool:
        """Return whether an answer from ``target`` to ``source`` leaves by this NIC within some seconds."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                if self._answers.get(timeout=left) == (target, source):
                    return True
        return False

    def asks(self, source: str, target: str, *, timeout: float = 15) -> bool:
        """Ping until an answer leaves by this NIC; return False when none does in that many seconds."""
        for _ in range(int(timeout / _AGAIN)):
            self.ping(source, target)
            if self.answered(source, target, _AGAIN):
                return True
        return False

    # -- within --------------------------------------------------------------------------------------

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._guest, _ = self._listener.accept()
                with contextlib.suppress(ConnectionError, EOFError):
                    self._listen(self._guest)

    def _listen(self, guest: socket.socket) -> None:
        while True:
            (length,) = struct.unpack("!I", _exactly(guest, 4))
            self._frame(_exactly(guest, length))

    def _frame(self, frame: bytes) -> None:
        kind, body, tag = *struct.unpack("!H", frame[12:14]), frame[14:], None
        if kind == _TAG:
            tag, kind = struct.unpack("!HH", body[:4])
            tag, body = tag & 0xFFF, body[4:]
        if tag != self.vlan:
            return
        if kind == _ARP and struct.unpack("!H", body[6:8])[0] == _REQUEST:
            self._answer_arp(frame[6:12], body)
        elif kind == _IPV4 and body[9] == _ICMP:
            header = (body[0] & 0xF) * 4
            if body[header] == _ECHO_REPLY:
                ends = (str(ipaddress.IPv4Address(body[at : at + 4])) for at in (12, 16))
                self._answers.put((next(ends), next(ends)))

    def _answer_arp(self, asker: bytes, body: bytes) -> None:
        sender, wanted = body[14:18], body[24:28]
        if sender in (wanted, bytes(4)):  # an announcement, a probe: the address is the guest's
            return
        self._send(asker, _ARP, body[:6] + struct.pack("!H", _REPLY) + _ROUTER + wanted + asker + sender)

    def _send(self, target: bytes, kind: int, body: bytes) -> None:
        tag = struct.pack("!HH", _TAG, self.vlan) if self.vlan is not None else b""
        frame = (target + _ROUTER + tag + struct.pack("!H", kind) + body).ljust(60, b"\0")
        if self._guest is not None:
            with contextlib.suppress(OSError):
                self._guest.sendall(struct.pack("!I", len(frame)) + frame)


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        chunk = connection.recv(length - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data


def _packet(source: str, target: str, payload: bytes) -> bytes:
    ends = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(target).packed
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(payload), 0, 0, 64, _ICMP)
    return head + struct.pack("!H", _checksum(head + b"\0\0" + ends)) + ends + payload


def _checksum(data: bytes) -> int:
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    folded = (total >> 16) + (total & 0xFFFF)
    return ~(folded + (folded >> 16)) & 0xFFFF
