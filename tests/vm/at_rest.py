"""Run in the guest: what the agent has, printed as JSON once its daemon is at rest; until then, exit with 1.

It is at rest when every event has been read, its process has one thread, which sleeps, its status shows no
work, and PID 1 has no job.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter

#: Units that the agent makes: of its mounts, of its writers, and transient ones without a name. Not those of
#: the package, of which the daemon starts a timer when it is first idle.
OURS, PACKAGED = re.compile(r"gandi-|srv-|run-"), "/usr/lib/systemd/system"
FOLDERS = ("/run/gandi", "/var/lib/gandi")
#: Of each kernel name that was ever a disk's, a file to lock.
LOCKS = "/run/gandi/locks"
_NETLINK_UEVENT = "15"


def text(name: str) -> str:
    """Return a file's text."""
    with open(name) as file:
        return file.read()


def output(*argv: str) -> str:
    """Return a program's output."""
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout


def is_at_rest(process: str) -> bool:
    """Return whether the daemon with this process id has nothing to do."""
    # proc/net/netlink: sk, Eth (the protocol), Pid, Groups, Rmem (bytes that wait), …
    sockets = (line.split() for line in text("/proc/net/netlink").splitlines()[1:])
    if any(fields[1] == _NETLINK_UEVENT and fields[4] != "0" for fields in sockets):
        return False
    # After the sockets: who has read an event works on it, or has a thread for it.
    state = text(f"/proc/{process}/stat").rpartition(")")[2].split()[0]
    if state != "S" or len(os.listdir(f"/proc/{process}/task")) > 1:
        return False
    return not json.loads(text("/run/gandi/status.json"))["work"] and not output(
        "systemctl", "list-jobs", "--no-legend"
    )


def memory(process: str) -> int:
    """Return the private memory of a process in bytes."""
    lines = (line.split() for line in text(f"/proc/{process}/smaps_rollup").splitlines())
    return sum(int(line[1]) * 1024 for line in lines if line[0] in ("Private_Clean:", "Private_Dirty:"))


def descriptors(process: str) -> dict[str, int]:
    """Return what a process has open, without the numbers of sockets and pipes, and how often."""
    folder = f"/proc/{process}/fd"
    return Counter(re.sub(r":\[\d+\]$", "", os.readlink(f"{folder}/{name}")) for name in os.listdir(folder))


def files() -> list[str]:
    """Return the files of the agent's state, but for those to lock."""
    found = (f"{folder}/{name}" for top in FOLDERS for folder, _, names in os.walk(top) for name in names)
    return sorted(name for name in found if not name.startswith(f"{LOCKS}/"))


def spent(group: str) -> int:
    """Return the CPU that a control group has used, in microseconds, with what has ended in it."""
    return int(text(f"/sys/fs/cgroup/{group}/cpu.stat").split()[1])


def main() -> None:
    """Print what there is; the arguments are control groups."""
    process = output("systemctl", "show", "-P", "MainPID", "gandi-agent").strip()
    if not is_at_rest(process):
        sys.exit(1)
    group = text(f"/proc/{process}/cgroup").strip().rpartition(":")[2]
    listed = output("systemctl", "list-units", "--all", "--plain", "--no-legend").splitlines()
    units = [line.split()[0] for line in listed]
    status = json.loads(text("/run/gandi/status.json"))
    found = {
        "process": process,
        "threads": len(os.listdir(f"/proc/{process}/task")),
        "children": [one for one in text(f"/sys/fs/cgroup{group}/cgroup.procs").split() if one != process],
        "memory": memory(process),
        "descriptors": descriptors(process),
        "mounts": [line.split()[1] for line in text("/proc/mounts").splitlines() if " /srv/" in line],
        "folders": sorted(os.listdir("/srv")),
        "units": sorted(unit for unit in units if OURS.match(unit) and unit not in os.listdir(PACKAGED)),
        "files": files(),
        "remembered": len(json.loads(text("/var/lib/gandi/disks.json"))["disks"]),
        "locks": len(os.listdir(LOCKS)),
        "devices": sorted(status["devices"]),
        "cpu": {name: spent(name) for name in sys.argv[1:]},
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
