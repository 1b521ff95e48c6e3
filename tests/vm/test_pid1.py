"""The threads of a process share one connection to PID 1, each for its own units and calls."""

from __future__ import annotations

import json

from tests.vm.rig import Machine

#: Sixteen threads start units and call PID 1 at the same time; one unit fails and one is refused. Then PID 1
#: re-executes while a thread waits. Prints how each ended, and the number of connections: at most, and at
#: the end.
_MANY = """
import json, subprocess, sys, threading, time
sys.path.insert(0, "/usr/lib/gandi-agent")
from agent.lib.errors import HostError
from agent.systemd import libsystemd

said, most, seconds = {}, 0, 0.0

def start(name, *words):
    unit = f"pid1-{name}.service"
    collect = ("CollectMode", "s", "inactive-or-failed")
    what = (("ExecStart", "a(sasb)", *words), ("Type", "s", "oneshot"), collect)
    try:
        for _ in range(3):
            libsystemd.start_transient(unit, what, timeout=60)
            libsystemd.active_state(unit, timeout=60)
        said[name] = "done"
    except HostError as error:
        said[name] = error.message

def connections():
    return open("/proc/net/unix").read().count(" /run/systemd/private") - 1

before = connections()
jobs = [(f"good{number}", "/bin/sleep", f"0.{number:02}") for number in range(14)]
jobs += [("bad", "/bin/false"), ("refused", "a/relative/path")]
threads = [threading.Thread(target=start, args=job) for job in jobs]
for thread in threads:
    thread.start()
while any(thread.is_alive() for thread in threads):
    most = max(most, connections() - before)
    time.sleep(0.02)
# PID 1 has an end of its own, until it notices that the other has been closed.
until = time.monotonic() + 20
while (left := connections() - before) and time.monotonic() < until:
    time.sleep(0.05)

waiting = threading.Thread(target=start, args=("lost", "/bin/sleep", "40"))
waiting.start()
while libsystemd.active_state("pid1-lost.service", timeout=60) != "activating":
    time.sleep(0.1)
subprocess.run(["systemctl", "daemon-reexec"], check=True)
waiting.join(20)
state = libsystemd.active_state("pid1-lost.service", timeout=60)
print(json.dumps({"said": said, "most": most, "left": left, "state": state}))
"""


def test_threads_share_a_connection_and_each_gets_its_answer(booted: Machine) -> None:
    booted.write_file("/root/many.py", _MANY)
    seen = json.loads(booted.output("python3 -I /root/many.py", timeout=200))
    said = seen["said"]
    assert [said.pop(f"good{number}") for number in range(14)] == ["done"] * 14
    assert said.pop("bad") == "pid1-bad.service: its start ended as: failed"
    assert "refuses StartTransientUnit" in said.pop("refused")
    # An unused connection is closed soon.
    assert (seen["most"] <= 2, seen["left"]) == (True, 0)
    # PID 1 has closed the connection: the waiting thread gets an error, and the unit goes on.
    assert said == {"lost": "pid1-lost.service: its start ended as: the connection was lost"}
    assert seen["state"] == "activating"
