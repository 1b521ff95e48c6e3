"""A disk that hangs: a network block device server for QEMU that does not answer some reads.

The protocol is doc/proto.md of the NetworkBlockDevice project: newstyle handshake, simple replies.
"""

from __future__ import annotations

import socket
import struct
import threading
from pathlib import Path
from typing import Self

from tests.vm.rig import Machine

_MAGIC, _OPTION, _REPLY = 0x4E42444D41474943, 0x49484156454F5054, 0x3E889045565A9
_REQUEST, _SIMPLE = 0x25609513, 0x67446698
_EXPORT_NAME, _INFO, _GO = 1, 6, 7
_ACK, _INFO_REPLY, _UNSUPPORTED = 1, 3, (1 << 31) | 1
_READ, _WRITE, _DISCONNECT, _FLUSH = 0, 1, 2, 3
#: Flags are there; flushes are understood.
_FLAGS = 1 | 4


class HangingDisk:
    """Serve an image file to one machine, on a socket beside it. Reads that begin in the range ``hangs``
    (bytes) are not answered until ``release``.
    """

    def __init__(self, image: Path, id: str) -> None:
        self.id, self.hangs, self.held = id, range(0), threading.Event()
        self._image, self._pending = image.open("r+b", buffering=0), list[tuple[bytes, int, int]]()
        self._lock, self._path = threading.Lock(), image.with_suffix(".sock")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._peer: socket.socket | None = None

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._listener.close()

    def attach(self, vm: Machine) -> None:
        """Attach it to the machine as a virtio disk. (The kernel resets a SCSI disk that hangs, and QEMU
        would wait for that until the disk answers.)
        """
        server = {"type": "unix", "path": str(self._path)}
        vm.qmp.call("blockdev-add", driver="nbd", node_name=self.id, server=server, export="disk")
        last = f"port{vm.spec.root_ports - 1}"
        vm.qmp.call("device_add", driver="virtio-blk-pci", bus=last, drive=self.id, id=f"{self.id}-dev")

    def release(self) -> None:
        """Answer all waiting reads, and every later one."""
        with self._lock:
            self.hangs = range(0)
            waiting, self._pending = self._pending, []
            self.held.clear()
        for cookie, offset, length in waiting:
            self._answer(cookie, self._at(offset, length))

    def _serve(self) -> None:
        peer, _ = self._listener.accept()
        self._peer = peer
        size = self._image.seek(0, 2)
        peer.sendall(struct.pack(">QQH", _MAGIC, _OPTION, 3))
        self._take(4)
        while True:
            _, option, length = struct.unpack(">QII", self._take(16))
            self._take(length)
            if option in (_INFO, _GO):
                info = struct.pack(">HQH", 0, size, _FLAGS)
                peer.sendall(struct.pack(">QIII", _REPLY, option, _INFO_REPLY, len(info)) + info)
                peer.sendall(struct.pack(">QIII", _REPLY, option, _ACK, 0))
            elif option == _EXPORT_NAME:
                peer.sendall(struct.pack(">QH", size, _FLAGS))
            else:
                peer.sendall(struct.pack(">QIII", _REPLY, option, _UNSUPPORTED, 0))
            if option in (_GO, _EXPORT_NAME):
                break
        while self._one():
            continue

    def _one(self) -> bool:
        try:
            _, _, kind, cookie, offset, length = struct.unpack(">IHH8sQI", self._take(28))
        except (EOFError, OSError):
            return False
        if kind == _DISCONNECT:
            return False
        if kind == _WRITE:
            data = self._take(length)
            self._image.seek(offset)
            self._image.write(data)
        if kind == _READ:
            with self._lock:
                is_held = offset in self.hangs
                if is_held:
                    self._pending.append((cookie, offset, length))
                    self.held.set()
            if not is_held:
                self._answer(cookie, self._at(offset, length))
            return True
        self._answer(cookie, b"")
        return True

    def _answer(self, cookie: bytes, data: bytes) -> None:
        if self._peer:
            self._peer.sendall(struct.pack(">II8s", _SIMPLE, 0, cookie) + data)

    def _at(self, offset: int, length: int) -> bytes:
        with open(self._image.name, "rb", buffering=0) as image:
            image.seek(offset)
            return image.read(length)

    def _take(self, length: int) -> bytes:
        assert self._peer
        found = b""
        while len(found) < length:
            part = self._peer.recv(length - len(found))
            if not part:
                raise EOFError
            found += part
        return found
