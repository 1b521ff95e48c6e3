"""A virtual machine: power, snapshots, and the guest's shell. Hot-plug is in devices.py.

A machine is a context manager. It owns a slot of the host, a folder for its overlay of the image and a
folder of logs; all are removed when it is closed, except the logs where `keep_logs` is set.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from . import qemu, slots
from .accel import accelerator
from .channel import Boot
from .command import RigError
from .devices import Devices
from .disks import make_overlay
from .guest import Guest
from .image import Image
from .paths import LOGS, RUNS, discard, hold, mark_used, stale
from .process import Process, socket_folder
from .spec import Bus, Disk, MachineSpec

# Bounds in seconds; emulation on a busy host is slow.
BOOT_TIMEOUT = 180
SHUTDOWN_TIMEOUT = 120


class Machine(Guest, Devices):
    """One virtual machine on an overlay of `image`, off until `start`.

    `disks` are attached at every start. `root` is a qcow2 file to lie an overlay on instead of the image's
    disk. `slot` hands over a slot taken by `slots.take`; without one the machine takes its own when it
    starts.
    """

    def __init__(
        self,
        image: Image,
        spec: MachineSpec | None = None,
        *,
        disks: Iterable[Disk] = (),
        name: str = "machine",
        root: Path | None = None,
        slot: slots.Slot | None = None,
    ) -> None:
        self.image = image
        self.spec = spec or MachineSpec()
        self.disks = tuple(disks)
        self.logs = LOGS / name
        self._slot = slot
        self._process = None
        self._boot = Boot("", 0)
        mark_used(image.folder)
        self._held: int | None = hold(image.folder)
        RUNS.mkdir(parents=True, exist_ok=True)
        discard(stale(RUNS, "vm-"))
        self.folder = Path(tempfile.mkdtemp(prefix="vm-", dir=RUNS))
        shutil.rmtree(self.logs, ignore_errors=True)
        self.logs.mkdir(parents=True)
        self.root_file = self.folder / "root.qcow2"
        if root is None:
            make_overlay(image.disk, "raw", self.root_file, self.spec.root_size)
        else:
            make_overlay(root, "qcow2", self.root_file)

    # -- power -------------------------------------------------------------------------------------

    def start(self, *, wait: bool = True, timeout: float = BOOT_TIMEOUT) -> Self:
        """Switch on and, with `wait`, return when the guest answers (early in its boot; see
        `wait_booted`).
        """
        self._launch([])
        if wait:
            self.wait_ready(timeout)
        return self

    def _launch(self, more: list[str]) -> None:
        if self._process is not None:
            raise RigError("the machine is on already")
        self._slot = self._slot or slots.take()[0]
        sockets = socket_folder()
        accel = accelerator(self.image.kernel, self.image.architecture)
        root = Disk(path=self.root_file, id=qemu.ROOT_ID, bus=self.spec.root_bus, format="qcow2")
        disks = (root, *self.disks)
        sata = any(disk.bus is Bus.SATA for disk in disks)
        argv = qemu.arguments(self.spec, self.image, accel, sockets, self.logs / "serial.log", sata=sata)
        argv += qemu.firmware_arguments(self.spec, self.image.architecture, self.folder)
        argv += self.disk_arguments(disks)
        self._process = Process(argv + more, sockets, self.logs)
        self.reset_ports(self.spec)

    def disk_arguments(self, disks: Iterable[Disk]) -> list[str]:
        """Return QEMU's arguments for the disks that are there from the start."""
        return [word for disk in disks for word in qemu.disk_arguments(disk)]

    def wait_ready(self, timeout: float = BOOT_TIMEOUT) -> Boot:
        """Wait until the guest's channel answers, after `start` or a reset seen by `reboot`."""
        self._boot = self.channel.ready(timeout)
        return self._boot

    def wait_booted(self, timeout: float = BOOT_TIMEOUT) -> str:
        """Wait for the end of the boot and return systemd's state: running, degraded, …"""
        done = self.run(["systemctl", "is-system-running", "--wait"], timeout=timeout, check=False)
        if done.rc is None:
            jobs = self.run(["systemctl", "list-jobs", "--no-pager"], check=False).stdout
            raise RigError(f"the boot did not end in {timeout:.0f} s; jobs:\n{jobs}")
        return done.stdout.strip()

    def reboot(self, *, timeout: float = BOOT_TIMEOUT) -> Boot:
        """Reboot by the guest itself, in the same QEMU process; return when the new boot answers."""
        self.qmp.forget_events()
        self.run(["systemctl", "--no-block", "reboot"])
        self.qmp.wait_event("RESET", SHUTDOWN_TIMEOUT)
        return self._next_boot(timeout)

    def reset(self, *, timeout: float = BOOT_TIMEOUT) -> Boot:
        """Press the reset button, without a shutdown; return when the new boot answers."""
        self.qmp.call("system_reset")
        return self._next_boot(timeout)

    def _next_boot(self, timeout: float) -> Boot:
        self._boot = self.channel.ready(timeout, other_than=self._boot.id)
        return self._boot

    def power_off(self, timeout: float = SHUTDOWN_TIMEOUT) -> None:
        """Shut the guest down in order; the disks stay."""
        self.run(["systemctl", "--no-block", "poweroff"])
        self.process.wait(timeout)
        self._process = None

    def cut_power(self) -> None:
        """Cut the power: kill QEMU; the guest loses what it had not synced. The disks stay."""
        self.process.kill()
        self._process = None

    def cold_boot(self, *, disks: Iterable[Disk] | None = None, wait: bool = True) -> Self:
        """Start a new QEMU process on the same root disk; `disks` replaces the others (the platform makes a
        new swap disk).

        The guest is shut down first when it is still on.
        """
        if self._process is not None:
            self.power_off()
        if disks is not None:
            self.disks = tuple(disks)
        return self.start(wait=wait)

    # -- saved states ------------------------------------------------------------------------------

    def save(self, target: Path) -> None:
        """Write the running machine to `target`/memory, then switch it off; used by `state.save`."""
        self.qmp.call("stop")
        self.qmp.call("migrate-set-parameters", max_bandwidth=1 << 34)
        self.qmp.call("migrate", uri=f"exec:cat > '{target}'")
        self._await_migration()
        self.cut_power()

    def resume(self, memory: Path, *, set_clock: bool = True) -> Self:
        """Switch on by loading the memory that `save` wrote; the root disk must be the one of that
        moment. Without `set_clock` the guest's clock is left behind, as a hypervisor leaves it.
        """
        self._launch(["-incoming", "defer"])
        self.qmp.call("migrate-incoming", uri=f"exec:cat '{memory}'")
        self._await_migration()
        self.qmp.call("cont")
        self.wait_ready(30)
        if set_clock:
            self.channel.ask("ping", clock=time.time())
        return self

    def _await_migration(self, timeout: float = 60) -> None:
        end = time.monotonic() + timeout
        while (info := self.qmp.call("query-migrate")).get("status") != "completed":
            if info.get("status") in ("failed", "cancelled") or time.monotonic() > end:
                raise RigError(f"saving or loading the machine failed: {info}")
            time.sleep(0.02)

    # -- end ---------------------------------------------------------------------------------------

    def close(self, *, keep_logs: bool = False) -> None:
        """Switch off by force and delete everything but, with `keep_logs`, the logs."""
        if self._process is not None:
            self._process.kill()
            self._process = None
        if self._slot is not None:
            self._slot.release()
            self._slot = None
        if self._held is not None:
            os.close(self._held)
            self._held = None
        shutil.rmtree(self.folder, ignore_errors=True)
        if not keep_logs:
            shutil.rmtree(self.logs, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.collect_logs()
            error.add_note(f"machine logs in {self.logs}")
        self.close(keep_logs=error is not None)

    def describe(self) -> dict[str, Any]:
        """Return process, monitor and files as text, for debugging."""
        return {"pid": self.process.pid, "logs": str(self.logs), "root": str(self.root_file)}
