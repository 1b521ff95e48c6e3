"""Conditions that keep a machine from writing, and how to begin and end each, in a guest or on its disks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from tests.vm.rig import Machine

#: Fills a filesystem to its last block, and frees it.
FILL = "fallocate -l 100G {0}/filler; dd if=/dev/zero of={0}/filler-of-blocks bs=4k status=none"
EMPTY = "rm {0}/filler*"
NO_ROOM = "No space left on device"
WRITES = ("write", "write-zeroes", "discard", "flush")


def _over(options: str, *folders: str) -> str:
    """Mount a small filesystem over these folders of the root."""
    made = [
        f"mkdir /mnt/{name} /mnt/{name}.work && mount -t overlay -o "
        f"lowerdir=/{name},upperdir=/mnt/{name},workdir=/mnt/{name}.work overlay /{name}"
        for name in folders
    ]
    return " && ".join((f"mount -t tmpfs -o {options} tmpfs /mnt", *made))


@dataclass(frozen=True)
class Trouble:
    """One condition: shell commands for the guest, or operations that fail on a disk (see `break_disk`)."""

    name: str
    #: The system's error text for it.
    words: str
    #: Played in `make test` as well; the others only in `make soak`.
    always: bool = False
    before: str = "true"
    #: The folder of the filesystem that is filled, if one is.
    place: str = ""
    begins: str = "true"
    ends: str = "true"
    #: Of the swap disk.
    swap_fails: tuple[str, ...] = ()
    #: Of a data disk that is attached, or grows.
    disk_fails: tuple[str, ...] = ()

    def leaving(self, count: int) -> Self:
        """Return the same condition with room for ``count`` files of a block (4 KiB), or for one file of so
        many blocks where inodes are not what is missing.
        """
        room = f"{self.place}/room"
        taken = (
            f"mkdir {room}; seq {count} | while read -r n; do head -c 4k /dev/zero >{room}/$n; done; sync"
        )
        # Blocks that ext4 has freed can be used once its journal has that.
        return replace(self, begins=f"{taken}; {self.begins}; rm -r {room}; sync")

    def begin(self, vm: Machine) -> None:
        """Begin: nothing can be written any more."""
        vm.run(f"{{ {self.begins}; }} 2>/dev/null || true", timeout=120)

    def end(self, vm: Machine) -> None:
        """End: writes succeed again."""
        vm.run(self.ends, timeout=60)


TROUBLES = (
    Trouble(
        "full disk",
        NO_ROOM,
        always=True,
        place="/opt",
        begins=FILL.format("/opt"),
        ends=EMPTY.format("/opt"),
    ),
    Trouble(
        "no inodes",
        NO_ROOM,
        # To take all of a real root filesystem takes an emulated machine minutes.
        before=_over("size=64m,nr_inodes=3000", "etc", "home", "root", "srv", "var"),
        place="/mnt",
        begins="perl -e '$n = 0; $n++ while open my $f, q(>), qq(/mnt/filler$n)'",
        ends="rm /mnt/filler*",
    ),
    Trouble(
        "read-only root",
        "Read-only file system",
        # As the kernel does after an error, without regard to open files.
        begins="echo u >/proc/sysrq-trigger; until findmnt -no OPTIONS / | grep -qw ro; do sleep 0.1; done",
        ends="for at in / $(findmnt -rno TARGET | grep ^/srv/); do mount -o remount,rw $at; done",
    ),
    Trouble("full run", NO_ROOM, place="/run", begins=FILL.format("/run"), ends=EMPTY.format("/run")),
    Trouble(
        "full var",
        NO_ROOM,
        before=_over("size=16m", "var"),
        place="/mnt",
        begins=FILL.format("/mnt"),
        ends=EMPTY.format("/mnt"),
    ),
    Trouble("errors of the data disk", "Input/output error", disk_fails=("read", *WRITES)),
    Trouble("errors of the swap disk", "Input/output error", swap_fails=WRITES),
    Trouble("a swap disk that cannot be read", "Input/output error", swap_fails=("read", *WRITES)),
)
