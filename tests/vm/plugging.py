"""A data disk that the platform attaches, enlarges and detaches, and what must be true after each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path

from tests.vm.rig import MIB, Bus, Disk, Machine, make_filesystem

#: Bytes by which a disk grows each time; its file is sparse.
STEP = 64 * MIB
#: Seconds until the end state must be reached, in a slow guest where the daemon may have been killed.
BOUND = 60


class Done(StrEnum):
    """The platform's last action."""

    ATTACH = "attach"
    GROW = "grow"
    DETACH = "detach"


class Plugged:
    """The disk and its expected state. Its mountpoint is /srv/LABEL, its content that of ``tree``."""

    def __init__(
        self, vm: Machine, folder: Path, label: str, *, bus: Bus = Bus.VIRTIO, tree: Path | None = None
    ) -> None:
        self.vm, self.label, self.size = vm, label, STEP
        path = make_filesystem(folder / f"{label}.img", STEP, "ext4", label=label, tree=tree)
        self._disk = Disk(path=path, id=label, bus=bus, serial=label)
        self.last = Done.DETACH

    @property
    def plugged(self) -> tuple[Disk, ...]:
        """Return the disks for a machine that is started now."""
        return () if self.last is Done.DETACH else (self._disk,)

    def next(self, meanwhile: Callable[[], object] = lambda: None) -> Done:
        """Do the next of attach, grow, detach; ``meanwhile`` is called once it has begun."""
        match self.last:
            case Done.DETACH:
                self.attach()
                meanwhile()
            case Done.ATTACH:
                self.grow()
                meanwhile()
            case Done.GROW:
                self.detach(meanwhile)
        return self.last

    def attach(self, *, fails: Sequence[str] = (), after: int = 0) -> None:
        """Attach it; it answers the operations in ``fails`` with EIO ``after`` so many writes."""
        self.vm.add_disk(self._disk, fails=fails, after=after)
        self.last = Done.ATTACH

    def grow(self) -> None:
        """Enlarge it."""
        self.size += STEP
        self.vm.resize_disk(self._disk.id, self.size)
        self.last = Done.GROW

    def detach(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Detach it, whatever the guest does with it; return when it is gone."""
        self.vm.remove_disk(self._disk.id, meanwhile=meanwhile)
        self.last = Done.DETACH

    def is_right(self) -> None:
        """Wait until the guest is as it should be after the last action. Raise GuestError when it does not
        get there in time.
        """
        self.vm.wait_until(self.right, timeout=BOUND, interval=0.5)

    @property
    def right(self) -> str:
        """Return that condition for the guest's shell."""
        at = f"/srv/{self.label}"
        if self.last is Done.DETACH:
            return f"! mountpoint -q {at} && ! test -e {at}"
        least = self.size // MIB * 8 // 10
        fits = f"test $(df --output=size -B1M {at} | tail -1) -gt {least}"
        return f"mountpoint -q {at} && {fits} && touch {at}/written"
