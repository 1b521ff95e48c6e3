"""Run in the guest: compare the machine with the state in the first argument (JSON, `Oracle.wanted`). Print
each difference; exit with 1 if there is one. Cheap facts come first: this is repeated until nothing differs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

#: Where the campaign's disks may be mounted, as units of PID 1 name them.
ROOTS = ("/srv/", "/data/", "/mnt/")


def output(*argv: str) -> str:
    """Return a program's output, whatever its exit status."""
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False).stdout


def cheap(want: dict[str, Any]) -> Iterator[str]:
    """Yield what differs in the kernel's tables, the filesystems and the agent's work."""
    found = json.loads(output("lsblk", "-Jbdo", "NAME,SERIAL,SIZE"))["blockdevices"]
    disks = {disk["serial"]: disk for disk in found if disk["serial"]}
    serials = {f"/dev/{disk['name']}": name for name, disk in disks.items()}
    if (sizes := {name: disk["size"] for name, disk in disks.items()}) != {
        name: size for name, (size, _) in want["disks"].items()
    }:
        yield f"disks: {sizes}"
    with open("/proc/self/mounts") as table:
        lines = [line.split() for line in table]
    mounts = {
        line[1]: (serials.get(line[0], line[0]), line[2], line[3].split(","))
        for line in lines
        if line[0] in serials or line[1].startswith(ROOTS)
    }
    if sorted(mounts) != sorted(want["mounts"]) or len(mounts) != sum(
        line[0] in serials or line[1].startswith(ROOTS) for line in lines
    ):
        yield f"mounts: {mounts}"
        return
    for path, wanted in want["mounts"].items():
        name, fstype, options = mounts[path]
        if (name, fstype) != (wanted["disk"], wanted["fs"]):
            yield f"{path}: {name} with {fstype}"
        if lacking := set(filter(None, wanted["options"].split(","))) - set(options):
            yield f"{path}: without {lacking}"
        spans = os.statvfs(path)
        size = spans.f_blocks * spans.f_frsize
        if not wanted["least"] <= size <= wanted["most"]:
            yield f"{path}: {size} bytes"
        if wanted["marker"]:
            try:
                with open(f"{path}/marker") as file:
                    content = file.read()
            except OSError as error:
                content = str(error)
            if content != wanted["marker"]:
                yield f"{path}/marker: {content!r}"
    with open("/proc/swaps") as table:
        swaps = sorted(serials.get(line.split()[0], line) for line in table.readlines()[1:])
    if swaps != want["swaps"]:
        yield f"swaps: {swaps}"
    yield from (f"{path}: still there" for path in want["absent"] if os.path.lexists(path))
    with open("/run/gandi/status.json") as status:
        if work := json.load(status).get("work"):
            yield f"at work: {work}"


def thorough(want: dict[str, Any]) -> Iterator[str]:
    """Yield what differs in PID 1's and the agent's own words."""
    units = json.loads(output("systemctl", "list-units", "--all", "--output=json"))
    yield from (
        f"{unit['unit']}: {unit['active']}"
        for unit in units
        if unit["active"] in ("failed", "activating", "deactivating", "reloading")
    )
    if jobs := output("systemctl", "list-jobs", "--no-legend"):
        yield f"jobs: {jobs}"
    active = (unit["unit"] for unit in units if unit["active"] == "active")
    paths = (mountpoint(unit) for unit in active if unit.endswith(".mount"))
    mounts = sorted(path for path in paths if path.startswith(ROOTS))
    if mounts != sorted(want["mounts"]):
        yield f"mount units: {mounts}"
    rows = {row["device"]: row for row in json.loads(output("gandi-agent", "disks", "--json"))}
    found = json.loads(output("lsblk", "-Jdo", "NAME,SERIAL"))["blockdevices"]
    states = {disk["serial"]: rows.pop(disk["name"])["state"] for disk in found if disk["serial"]}
    if states != {name: state for name, (_, state) in want["disks"].items()}:
        yield f"gandi-agent disks: {states}"
    if gone := [row for row in rows.values() if row["state"] != "left"]:
        yield f"gandi-agent disks: {gone}"
    status = json.loads(output("gandi-agent", "status", "--json"))
    if status["state"] != "ready" or not status["verdict"].endswith("nothing failed"):
        yield f"gandi-agent status: {status['verdict']}; {status['devices']}"


def mountpoint(unit: str) -> str:
    """Return the path that the name of a mount unit stands for (systemd.unit(5)). Its description is another
    one as soon as the agent has written the unit for the next boot, and PID 1 has reloaded.
    """
    name = unit.removesuffix(".mount").replace("-", "/")
    return "/" + re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), name)


def main() -> None:
    """Print what differs."""
    want = json.loads(sys.argv[1])
    differences = list(cheap(want)) or list(thorough(want))
    print("\n".join(differences))
    sys.exit(bool(differences))


if __name__ == "__main__":
    main()
