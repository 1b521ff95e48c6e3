"""Who is compared: the same Debian image plain, with the package, and with Debian's cloud-init, on the same
virtual hardware and with the same job to do; and the package on a machine that has no job for it.

The job: hostname, a user with a key, a static IPv4 address with its route, one command as root at the end.
Each machine has one small disk besides its root disk: empty, the swap disk with the archive, or cloud-init's
seed. The image has SSH host keys, which stay, but for the boot that compares how they are made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

from tests.vm import sample
from tests.vm.rig import (
    MIB,
    Disk,
    GuestFile,
    ImageSpec,
    Machine,
    MachineSpec,
    Nic,
    RigError,
    make_filesystem,
    newest_deb,
)
from tests.vm.rig import make_disk as make_empty_disk
from tests.vm.rig.command import run
from tests.vm.rig.paths import PROJECT

#: The slice that the units of both contenders are put in, and the file of it that counts their CPU: a slice
#: also counts what units that are gone have used. Below system.slice, where they are without us.
SLICE = "system-bench.slice"
SLICE_FOLDER = f"/sys/fs/cgroup/system.slice/{SLICE}"
#: First words of the names of the units that are measured (systemd.unit(5): drop-ins by prefix).
PREFIXES = ("gandi", "cloud")
#: What the parts of the machine had used when ssh.service was about to be executed: the first line of
#: /proc/stat, then microseconds by name (cpu.stat). The same builtins of sh in every image, once a boot.
SHARES = "/run/bench-shares"
GROUPS = {
    "own": f"system.slice/{SLICE}",
    "udevd": "system.slice/systemd-udevd.service",
    "pid1": "init.scope",
    "services": "system.slice",
}
_NOTE_SHARES = f"""\
[ ! -e {SHARES} ] || exit 0
exec > {SHARES}
read -r line < /proc/stat
echo "$line"
for group in {" ".join(f"{name}:{group}" for name, group in GROUPS.items())}; do
    file=/sys/fs/cgroup/${{group#*:}}/cpu.stat
    [ -e $file ] || continue
    while read -r name value; do
        [ $name != usage_usec ] || echo ${{group%%:*}} $value
    done < $file
done
"""

_HOSTNAME, _USER, _ADDRESS, _GATEWAY = "vm1", "admin1", "203.0.113.10", "203.0.113.254"
_NETWORK, _RESOLVER = "203.0.113.0/24", "203.0.113.3"
#: A login on the console would have it for itself before a slow boot has ended, whose end would not be seen.
_NO_CONSOLE = "ln -s /dev/null /etc/systemd/system/serial-getty@ttyS0.service"
#: The host keys that sshd looks for.
_KEYS = ("rsa", "ecdsa", "ed25519")
#: What the customer's command leaves. A builtin of the shell: its CPU is not what is compared.
MARK = "/root/ran"
_COMMAND = f": > {MARK}"

NIC = Nic(
    id="net0",
    mac="52:54:00:00:00:10",
    backend=f"user,restrict=on,net={_NETWORK},host={_GATEWAY},dns={_RESOLVER},ipv6=off",
)
SPEC = MachineSpec(nics=(NIC,), uuid="6a1d8f5e-52a5-4c39-9d0c-000000000002", debian_initrd=True)


class Contender(StrEnum):
    """An image of the comparison."""

    PLAIN = "plain image"
    AGENT = "gandi-agent"
    EMPTY = "the same, nothing to do"
    CLOUD_INIT = "cloud-init"


def image_spec(who: Contender, *, keys: bool = False) -> ImageSpec:
    """The image of a contender; with ``keys`` one without SSH host keys, so that a first boot makes them."""
    noting = GuestFile("/usr/lib/rig/shares", _NOTE_SHARES.encode())
    files = (*map(_in_slice, PREFIXES), noting, _drop_in("ssh", f"ExecStartPre=/bin/sh {noting.path}"))
    commands = (_NO_CONSOLE, *(("rm /etc/ssh/ssh_host_*",) if keys else ()))
    match who:
        case Contender.PLAIN:
            return ImageSpec(commands=commands, files=files)
        case Contender.AGENT | Contender.EMPTY:
            # As in cloud-init's seed.
            settings = GuestFile("/etc/default/gandi", f"CONFIG_SSH_HOSTKEYS={keys:d}\n".encode())
            return ImageSpec(debs=(newest_deb(),), commands=commands, files=(*files, *_weight(), settings))
        case Contender.CLOUD_INIT:
            choice = b"datasource_list: [NoCloud, None]\n"
            sources = GuestFile("/etc/cloud/cloud.cfg.d/95_bench.cfg", choice)
            return ImageSpec(extra=("cloud-init",), commands=commands, files=(*files, sources))


def _drop_in(unit: str, text: str) -> GuestFile:
    return GuestFile(f"/etc/systemd/system/{unit}.service.d/bench.conf", f"[Service]\n{text}\n".encode())


def _in_slice(prefix: str) -> GuestFile:
    return _drop_in(f"{prefix}-", f"Slice={SLICE}")


def _weight() -> Iterator[GuestFile]:
    """The weight of the package's units for their slice too: it counts among siblings."""
    units = "".join(path.read_text() for path in (PROJECT / "units").glob("*.service"))
    if lines := set(re.findall("^StartupCPUWeight=.*", units, re.MULTILINE)):
        text = "\n".join(("[Slice]", *sorted(lines), ""))
        yield GuestFile(f"/etc/systemd/system/{SLICE}.d/bench.conf", text.encode())


def medium(who: Contender, folder: Path, *, keys: bool = False) -> Disk:
    """The disk that tells this contender's machine what to become, made new in ``folder``."""
    match who:
        case Contender.PLAIN | Contender.EMPTY:
            return Disk(path=make_empty_disk(folder / "empty.img", sample.SWAP_SIZE), id="swap")
        case Contender.AGENT:
            return sample.swap_disk(folder, _document(), script=None)
        case Contender.CLOUD_INIT:
            return Disk(path=_seed(folder, keys=keys), id="swap")


def _document() -> dict[str, Any]:
    network = {"pbn_network": _NETWORK, "pbn_gateway": _GATEWAY}
    return {
        "vm_hostname": _HOSTNAME,
        "nameservers": [_RESOLVER],
        "vif": [{"vif_number": 0, "pna": [{"pna_address": _ADDRESS, "pbn": network}]}],
        "vm_conf": {"user": _USER, "password": None, "ssh_key": sample.KEY, "run": _COMMAND},
    }


def data_disks(folder: Path, number: int = 4) -> Iterator[Disk]:
    """Data disks, each with an ext4 filesystem, made new in ``folder``."""
    for name in (f"data{index}" for index in range(number)):
        yield Disk(path=make_filesystem(folder / f"{name}.img", 64 * MIB, "ext4", label=name), id=name)


def _seed(folder: Path, *, keys: bool) -> Path:
    """cloud-init's NoCloud seed: a vfat disk labelled CIDATA (JSON is YAML)."""
    network = {
        "version": 2,
        "ethernets": {
            "net0": {
                "match": {"macaddress": NIC.mac},
                "addresses": [f"{_ADDRESS}/24"],
                "routes": [{"to": "0.0.0.0/0", "via": _GATEWAY}],
                "nameservers": {"addresses": [_RESOLVER]},
            }
        },
    }
    user = {"name": _USER, "shell": "/bin/bash", "groups": "sudo", "ssh_authorized_keys": [sample.KEY]}
    user_data = {"users": [user], "ssh_deletekeys": keys, "runcmd": [["sh", "-c", _COMMAND]]}
    contents = {
        "meta-data": json.dumps({"instance-id": "bench", "local-hostname": _HOSTNAME}),
        "network-config": json.dumps(network),
        "user-data": "#cloud-config\n" + json.dumps(user_data),
    }
    disk = make_filesystem(folder / "seed.img", sample.SWAP_SIZE, "vfat", label="CIDATA")
    for name, text in contents.items():
        run(["mcopy", "-i", disk, "-", f"::{name}"], stdin=text)
    return disk


def check(who: Contender, machine: Machine) -> None:
    """RigError unless the machine has become what it was to become: only those who do the job are compared.

    It has SSH host keys of all kinds, and the agent has also mounted each data disk.
    """
    machine.run(f"cd /etc/ssh && test {' -a '.join(f'-s ssh_host_{kind}_key' for kind in _KEYS)}")
    if who in (Contender.PLAIN, Contender.EMPTY):
        return
    if who is Contender.AGENT:
        for disk in machine.disks[1:]:
            machine.run(f"mountpoint -q /srv/{disk.id}")
    machine.wait_until(f"test -e {MARK}")
    address = machine.output("ip -4 -br addr show scope global")
    route = machine.output("ip route show default")
    keys = machine.read_file(f"/home/{_USER}/.ssh/authorized_keys").decode()
    hostname = machine.output("cat /proc/sys/kernel/hostname")
    wrong = [
        found
        for found, expected in (
            (hostname, _HOSTNAME),
            (address, f"{_ADDRESS}/24"),
            (route, _GATEWAY),
            (keys, sample.KEY),
        )
        if expected not in found
    ]
    if wrong:
        raise RigError(f"{who} did not do the job: {wrong}")
