"""One QEMU process, from power on to power off."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from .channel import Channel
from .command import RigError, environment
from .qmp import Qmp

START_SECONDS = 30
# An eighth of an emulated machine's time is one load from QEMU's table of translated blocks, which is many
# megabytes: malloc takes large pages for it.
LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


class Process:
    """A running QEMU with its monitor and its command channel.

    It ends with the thread that started it, so a killed test run leaves no machine.
    """

    def __init__(self, argv: list[str], sockets: Path, logs: Path) -> None:
        self.sockets = sockets
        (logs / "qemu.cmdline").write_text(shlex.join(argv) + "\n")
        self._stderr = logs / "qemu.log"
        with open(self._stderr, "ab") as output:
            self._child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment() | LARGE_PAGES,
            )
        try:
            self._wait_for(sockets / "channel")
            self.qmp = Qmp(sockets / "qmp")
            self.channel = Channel(sockets / "channel")
        except BaseException:
            self._child.kill()
            self._child.wait()
            raise

    def _wait_for(self, path: Path) -> None:
        end = time.monotonic() + START_SECONDS
        while not path.exists():
            if self._child.poll() is not None or time.monotonic() > end:
                raise RigError(f"QEMU did not start: {self._stderr.read_text(errors='replace')[-2000:]}")
            time.sleep(0.01)

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self._child.pid

    def alive(self) -> bool:
        """Whether QEMU still runs."""
        return self._child.poll() is None

    def wait(self, timeout: float) -> None:
        """Wait for QEMU to end by itself (the guest powered off), then release everything."""
        try:
            self._child.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise RigError(f"the machine is still on after {timeout} s") from error
        self._release()

    def kill(self) -> None:
        """Kill QEMU: a power cut."""
        self._child.kill()
        self._child.wait()
        self._release()

    def _release(self) -> None:
        self.channel.close()
        self.qmp.close()
        shutil.rmtree(self.sockets)


class Running:
    """Access to the running process, for all parts of a machine. Machine sets `_process` and `logs`."""

    _process: Process | None
    logs: Path

    @property
    def process(self) -> Process:
        """Return the QEMU process. Raise RigError when the machine is off."""
        if self._process is None:
            raise RigError("the machine is off")
        return self._process

    @property
    def qmp(self) -> Qmp:
        """The monitor: `machine.qmp.call("query-block")`, `machine.qmp.wait_event("RESET")`."""
        return self.process.qmp

    @property
    def channel(self) -> Channel:
        """The command channel into the guest."""
        return self.process.channel

    @property
    def console(self) -> Path:
        """Return the socket of an interactive root shell (MachineSpec.shell); see console.attach."""
        return self.process.sockets / "shell"

    def port(self, name: str) -> Path:
        """Return the socket of a virtio-serial port (MachineSpec.ports)."""
        return self.process.sockets / name

    @property
    def is_on(self) -> bool:
        """Whether there is a QEMU process."""
        return self._process is not None and self._process.alive()


def socket_folder() -> Path:
    """A new folder with a short path: socket names are limited to 107 bytes, the project's path is not."""
    return Path(tempfile.mkdtemp(prefix="gandi-vm-"))
