"""A machine's first boot with an archive on its swap disk: the archive is applied."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from agent.host.host import Host
from agent.image import kernel_image
from tests.unit.metrics import test_exposition
from tests.vm import checks, sample
from tests.vm.conftest import Rig
from tests.vm.rig import (
    MIB,
    Disk,
    Image,
    ImageSpec,
    Machine,
    MachineSpec,
    State,
    Table,
    build,
    make_filesystem,
    newest_deb,
)

UNITS = ("gandi-agent", "gandi-bootstrap", "gandi-mount", "gandi-config", "gandi-postboot")


@pytest.mark.long
def test_an_archive_on_a_raw_disk_becomes_the_machine(machine: Rig, set_up: State) -> None:
    """At 512 KiB; the machine's root filesystem is on the whole disk, without a partition table."""
    vm = machine.clone(set_up)
    _is_the_machine(vm)
    checks.addresses(vm)
    checks.nothing_left_on(set_up.folder / "swap")


def test_where_the_time_went_is_told(machine: Rig, set_up: State, tmp_path: Path) -> None:
    """After a first boot with a script, and a disk that was attached since; metrics of that are written."""
    vm = machine.clone(set_up)
    vm.run("mkdir /root/metrics; echo CONFIG_METRICS_FILE=/root/metrics/a.prom >> /etc/default/gandi")
    vm.add_disk(Disk(path=make_filesystem(tmp_path / "data.img", 64 * MIB, "ext4", label="data"), id="data"))
    vm.wait_until("grep -q 'mounted at /srv/data' /run/gandi/status.json")
    found = vm.json("gandi-agent timeline --json")
    measured = int(vm.output("systemctl show -P ActiveEnterTimestampMonotonic ssh")) / 1e6
    parts = [part["end"] - part["begin"] + part["waited"] for part in found["path"]]
    assert sum(parts) == pytest.approx(measured, rel=0.05)
    named = {part["name"]: part for part in found["path"]}
    assert {"kernel", "systemd", "gandi-bootstrap.service", "ssh.service"} <= named.keys()
    bootstrap = [part["name"] for part in named["gandi-bootstrap.service"]["inner"]]
    assert {"the daemon starts", "source", "network", "users"} <= set(bootstrap)
    assert [stage["name"] for stage in found["stages"]] == ["bootstrap", "mount", "config", "postboot"]
    assert [script["name"] for script in found["scripts"]] == ["script", "run"]
    (event,) = (event for event in found["events"] if "mounted at /srv/data" in event["text"])
    marks = [name for name, _ in event["marks"]]
    assert (marks[0], marks[-2:]) == ("kernel", ["begun", "done"])
    assert 0 < event["marks"][-1][1] - event["marks"][0][1] < 30
    vm.run("gandi-agent timeline --svg /root/boot.svg")
    ET.fromstring(vm.read_file("/root/boot.svg"))
    shown = vm.output("gandi-agent timeline")
    assert max(map(len, shown.split("\n"))) <= 80
    assert "gandi-bootstrap.service" in shown
    assert "ssh.service" in vm.output("setpriv --reuid=nobody --clear-groups gandi-agent timeline")
    vm.wait_until("test -s /root/metrics/a.prom")
    values = test_exposition.check(vm.read_file("/root/metrics/a.prom").decode())
    assert values["gandi_agent_disks", ("mounted",)] == 1
    assert values["gandi_agent_events_total", ("disk", "changed")] >= 1
    assert values["gandi_agent_stage_success", ("bootstrap",)] == 1
    assert vm.output("stat -c '%a %U' /root/metrics/a.prom") == "644 root"


@pytest.mark.long
def test_an_archive_on_a_gpt_disk_becomes_the_machine(machine: Rig, tmp_path: Path) -> None:
    """With the partition gandiswap; the root disk has an msdos table. The script waits for the end of the
    boot. It boots with Debian's own initrd, and with its kernel as the agent unpacks it: an ELF image, which
    QEMU starts by its PVH entry.
    """
    disk = sample.swap_disk(tmp_path, layout=sample.Layout.GPT, script=sample.PATIENT_SCRIPT)
    image = build(_spec(Table.MSDOS))
    unpacked = _with_unpacked_kernel(image, tmp_path / "image")
    vm = _boot(machine, unpacked, disk, replace(sample.SPEC, debian_initrd=True))
    assert vm.read_file("/root/system") == b"running\n"
    _is_the_machine(vm)
    checks.addresses(vm)
    vm.run("sync")
    checks.nothing_left_on(disk.path)
    _unpacks_by_force(vm, image.kernel, tmp_path)


