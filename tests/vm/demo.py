"""``make demo``: boot a real machine with the package, have an archive configure it, then hot-plug devices.

Prints each event with its time, and a table at the end. With ``KEEP=1`` it ends in a console on the machine.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path

from tests.vm import sample
from tests.vm.rig import (
    GIB,
    MIB,
    Disk,
    ImageSpec,
    Machine,
    MachineSpec,
    build,
    make_filesystem,
    newest_deb,
)
from tests.vm.rig.console import attach

STAGES = ("bootstrap", "mount", "config", "postboot")
_ROOT_SIZE = 3 * GIB
KEEP = os.environ.get("KEEP")


class Story:
    """The demo's output: lines with times, and a table of measured values."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self.table: list[tuple[str, str]] = []

    def say(self, text: str) -> None:
        """Print a line with the seconds since the demo began."""
        print(f"{time.monotonic() - self._begun:7.1f} s  {text}", flush=True)

    def measured(self, what: str, value: str) -> None:
        """Print a line, and add it to the table."""
        self.say(f"{what}: {value}")
        self.table.append((what, value))

    def end(self) -> None:
        """Print the table."""
        width = max(len(what) for what, _ in self.table)
        print("\n" + "\n".join(f"  {what:<{width}}  {value}" for what, value in self.table))


def main() -> int:
    """Return 0 when everything happened; an exception names what did not."""
    story = Story()
    with tempfile.TemporaryDirectory(prefix="gandi-demo-") as folder:
        _tell(story, Path(folder))
    return 0


def _tell(story: Story, folder: Path) -> None:
    image = build(ImageSpec(debs=(newest_deb(),)))
    story.say(f"image: Debian 13 with {newest_deb().name}")
    swap = sample.swap_disk(folder)
    story.say(f"configuration archive made: {swap.path.stat().st_size // MIB} MiB swap disk, tar at 512 KiB")
    spec = MachineSpec(nics=sample.SPEC.nics, root_size=_ROOT_SIZE, shell=bool(KEEP), debian_initrd=True)
    with Machine(image, spec, disks=[swap], name="demo") as vm:
        begun = time.monotonic()
        vm.start()
        story.say("the machine boots (root read-only, 1.5 GB image on a 3 GB disk)")
        for stage in STAGES:
            _follow(story, vm, stage)
        state = vm.wait_booted()
        if state != "running":
            raise SystemExit(f"the system is {state}:\n{vm.output('systemctl --failed --no-pager')}")
        story.measured("boot to the end", f"{time.monotonic() - begun:.1f} s, systemd says {state}")
        story.measured("the agent's verdict", vm.output("gandi-agent status --format=short"))
        _identity(story, vm)
        _disk(story, vm, folder)
        story.end()
        if KEEP:
            print("\nthe machine is yours; it goes when you leave its shell", flush=True)
            attach(vm.console)


def _follow(story: Story, vm: Machine, stage: str) -> None:
    """Wait for the end of a stage, and print what its steps did."""
    # From the agent's status: without a data disk the mount stage runs although its unit was skipped.
    vm.wait_until(f"gandi-agent status | grep -qE '^{stage}: (done|failed)'", timeout=180, interval=0.5)
    # The exit status is about all stages; here only one has ended.
    status = vm.run(["gandi-agent", "status", "--json"], check=False).stdout
    entry = json.loads(status)["stages"][stage]
    told = [f"{step['step']} {step['outcome']}" for step in entry["steps"] if step["outcome"] != "unchanged"]
    idle = len(entry["steps"]) - len(told)
    words = ", ".join([*told, f"{idle} with nothing to do"] if idle else told)
    story.measured(f"stage {stage}", f"{entry['state']} in {entry['seconds']:.2f} s: {words}")


def _identity(story: Story, vm: Machine) -> None:
    story.measured("hostname", vm.output("cat /proc/sys/kernel/hostname"))
    addresses = re.findall(r"\S+/\d+", vm.output("ip -br addr show scope global"))
    story.measured("addresses", ", ".join(addresses))
    story.measured("default route", vm.output("ip route show default"))
    story.measured("user", vm.output("id admin1"))
    story.measured("swap", vm.output("swapon --noheadings --show=NAME,SIZE"))
    vm.wait_until("test $(df --output=size -B1M / | tail -1) -gt 2700")
    story.measured("root filesystem", vm.output("df -h --output=size / | tail -1"))
    vm.wait_until("grep -q ^run /root/order")
    story.measured("the customer's script", vm.output("cat /root/order").replace("\n", "; "))


def _disk(story: Story, vm: Machine, folder: Path) -> None:
    path = make_filesystem(folder / "data.img", GIB, "ext4", label="data")
    waiting = vm.spawn("until mountpoint -q /srv/data; do sleep 0.02; done")
    at = time.monotonic()
    vm.add_disk(Disk(path=path, id="data"))
    waiting.result().checked()
    story.measured("disk attached", f"mounted at /srv/data after {_since(at)}")
    waiting = vm.spawn("until test $(stat -fc %b /srv/data) -gt 400000; do sleep 0.02; done")
    at = time.monotonic()
    vm.resize_disk("data", 2 * GIB)
    waiting.result().checked()
    size = vm.output("df -h --output=size /srv/data | tail -1")
    story.measured("disk resized to 2 GiB", f"grown after {_since(at)}, df says {size}")
    at = time.monotonic()
    vm.remove_disk("data")
    vm.wait_until("! test -e /srv/data")
    story.measured("disk detached", f"mount and mountpoint gone after {_since(at)}")


def _since(moment: float) -> str:
    return f"{(time.monotonic() - moment) * 1000:.0f} ms"


if __name__ == "__main__":
    sys.exit(main())
