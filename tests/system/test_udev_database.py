"""Our reading of udev's records beside libudev's, of the same records: udev's own format is not promised."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).parents[2]
RECORD = """S:disk/by-label/data
S:disk/by-id/é
L:10
I:2188093
E:ID_FS_TYPE=ext4
E:ID_FS_LABEL_ENC=a=b\\x20c
E:ID_SERIAL=
E:GANDI_ROLE=disk
G:systemd
G:gandi
Q:gandi
V:1
"""
#: What libudev adds that we do not: tags are asked for by their folder.
TAGS = {"TAGS", "CURRENT_TAGS"}
PROGRAM = f"""
import json, os, sys
sys.path.insert(0, {str(TREE)!r})
import pyudev
from agent.host.host import Host
from agent.udev import database
host, udev, name, record = Host(), pyudev.Context(), sys.argv[1], sys.argv[2]
number, index = open(f"/sys/class/block/{{name}}/dev").read().strip(), 1
for folder in ("data", "tags/gandi"):
    os.makedirs(f"/run/udev/{{folder}}")
before = [database.block(host, name), dict(pyudev.Devices.from_name(udev, "block", name).properties)]
for key in (f"b{{number}}", f"n{{index}}"):
    open(f"/run/udev/data/{{key}}", "w").write(record)
    open(f"/run/udev/tags/gandi/{{key}}", "w")
block, net = (pyudev.Devices.from_name(udev, *one) for one in (("block", name), ("net", "lo")))
theirs = [dict(block.properties), dict(net.properties)]
ours = [database.block(host, name), database.interface(host, index)]
found = {{d.sys_name for d in udev.list_devices(tag="gandi") if d.is_initialized}}
print(json.dumps([before, ours, theirs, sorted(found), sorted(dict(database.tagged(host, "gandi")))]))
"""


def test_a_record_says_what_libudev_reads_in_it() -> None:
    name = sorted(os.listdir("/sys/class/block"))[0]
    mount = 'mount -t tmpfs tmpfs /run && exec "$@"'
    argv = ("unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", PROGRAM, name, RECORD)
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    before, (block, net), (their_block, their_net), found, tagged = json.loads(done.stdout)
    assert before[0] == before[1], "a device that udev has not seen"
    for found_block in (block, their_block):  # a set in libudev, in no order
        found_block["DEVLINKS"] = sorted(found_block["DEVLINKS"].split())
    assert block == {key: value for key, value in their_block.items() if key not in TAGS}
    assert block["USEC_INITIALIZED"] == "2188093"
    assert net.items() <= their_net.items()
    assert net["GANDI_ROLE"] == "disk"
    assert len(tagged) == 2
    assert found == sorted({name, "lo"})
