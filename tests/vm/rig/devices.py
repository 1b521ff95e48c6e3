"""Hot-plug over QMP, as the platform does it to a running machine."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import qemu
from .command import RigError
from .process import Running
from .spec import MIB, Bus, Disk, MachineSpec, Nic

UNPLUG_TIMEOUT = 60


class Devices(Running):
    """Add, resize and remove devices. A mix-in of Machine, with the list of used root ports."""

    _free_ports: list[str]
    _ports: dict[str, str]

    def reset_ports(self, spec: MachineSpec) -> None:
        """Mark all root ports as free, when QEMU has started."""
        self._free_ports = [f"port{number}" for number in range(spec.root_ports)]
        self._ports = {}

    def _take_port(self, device: str) -> str:
        if not self._free_ports:
            raise RigError("no free PCIe root port; raise MachineSpec.root_ports")
        port = self._free_ports.pop(0)
        self._ports[device] = port
        return port

    def _give_back(self, device: str) -> None:
        if port := self._ports.pop(device, ""):
            self._free_ports.append(port)

    # -- disks -------------------------------------------------------------------------------------

    def add_disk(self, disk: Disk, *, fails: Sequence[str] = (), after: int = 0) -> None:
        """Attach a disk; it answers the operations in ``fails`` with EIO ``after`` so many writes (see
        `break_disk`). Raise RigError for SATA: QEMU's AHCI has no hot-plug.
        """
        port = ""
        if disk.bus in (Bus.VIRTIO, Bus.NVME):
            port = self._take_port(f"{disk.id}-dev")
        self.qmp.call("blockdev-add", **qemu.blockdev(disk))
        options = qemu.device_options(disk, port=port)
        if fails:
            options["drive"] = self._failing(disk.id, fails, after)
        self.qmp.call("device_add", **options)

    def break_disk(self, id: str, fails: Sequence[str], *, after: int = 0) -> None:
        """Have a disk answer these operations with EIO: read, write, write-zeroes, discard, flush. It
        does so once ``after`` more writes have succeeded, from the next write on.
        """
        self._lead(id, self._failing(id, fails, after))

    def mend_disk(self, id: str) -> None:
        """Have the disk answer normally again."""
        self._lead(id, id)
        self.qmp.call("blockdev-del", node_name=f"{id}-fails")

    def _failing(self, id: str, fails: Sequence[str], after: int) -> str:
        """Add a node in front of the disk's, on which these operations fail; return its name."""
        # The state counts: it is 1 at first, and the number of writes plus 1 later. A rule that has begun to
        # apply goes on.
        writes = ("pwritev", "pwritev_zero") if after else ("none",)
        counted = {"state": after + 1} if after else {}
        rules = [
            {"event": event, "iotype": kind, "errno": errno.EIO} | counted
            for event in writes
            for kind in fails
        ]
        states = [
            {"event": event, "state": number, "new_state": number + 1}
            for event in writes
            for number in range(1, after + 1)
        ]
        name = f"{id}-fails"
        self.qmp.call(
            "blockdev-add",
            driver="blkdebug",
            node_name=name,
            image=id,
            inject_error=rules,
            set_state=states,
        )
        return name

    def writes(self, id: str) -> tuple[int, int]:
        """Return how many writes a disk has answered since QEMU's start, and how many of these with an
        error.
        """
        for device in self.qmp.call("query-blockstats"):
            if f"/{id}-dev/" in f"{device.get('qdev', '')}/":
                stats = device["stats"]
                done, failed = stats["wr_operations"], stats["failed_wr_operations"]
                return done + failed, failed
        raise RigError(f"no disk {id}")

    def _lead(self, id: str, node: str) -> None:
        self.qmp.call("qom-set", path=f"/machine/peripheral/{id}-dev", property="drive", value=node)

    def remove_disk(
        self, id: str, *, timeout: float = UNPLUG_TIMEOUT, meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        """Detach a disk that was hot-added or is on SCSI, and wait until the guest has released it.
        ``meanwhile`` is called after the request to the guest.
        """
        self._unplug(f"{id}-dev", timeout, meanwhile)
        self.qmp.call("blockdev-del", node_name=id)

    def change_medium(self, id: str, path: Path) -> None:
        """Put another image into an optical drive; for the guest the tray opens and closes."""
        self.qmp.call(
            "blockdev-change-medium",
            id=f"{id}-dev",
            filename=str(path),
            format="raw",
            read_only_mode="read-only",
            force=True,
        )

    def resize_disk(self, id: str, size: int) -> None:
        """Set a disk's size in bytes; the guest gets an event at once. Not for NVMe."""
        nodes = {node["node-name"] for node in self.qmp.call("query-named-block-nodes", flat=True)}
        self.qmp.call("block_resize", node_name=f"{id}-fails" if f"{id}-fails" in nodes else id, size=size)

    # -- NICs --------------------------------------------------------------------------------------

    def add_nic(self, nic: Nic) -> None:
        """Attach a virtio NIC."""
        netdev, device = qemu.nic_arguments(nic)[1::2]
        self.qmp.human(f"netdev_add {netdev}")
        driver, *options = device.split(",")
        arguments = dict(option.split("=", 1) for option in options)
        self.qmp.call("device_add", driver=driver, bus=self._take_port(nic.id), **arguments)

    def remove_nic(self, id: str, *, timeout: float = UNPLUG_TIMEOUT) -> None:
        """Detach a hot-added NIC and wait until the guest has released it."""
        self._unplug(id, timeout)
        self.qmp.call("netdev_del", id=f"{id}-net")

    def set_link(self, id: str, *, up: bool) -> None:
        """Plug the cable of a NIC in or out."""
        self.qmp.call("set_link", name=id, up=up)

    # -- memory and CPUs ---------------------------------------------------------------------------

    def add_memory(self, id: str, mib: int) -> None:
        """Plug a memory module of `mib` MiB (a multiple of 128: Linux' block size on x86-64)."""
        self.qmp.call("object-add", qom_type="memory-backend-ram", id=f"{id}-mem", size=mib * MIB)
        self.qmp.call("device_add", driver="pc-dimm", id=id, memdev=f"{id}-mem")

    def remove_memory(self, id: str, *, timeout: float = UNPLUG_TIMEOUT) -> None:
        """Unplug a memory module; works only when the guest has its blocks offline."""
        self._unplug(id, timeout)
        self.qmp.call("object-del", id=f"{id}-mem")

    def add_virtio_memory(self, id: str, mib: int, *, most: int) -> None:
        """Plug a virtio-mem device that gives `mib` MiB now and may grow to `most`."""
        self.qmp.call("object-add", qom_type="memory-backend-ram", id=f"{id}-mem", size=most * MIB)
        options = {"driver": "virtio-mem-pci", "memdev": f"{id}-mem", "requested-size": mib * MIB}
        self.qmp.call("device_add", id=id, bus=self._take_port(id), **options)

    def resize_virtio_memory(self, id: str, mib: int) -> None:
        """Ask the guest to use that many MiB of it."""
        path = f"/machine/peripheral/{id}"
        self.qmp.call("qom-set", path=path, property="requested-size", value=mib * MIB)

    def add_cpu(self, id: str) -> None:
        """Plug the first CPU that is missing; needs MachineSpec.max_cpus."""
        free = [slot for slot in self.qmp.call("query-hotpluggable-cpus") if "qom-path" not in slot]
        if not free:
            raise RigError("all CPUs are plugged; raise MachineSpec.max_cpus")
        slot = min(free, key=lambda slot: int(slot["props"]["core-id"] + slot["props"]["socket-id"]))
        self.qmp.call("device_add", driver=slot["type"], id=id, **slot["props"])

    # -- common ------------------------------------------------------------------------------------

    def _unplug(self, device: str, timeout: float, meanwhile: Callable[[], object] = lambda: None) -> None:
        def gone(data: dict[str, Any]) -> bool:
            return data.get("device") == device

        self.qmp.call("device_del", id=device)
        meanwhile()
        self.qmp.wait_event("DEVICE_DELETED", timeout, gone)
        self._give_back(device)
