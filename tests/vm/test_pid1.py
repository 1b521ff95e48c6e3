"""The threads of a process share one connection to PID 1, each for its own units and calls."""

from __future__ import annotations

import json

from tests.vm.rig import Machine

#: Sixteen threads start units and call PID 1 at the same time; one unit fails and one is refused. Then PID 1
#: re-executes while two threads wait, and two start units and call it. Prints how each ended, and the number
#: of connections: at most, and at the end.
_MANY = """
import json, os, subprocess, sys, threading, time
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

# PID 1 closes all connections when it re-executes, and refuses new ones for a moment.
oneshot = (("Type", "s", "oneshot"), ("CollectMode", "s", "inactive-or-failed"))

def wait_for(name, *words):
    what = (("ExecStart", "a(sasb)", *words), *oneshot)
    try:
        libsystemd.start_transient(f"pid1-{name}.service", what, timeout=120)
        said[name] = "done"
    except HostError as error:
        said[name] = f"{type(error).__name__}: {error.message}"

def hurry(name):
    is_last = False
    try:
        while not is_last:
            is_last = over
            wait_for(name, "/bin/true")
            ends.add(said.pop(name).replace(name, "NAME"))
            states.add(libsystemd.active_state("pid1-good.service", timeout=60))
            states.add(libsystemd.stop("pid1-file.service", timeout=60))
    except BaseException as error:
        ends.add(f"{type(error).__name__}: {error}")

with open("/run/systemd/system/pid1-file.service", "w") as file:
    file.write("[Service]\\nType=oneshot\\nExecStart=touch /run/pid1-was-started\\n")
subprocess.run(["systemctl", "daemon-reload"], check=True)
over, ends, states = False, set(), set()
threads = [threading.Thread(target=wait_for, args=("long", "/bin/sleep", "12"))]
threads += [threading.Thread(target=wait_for, args=("fails", "/bin/sh", "-c", "sleep 12; false"))]
threads += [threading.Thread(target=hurry, args=(f"hurries{number}",)) for number in range(2)]
for thread in threads:
    thread.start()
for _ in range(3):
    subprocess.run(["systemctl", "daemon-reexec"], check=True)
over = True
for thread in threads:
    thread.join(100)
left += sum(thread.is_alive() for thread in threads)
states.add(f"started: {os.path.exists('/run/pid1-was-started')}")
print(json.dumps({"said": said, "most": most, "left": left, "ends": sorted(ends), "states": sorted(states)}))
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
    # It has re-executed three times. What went on in that time has its result, or an unknown one if it ended
    # then; no call has failed.
    assert said == {
        "long": "done",
        "fails": "HostError: pid1-fails.service: its start ended as: failed",
    }
    assert "done" in seen["ends"]
    unknown = "ResultUnknown: pid1-NAME.service: it ended while systemd re-executed: its result is unknown"
    assert set(seen["ends"]) <= {"done", unknown}
    # A stop that is given again is no start.
    assert seen["states"] == ["done", "inactive", "started: False"]
