"""An administrator who does anything at any time, beside the platform: the machine is always as the model
(oracle.py) says.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.vm import oracle, seen
from tests.vm.campaign import Rounds, dice
from tests.vm.oracle import Oracle, Owner, Volume
from tests.vm.rig import MIB, Bus, Disk, GuestError, Machine, make_filesystem
from tests.vm.rig.command import run

#: The least of XFS is 300 MiB. A disk beyond the most is replaced when it is attached again.
SIZE, MOST = 320 * MIB, 3000 * MIB
#: Seconds until the machine must be as the model says, in a slow guest.
BOUND = 90
SETTINGS, LOOK = "/etc/default/gandi", "/run/seen.py"
#: The most actions without a wait between them; each is on another disk.
BURST = 3
OPTIONS = ("rw,nosuid,nodev,noatime", "rw,nosuid,nodev,noexec,relatime")
TRIGGER = "udevadm trigger --subsystem-match=block"
#: Restarts and repeated events, which change nothing but that devices are examined.
RESTARTS = {
    "restart": "systemctl restart gandi-agent",
    "stop": "systemctl stop gandi-agent; systemctl start gandi-agent",
    # systemd delays each restart longer (RestartSteps=).
    "kill": "systemctl kill --kill-whom=main -s KILL gandi-agent; systemctl reset-failed gandi-agent",
    "reexec": "systemctl daemon-reexec",
    "reload": "systemctl daemon-reload",
    # Events that udevd has in its queue when it is stopped are lost without a notice.
    "udevd": "udevadm settle; systemctl reset-failed systemd-udevd; systemctl restart systemd-udevd",
    "journald": "systemctl reset-failed systemd-journald; systemctl restart systemd-journald",
    "trigger": TRIGGER,
}
#: Those after which the agent examines every device.
EXAMINING = ("restart", "stop", "kill", "trigger")


class Operator:
    """The administrator and the platform. Each action is done in the guest and in the model."""

    def __init__(self, vm: Machine, folder: Path, chance: random.Random) -> None:
        self.vm, self.chance, self.model = vm, chance, Oracle()
        self._defaults = vm.read_file(SETTINGS).decode()
        self._labels = 0
        #: Disks that were acted on since the model was compared.
        self._busy: set[str] = set()
        self._plugs: dict[str, Disk] = {}
        vm.write_file(LOOK, Path(seen.__file__).read_bytes())
        vm.run("mkdir /data")
        for name, bus in {
            "one": Bus.VIRTIO,
            "two": Bus.VIRTIO,
            "three": Bus.VIRTIO,
            "four": Bus.SCSI,
        }.items():
            self._plugs[name] = Disk(path=folder / f"{name}.img", id=name, bus=bus, serial=name)
            self.model.disks[name] = oracle.Disk(name, SIZE, self._replaced(name))
            self._attach(self.model.disks[name])

    def act(self) -> str:
        """Do something at random, and return what."""
        if self.chance.random() < 0.3:
            name = self.chance.choice(list(RESTARTS))
            self.vm.run(RESTARTS[name])
            if name in EXAMINING:
                self.model.examine_all()
            return name
        if self.chance.random() < 0.2:
            self.is_right()
            done = self.chance.choice((self._edit, self._edit, self._mount_stage, self._trigger_add))()
            self.is_right()
            return done
        disks = [disk for disk in self.model.disks.values() if disk.name not in self._busy]
        disk = self.chance.choice(disks)
        self._busy.add(disk.name)
        return f"{self.chance.choice(list(self._possible(disk)))(disk)} {disk.name}"

    def is_right(self) -> None:
        """Wait until the machine is as the model says, then mark new filesystems. Raise GuestError with what
        differs.
        """
        self.vm.run("udevadm settle")
        wanted = self.model.wanted()
        print(f"  {wanted}")
        look = ["python3", "-IS", LOOK, json.dumps(wanted)]
        try:
            waited = self.vm.wait_until(look, timeout=BOUND, interval=1)
        except GuestError:
            # The last look may have been cut off in the middle by the limit.
            self.vm.run(look)
            raise
        print(f"  right after {waited.seconds:.1f} s")
        self._busy.clear()
        self.model.gone.clear()
        lines = []
        for disk in self.model.present():
            if disk.mounts and not disk.volume.marked:
                marker = f"{next(iter(disk.mounts))}/marker"
                lines.append(f"printf %s {disk.volume.uuid} > {marker}; sync {marker}")
                disk.volume.marked = True
        if lines:
            self.vm.run("set -e\n" + "\n".join(lines))

    @property
    def is_due(self) -> bool:
        """Whether the model is to be compared before the next action."""
        return len(self._busy) >= BURST or self.chance.random() < 0.35

    # -- what can be done to a disk ----------------------------------------------------------------

    def _possible(self, disk: oracle.Disk) -> Iterator[Callable[[oracle.Disk], str]]:
        """Yield the actions that make sense now; one that comes twice is twice as likely."""
        if not disk.attached:
            yield self._attach
            return
        yield self._add_event
        if not disk.swapping and self.model.ends_mounts(disk):
            yield self._unplug
        if disk.size < MOST and not disk.swapping:
            yield self._resize
        if disk.mounts:
            yield from (self._umount, self._umount)
            if set(disk.mounts) == {disk.volume.at}:
                yield from (self._release, self._mount_elsewhere)
        if disk.is_idle:
            yield from (self._mkfs, self._mkfs)
            if disk.volume.fs != "swap":
                yield from (self._give_back, self._give_back, self._mount_elsewhere)
            if disk.volume.fs == "ext4":
                yield self._relabel
        if disk.volume.fs == "swap":
            yield self._swap

    def _attach(self, disk: oracle.Disk) -> str:
        if disk.size > MOST:
            disk.size, disk.volume = SIZE, self._replaced(disk.name)
        self.vm.add_disk(self._plugs[disk.name])
        self.model.attach(disk)
        return "attach"

    def _unplug(self, disk: oracle.Disk) -> str:
        self.vm.remove_disk(disk.name)
        self.model.unplug(disk)
        return "unplug"

    def _resize(self, disk: oracle.Disk) -> str:
        size = disk.size * 3 // 2 // MIB * MIB
        self.vm.resize_disk(disk.name, size)
        self.model.resize(disk, size)
        return f"resize to {size // MIB} MiB:"

    def _umount(self, disk: oracle.Disk) -> str:
        path = self.chance.choice(sorted(disk.mounts))
        self.vm.run(["umount", path])
        self.model.umount(disk, path)
        if disk.owner is Owner.AGENT:
            # Nothing tells the agent that a disk which it never mounted is free; the next event does.
            self._on(disk, "udevadm trigger $node")
            self.model.examine(disk)
        return f"umount {path}"

    def _mount_elsewhere(self, disk: oracle.Disk) -> str:
        path = f"/mnt/{disk.name}"
        self._on(disk, f"mkdir -p {path}; mount $node {path}")
        self.model.mount_elsewhere(disk, path)
        if told := self.chance.random() < 0.5:
            self._on(disk, "udevadm trigger $node")
            self.model.examine(disk)
        return f"mount {path}{', trigger' if told else ''}"

    def _release(self, disk: oracle.Disk) -> str:
        self._on(
            disk, self.chance.choice((f"gandi-agent detach {disk.volume.at}", "gandi-agent detach $node"))
        )
        self.model.release(disk)
        return "detach"

    def _give_back(self, disk: oracle.Disk) -> str:
        may = self.model.settings.allow and self.model.settings.ignore != disk.name
        self._on(disk, "gandi-agent mount $node", fails=not may)
        self.model.give_back(disk)
        return "mount" if may else "mount (refused)"

    def _add_event(self, disk: oracle.Disk) -> str:
        self._on(disk, "udevadm trigger --action=add $node")
        self.model.give_back(disk)
        return "add event"

    def _mkfs(self, disk: oracle.Disk) -> str:
        fs = self.chance.choice(("ext4", "ext4", "xfs", "vfat", "swap"))
        volume = Volume(fs, str(uuid.UUID(int=self.chance.getrandbits(128), version=4)), "", disk.size)
        volume.label = self._label(disk.name, fs)
        make = {
            "ext4": f"mkfs.ext4 -qF -U {volume.uuid} -L {volume.label}",
            "xfs": f"mkfs.xfs -qf -m uuid={volume.uuid} -L {volume.label}",
            "vfat": f"mkfs.vfat -I --mbr=n -n {volume.label}",
            "swap": f"mkswap -q -U {volume.uuid} -L {volume.label}",
        }
        self._on(disk, f"wipefs -qa $node; {make[fs]} $node")
        self.model.make(disk, volume)
        return f"mkfs {fs} {volume.label}"

    def _relabel(self, disk: oracle.Disk) -> str:
        disk.volume.label = self._label(disk.name, "ext4")
        self._on(disk, f"e2label $node {disk.volume.label}")
        self.model.examine(disk)
        return f"e2label {disk.volume.label}"

    def _swap(self, disk: oracle.Disk) -> str:
        command = "swapoff" if disk.swapping else "swapon"
        self._on(disk, f"{command} $node")
        disk.swapping = not disk.swapping
        return command

    # -- what concerns all -------------------------------------------------------------------------

    def _edit(self) -> str:
        settings = self.model.settings
        match name := self.chance.choice(("allow", "allow", "grow", "root", "params", "ignore", "idle")):
            case "allow" | "grow":
                setattr(settings, name, not getattr(settings, name))
            case "root":
                settings.root = "/data" if settings.root == "/srv" else "/srv"
            case "params":
                settings.params = OPTIONS[settings.params == OPTIONS[0]]
            case "ignore":
                settings.ignore = self.chance.choice(["", *self.model.disks])
            case _:
                settings.idle = self.chance.choice((1, 5, 60))
        self.vm.write_file(SETTINGS, self._defaults + settings.lines())
        self.vm.run(self.chance.choice((TRIGGER, RESTARTS["restart"])))
        self.model.examine_all()
        return f"edit {name}={getattr(settings, name)}"

    def _mount_stage(self) -> str:
        self.vm.run("systemctl restart gandi-mount")
        if any(not disk.swapping for disk in self.model.present()):
            self.model.mount_stage()
        return "the mount stage"

    def _trigger_add(self) -> str:
        self.vm.run(f"{TRIGGER} --action=add")
        for disk in self.model.present():
            self.model.give_back(disk)
        return "add events of all"

    # -- parts -------------------------------------------------------------------------------------

    def _on(self, disk: oracle.Disk, commands: str, *, fails: bool = False) -> None:
        """Run commands with the device's node in $node. Raise GuestError if one fails, or if with ``fails``
        they do not.
        """
        node = f"node=$(lsblk -dnpo NAME,SERIAL | awk '$2 == \"{disk.name}\" {{ print $1 }}'); test -b $node"
        self.vm.run(f"set -e; {node}; {'! ' if fails else ''}{{ {commands}; }}", timeout=120)

    def _label(self, name: str, fs: str) -> str:
        """Return a label that no other filesystem has had."""
        self._labels += 1
        label = f"{name}-{self._labels}"
        return label.upper() if fs == "vfat" else label

    def _replaced(self, name: str) -> Volume:
        """Make a new disk on the host."""
        label, path = self._label(name, "ext4"), self._plugs[name].path
        make_filesystem(path, SIZE, "ext4", label=label)
        found = run(["blkid", "-p", "-s", "UUID", "-o", "value", path])
        return Volume("ext4", found.strip(), label, SIZE)


@pytest.mark.soak
def test_random_actions_of_an_operator_end_as_the_model_says(
    booted: Machine, tmp_path: Path, rounds: Rounds
) -> None:
    operator = Operator(booted, tmp_path, dice("operator"))
    operator.is_right()
    for number in rounds(10, 1000):
        print(f"action {number}: {operator.act()}")
        if operator.is_due:
            operator.is_right()
    booted.run(f"{TRIGGER}; systemctl restart gandi-agent")
    operator.model.examine_all()
    operator.is_right()
    assert booted.output("systemctl is-system-running") == "running"
    assert "unexpected" not in booted.journal("gandi-agent")
