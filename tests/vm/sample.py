"""The machine that most tests set up: its document, its NICs, and the swap disk that the platform makes for
it.
"""

from __future__ import annotations

import base64
import copy
import json
from enum import StrEnum
from pathlib import Path
from typing import Any

from tests import media
from tests.vm.rig import GIB, MIB, Disk, GuestFile, Machine, MachineSpec, Nic

#: sha512-crypt of any password: only the text is compared.
HASH = "$6$rounds=5000$Zq1vN3xT$" + "k7Hc0Wm3/9sYp" * 6 + "abcdefgh"
NEW_HASH = "$6$rounds=5000$Aa2bB3cC$" + "Q2e4R6t8/zXcV" * 6 + "stuvwxyz"
#: A word in the script that must not be found anywhere else.
SCRIPT_SECRET = "correct-horse-battery-staple-7319"
RUN_SECRET = "run-secret-2207"


def public_key(number: int, comment: str) -> str:
    """Return an ed25519 public key in OpenSSH's format, another one for each ``number``."""
    kind = b"ssh-ed25519"
    blob = len(kind).to_bytes(4) + kind + (32).to_bytes(4) + bytes([number]) * 32
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} {comment}"


KEY, OTHER_KEY = public_key(1, "me@laptop"), public_key(2, "me@work")

#: Appends its arguments to /root/order, so that a second run would show.
SHORT_SCRIPT = f"""#!/bin/sh
# {SCRIPT_SECRET}
printf 'script %s in %s\\n' "$*" "$PWD" >> /root/order
for word in "$@"; do printf '<%s>' "$word" >> /root/arguments; done
""".encode()
#: Searches every process and unit for the secret as well, while the agent's own are there.
SCRIPT = (
    SHORT_SCRIPT
    + b"""\
cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' > /root/processes
systemctl show '*' > /root/units
"""
)
#: Waits for the end of the boot, which must not wait for it.
PATIENT_SCRIPT = SHORT_SCRIPT + b"systemctl is-system-running --wait > /root/system\n"

CONFIG: dict[str, Any] = {
    "vm_hostname": "vm1",
    "nameservers": ["203.0.113.3", "2001:db8::3", "203.0.113.4", "203.0.113.5"],
    "vif": [
        {
            "vif_number": 0,
            "pna": [
                {
                    "pna_address": "203.0.113.10",
                    "pbn": {"pbn_network": "203.0.113.0/24", "pbn_gateway": "203.0.113.254"},
                },
                {
                    "pna_address": "2001:db8::10",
                    "pbn": {"pbn_network": "2001:db8::/64", "pbn_gateway": "2001:db8::1"},
                },
            ],
        },
        {
            "vif_number": 1,
            "pna": [{"pna_address": "192.168.1.5", "pvn": {"pvn_network": "192.168.1.0/24"}}],
        },
    ],
    "vm_conf": {
        "user": "admin1",
        "password": HASH,
        "ssh_key": f"{KEY}\n{OTHER_KEY}\n{KEY}\n",
        "script_args": "one 'two words' three",
        "run": f"echo run in $PWD >> /root/order; : {RUN_SECRET}",
    },
}

#: As Debian's package cron ships it.
CRONTAB = """\
# /etc/crontab: system-wide crontab
SHELL=/bin/sh

17 *\t* * *\troot\tcd / && run-parts --report /etc/cron.hourly
25 6\t* * *\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }
47 6\t* * 7\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.weekly; }
52 6\t1 * *\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.monthly; }
"""
#: Left in the image, as by a builder who forgot to empty it.
BAKED_ID = "0123456789abcdef0123456789abcdef"
#: The source of ``gandi-agent status``; reading the file needs no interpreter.
STATUS = "/run/gandi/status.json"
#: A setting for images with host keys that no test looks at: new ones take an emulated machine long.
KEEPS_KEYS = "echo CONFIG_SSH_HOSTKEYS=0 >> /etc/default/gandi"
#: Packages of its image besides the agent's.
FILES = (
    GuestFile("/etc/crontab", CRONTAB.encode()),
    GuestFile("/etc/machine-id", f"{BAKED_ID}\n".encode()),
)


class Layout(StrEnum):
    """Where on the swap disk the archive is."""

    RAW = "512 KiB, raw"
    GPT = "512 KiB, GPT"
    START = "0, raw"


#: QEMU's user network answers pings and neighbour solicitations for its gateway; it leads nowhere.
PUBLIC_NIC = Nic(
    id="net0",
    mac="52:54:00:00:00:10",
    backend="user,restrict=on,net=203.0.113.0/24,host=203.0.113.254,dns=203.0.113.3,"
    "ipv6-net=2001:db8::/64,ipv6-host=2001:db8::1,ipv6-dns=2001:db8::3",
)
PRIVATE_NIC = Nic(
    id="net1",
    mac="52:54:00:00:00:11",
    backend="user,restrict=on,net=192.168.1.0/24,host=192.168.1.254,dns=192.168.1.253,ipv6=off",
)
#: The images are made with 1.5 GB.
ROOT_SIZE = 3 * GIB
SPEC = MachineSpec(
    nics=(PUBLIC_NIC, PRIVATE_NIC), root_size=ROOT_SIZE, uuid="6a1d8f5e-52a5-4c39-9d0c-000000000001"
)
SWAP_SIZE = 64 * MIB


def changed(**vm_conf: object) -> dict[str, Any]:
    """Return the document with other values in ``vm_conf``."""
    config = copy.deepcopy(CONFIG)
    config["vm_conf"].update(vm_conf)
    return config


def swap_disk(
    folder: Path,
    config: dict[str, Any] | None = None,
    *,
    script: bytes | None = SCRIPT,
    layout: Layout = Layout.RAW,
) -> Disk:
    """Make a new swap disk with the archive, as the platform does at each cold boot."""
    path = folder / f"swap-{len(list(folder.iterdir()))}.img"
    archive = media.make_archive(CONFIG if config is None else config, script=script)
    offset = 0 if layout is Layout.START else media.OFFSET
    media.swap_image(path, SWAP_SIZE, offset, archive=archive, gpt=layout is Layout.GPT)
    return Disk(path=path, id="swap")


def order(machine: Machine) -> list[str]:
    """Return the lines that script and command have written, one each, in the order in which they ran."""
    return machine.read_file("/root/order").decode().splitlines()


def _status(machine: Machine) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(machine.read_file(STATUS))
    return status


def steps(machine: Machine, stage: str) -> dict[str, str]:
    """Return the outcome of each step of a stage, as in ``gandi-agent status``."""
    status = _status(machine)
    return {step["step"]: step["outcome"] for step in status["stages"][stage]["steps"]}


def items(machine: Machine, stage: str) -> list[dict[str, str]]:
    """Return every item of a stage."""
    status = _status(machine)
    return [item for step in status["stages"][stage]["steps"] for item in step["items"]]