def with_an_archive_at_the_start(folder: Path) -> tuple[Image, Disk]:
    """Return an image with a GPT, of which the backup header is not at the end of a larger disk, and a swap
    disk with the archive at offset 0. Its gateway is outside the address's network (a /32). This machine's
    first boot is in test_report.py.
    """
    config = sample.changed()
    pna = config["vif"][0]["pna"][0]
    pna["pna_address"], pna["pbn"]["pbn_network"] = "198.51.100.10", "198.51.100.10/32"
    disk = sample.swap_disk(folder, config, script=sample.SHORT_SCRIPT, layout=sample.Layout.START)
    return build(_spec(Table.GPT)), disk


def is_that_machine(vm: Machine, disk: Disk) -> None:
    """Check its first boot: an on-link route, over which the gateway answers, and a table that is whole."""
    vm.wait_until("grep -q ^run /root/order")
    _is_the_machine(vm)
    (route,) = vm.json("ip -j route show default")
    assert route["gateway"] == "203.0.113.254"
    assert "onlink" in route["flags"]
    vm.run("ping -c1 -W5 203.0.113.254")
    assert "gandiroot" in vm.output("lsblk -rno PARTLABEL /dev/vda").split()
    vm.run("sfdisk --verify /dev/vda")
    vm.run("sync")
    checks.nothing_left_on(disk.path)


def _spec(table: Table) -> ImageSpec:
    return ImageSpec(debs=(newest_deb(),), table=table, commands=(sample.KEEPS_KEYS,))


def _boot(machine: Rig, image: Image, disk: Disk, spec: MachineSpec = sample.SPEC) -> Machine:
    vm = machine.start(image, spec, disks=[disk])
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend; systemctl list-jobs")
    vm.wait_until("grep -q ^run /root/order")
    return vm


def _with_unpacked_kernel(image: Image, folder: Path) -> Image:
    """Return the image with its kernel unpacked by the agent, in a folder of its own."""
    folder.mkdir()
    for file in image.folder.iterdir():
        (folder / file.name).symlink_to(file)
    unpacked = folder / "vmlinuz"
    unpacked.unlink()
    shutil.copy(image.kernel, unpacked)
    assert kernel_image.unpack_image(Host(), str(unpacked)).outcome == "changed"
    assert unpacked.read_bytes()[:4] == b"\x7fELF"
    return replace(image, folder=folder)


def _unpacks_by_force(vm: Machine, kernel: Path, folder: Path) -> None:
    """In the guest, which is not a Xen PV machine, kernels are unpacked only by force; a damaged one is
    refused.
    """
    packed = kernel.read_bytes()
    disk = folder / "packed.img"
    disk.write_bytes(packed + bytes(-len(packed) % MIB))
    vm.add_disk(Disk(path=disk, id="packed", serial="packed"))
    vm.wait_until("test -b /dev/disk/by-id/virtio-packed")
    vm.run(f"head -c {len(packed)} /dev/disk/by-id/virtio-packed > /root/vmlinuz-9")
    before = vm.output("sha256sum /root/vmlinuz-9")
    assert "only a Xen PV machine needs it" in vm.output("gandi-agent decompress-kernel /root/vmlinuz-9")
    vm.run("/etc/kernel/postinst.d/gandi-agent 9 /root/vmlinuz-9")
    assert vm.output("sha256sum /root/vmlinuz-9") == before
    vm.run("head -c 5000000 /root/vmlinuz-9 > /root/part")
    said = vm.output(
        "cd /root; for file in part vmlinuz-9 /etc/passwd; do "
        "gandi-agent decompress-kernel --force $file; done; :"
    )
    assert "truncated" in said
    assert "install the package zstd" in said
    assert "not an x86 kernel image" in said
    assert vm.output("sha256sum /root/vmlinuz-9") == before


def _is_the_machine(vm: Machine) -> None:
    for check in (
        checks.names,
        checks.accounts,
        checks.resolvers,
        checks.swap,
        _scripts,
        _units,
        checks.grown,
    ):
        check(vm)


def _scripts(vm: Machine) -> None:
    assert sample.order(vm) == ["script one two words three in /", "run in /"]
    assert vm.read_file("/root/arguments") == b"<one><two words><three>"
    online = "grep -x ONLINE_STATE=online /run/systemd/netif/state"
    vm.run(f"systemctl is-active network-online.target || {online}")
    assert vm.output("stat -c '%a %u' /gandi/config") == "600 0"


def _units(vm: Machine) -> None:
    assert vm.output(f"systemctl show -P Result {' '.join(UNITS)}").split() == ["success"] * len(UNITS)
    shown = vm.output("systemctl status --no-pager --lines=50 gandi-bootstrap")
    for step in ("source", "swap", "hostname", "network", "resolver", "users"):
        assert f"{step}: changed" in shown, shown
    assert vm.run("gandi-agent status --wait=60").rc == 0
    verdict = vm.output("gandi-agent status --format=short")
    assert verdict.startswith("ready: first boot took ")
    assert verdict.endswith(", nothing failed")
    assert "cycle" not in vm.journal("init.scope")
