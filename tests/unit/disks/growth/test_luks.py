"""When an encrypted disk can be enlarged without a passphrase; a guest test enlarges one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.block.storage import SECTOR, Device
from agent.disks.base.facts import Leave
from agent.disks.growth import luks
from agent.host.host import Completed, Host
from agent.lib.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MIB = 1 << 20
HEADER = 16 * MIB


class Machine(Host):
    """A machine with an encrypted disk of 100 MiB, which had 50 MiB when it was opened."""

    __slots__ = ()

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        for name, size in (("vdb", 100 * MIB), ("dm-0", 50 * MIB - HEADER)):
            self.write(f"/sys/class/block/{name}/size", str(size // SECTOR))
        self.write("/sys/class/block/dm-0/dm/name", "secret\n")
        self.write("/sys/class/block/dm-0/dm/uuid", "CRYPT-LUKS2-aaaa-secret\n")
        self.write("/etc/keys/data.key", "key")

    def run(self, argv: Sequence[str], **_how: object) -> Completed:
        assert argv == ("cryptsetup", "status", "secret")
        said = f"  type:    LUKS2\n  offset:  {HEADER // SECTOR} [512-byte units]\n  size:    9 sectors\n"
        return Completed(tuple(argv), 0, said, "")


def _never(argv: Sequence[str]) -> None:
    pytest.fail(f"ran {argv}")


DISK = Device("vdb", "254:16", 100 * MIB, holders=("dm-0",))


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("secret /dev/vdb /etc/keys/data.key luks", ("--key-file=/etc/keys/data.key",)),
        (
            "secret UUID=aaaa /etc/keys/data.key luks,keyfile-offset=512,keyfile-size=32",
            ("--key-file=/etc/keys/data.key", "--keyfile-offset=512", "--keyfile-size=32"),
        ),
        ("secret UUID=aaaa none luks,tpm2-device=auto", ("--token-only",)),
        ("secret UUID=aaaa - tpm2-device=auto,tpm2-pin=yes", None),
        ("secret UUID=aaaa none luks", None),
        ("secret UUID=aaaa", None),
        ("secret UUID=aaaa /etc/keys/missing luks", None),
        ("secret UUID=aaaa /dev/urandom plain", None),
        ("secret UUID=aaaa /etc/keys luks", None),
        ("secret UUID=aaaa /etc/keys/data.key luks,keyscript=/bin/askme", None),
        ("secret UUID=aaaa /etc/keys/data.key luks,header=/boot/header", None),
        ("#secret UUID=aaaa /etc/keys/data.key luks", None),
        ("other UUID=aaaa /etc/keys/data.key luks", None),
        ("", None),
    ],
)
def test_keys(tmp_path: Path, line: str, key: tuple[str, ...] | None) -> None:
    host = Machine(tmp_path)
    host.write("/etc/crypttab", f"# name device key options\n{line}\n")
    assert luks.unlocks(host, "secret") == key


def test_a_key_in_its_usual_place(tmp_path: Path) -> None:
    host = Machine(tmp_path)
    host.write("/etc/crypttab", "secret UUID=aaaa\n")
    host.write("/etc/cryptsetup-keys.d/secret.key", "key")
    assert luks.unlocks(host, "secret") == ("--key-file=/etc/cryptsetup-keys.d/secret.key",)


def test_it_is_enlarged_with_its_key_and_the_size_tells(tmp_path: Path) -> None:
    host = Machine(tmp_path)
    host.write("/etc/crypttab", "secret UUID=aaaa /etc/keys/data.key luks\n")
    asked: list[Sequence[str]] = []
    with pytest.raises(HostError, match="no larger"):
        luks.resize(host, asked.append, DISK)

    def grow(argv: Sequence[str]) -> None:
        asked.append(argv)
        host.write("/sys/class/block/dm-0/size", str((100 * MIB - HEADER) // SECTOR))

    assert luks.resize(host, grow, DISK) == ("dm-0", "secret")
    assert asked[-1][-2:] == ("--key-file=/etc/keys/data.key", "secret")
    assert luks.resize(host, asked.append, DISK) == ("dm-0", "secret")
    assert len(asked) == 2, "what fills its disk is not touched"


@pytest.mark.parametrize("holders", [(), ("dm-0", "dm-1"), ("md0",)])
def test_what_is_not_open_is_left(tmp_path: Path, holders: tuple[str, ...]) -> None:
    closed = Device("vdb", "254:16", 100 * MIB, holders=holders)
    assert luks.resize(Machine(tmp_path), _never, closed) == Leave("encrypted, and not open")


def test_without_a_key_it_is_left_with_the_remedy(tmp_path: Path) -> None:
    host = Machine(tmp_path)
    assert luks.resize(host, _never, DISK) == Leave("encrypted: run cryptsetup resize secret")
