"""Reports to the platform: a program on the host receives a boot's records and those of the devices.

The port's end is on the host. No host of this project has /dev/vhost-vsock, so vsock goes by the guest's own
loopback transport (CID 1): the agent, PID 1 and the kernel's AF_VSOCK are the real ones, and the receiver is
in the guest.
"""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import drives
from tests.vm import delivered, sample, test_first_boot
from tests.vm.conftest import Rig
from tests.vm.rig import MIB, Disk, Machine, make_filesystem
from tests.vm.rig.channel import Pending
from tests.vm.test_settled import NOTHING_NEW, at_rest, said

PORT = "net.gandi.agent.0"
SPEC = replace(
    sample.SPEC,
    ports=(PORT,),
    cmdline=("systemd.set_credential=vmm.notify_socket:vsock-stream:1:1234",),
)
#: Prints each message with the sender's port, until both messages READY=1 have come.
RECEIVER = """
import json, socket
listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
listener.bind((1, 1234))
listener.listen(64)
listener.settimeout(300)
ready = 0
while ready < 2:
    connection, (_, port) = listener.accept()
    with connection, connection.makefile("rb") as file:
        message = file.read().decode()
    ready += message.startswith("READY=1") or "\\nREADY=1" in message
    print(json.dumps([port, message]), flush=True)
"""
#: Answers a POST with 500 and the next with 200, and prints its body.
SERVER = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        bodies.append(body)
        self.send_response(500 if len(bodies) == 1 else 200)
        self.end_headers()
    def log_message(self, *_):
        pass
bodies = []
server = http.server.HTTPServer(("127.0.0.1", 8080), Handler)
server.timeout = 300
server.handle_request()
server.handle_request()
print(bodies[1].decode())
"""
#: Fills what the host's end of the port takes, so that the daemon's records find it full.
FILL = f"""
import glob, os, select
(name,) = [f.split("/")[4] for f in glob.glob("/sys/class/virtio-ports/*/name")
    if open(f).read().strip() == "{PORT}"]
port, sent = os.open(f"/dev/{{name}}", os.O_WRONLY | os.O_NONBLOCK), 0
poll = select.poll()
poll.register(port, select.POLLOUT)
# Refused once, it may be taken a moment later: QEMU passes it on.
while poll.poll(3000):
    try:
        sent += os.write(port, b"x" * 1023 + b"\\n")
    except BlockingIOError:
        continue
print(sent)
"""


class Receiver:
    """The host's end of the port."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._data = b""

    def records(self, timeout: float = 120) -> Iterator[dict[str, Any]]:
        """Yield the records as they come; raise TimeoutError if none comes."""
        self._socket.settimeout(timeout)
        while True:
            line, end, rest = self._data.partition(b"\n")
            if end:
                self._data = rest
                if not line.startswith(b"xx"):
                    yield json.loads(line)
            else:
                got = self._socket.recv(1 << 16)
                assert got, "QEMU has closed the port"
                self._data += got

    def until(self, last: Callable[[dict[str, Any]], bool], timeout: float = 120) -> list[dict[str, Any]]:
        """Return the records until one is the last."""
        got = []
        for record in self.records(timeout):
            got.append(record)
            if last(record):
                return got
        raise AssertionError

    def close(self) -> None:
        self._socket.close()


def filesystem(folder: Path, name: str) -> Disk:
    return Disk(path=make_filesystem(folder / f"{name}.img", 64 * MIB, "ext4", label=name), id=name)


def is_boot(record: dict[str, Any]) -> bool:
    return bool(record["type"] == "boot")


def is_of(disk: str, action: str) -> Callable[[dict[str, Any]], bool]:
    return lambda record: record.get("device") == disk and record["action"] == action


@pytest.mark.long
def test_the_platform_receives_the_boot_and_the_devices(machine: Rig, tmp_path: Path) -> None:
    """Two boots; the rest in the running machine. The first one's archive is at the start of its disk, and
    becomes the machine as each archive does.
    """
    image, disk = test_first_boot.with_an_archive_at_the_start(tmp_path)
    vm = machine.start(image, SPEC, disks=[disk])
    vm.run("modprobe vsock_loopback")
    vsock = vm.spawn(["python3", "-c", RECEIVER], timeout=400)
    host = Receiver(vm.port(PORT))
    _ready(host.until(is_boot, 300), vm)
    _ready_over_vsock(vsock)
    test_first_boot.is_that_machine(vm, disk)

    _a_disk(vm, host, tmp_path, "one")
    _a_reader_that_stops(vm, host, tmp_path)
    host = _another_port(vm, host, tmp_path)
    host.close()

    # What the next boot does not have either.
    for name in ("two", "three"):
        vm.remove_disk(name)
    vm.qmp.call("device_del", id="serial1")
    vm.qmp.wait_event("DEVICE_DELETED", 60, lambda event: event.get("device") == "serial1")
    at_rest(vm)
    vm.power_off()
    vm.start()
    host = Receiver(vm.port(PORT))
    (boot,) = host.until(is_boot, 300)
    assert NOTHING_NEW in said(vm)
    assert vm.output("swapon --noheadings --show=NAME") == "/dev/vdb"
    assert boot["verdict"].startswith("ready: nothing was new at this boot"), boot
    _a_broken_document(vm, host, tmp_path)
    host.close()


def _ready(records: list[dict[str, Any]], vm: Machine) -> None:
    """Each stage in order, done, and then the verdict; nothing has failed."""
    *stages, boot = records
    assert [(one["type"], one["stage"], one["result"]) for one in stages] == [
        ("stage", stage, "done") for stage in ("bootstrap", "mount", "config", "postboot")
    ], stages
    assert boot["result"] == "ready"
    assert boot["verdict"] == vm.output("gandi-agent status --format=short")
    assert boot["verdict"].startswith("ready: first boot took ")
    assert vm.wait_booted() == "running"


def _ready_over_vsock(vsock: Pending) -> None:
    """The same records; READY=1 with the verdict after PID 1's own; all from ports of root's."""
    received = [json.loads(line) for line in vsock.result().checked().stdout.splitlines()]
    assert all(port < 1024 for port, _ in received)
    messages = [message for _, message in received]
    ours = [message for message in messages if "X_GANDI_" in message]
    for stage, message in zip(("bootstrap", "mount", "config", "postboot"), ours, strict=False):
        assert message.startswith(f"X_GANDI_STAGE={stage}\nX_GANDI_RESULT=done\nX_GANDI_SECONDS="), message
    verdict, ready = ours[4:]
    assert verdict.startswith("X_GANDI_STAGE=boot\nX_GANDI_RESULT=ready\nSTATUS=ready: first boot took ")
    assert ready == f"READY=1\n{verdict}"
    systemds = [one for one in messages if "X_GANDI_" not in one and "READY=1" in one.split("\n")]
    assert len(systemds) == 1
    assert messages.index(systemds[0]) < messages.index(ready)


def _a_disk(vm: Machine, host: Receiver, folder: Path, name: str) -> None:
    vm.add_disk(filesystem(folder, name))
    *_, record = host.until(lambda one: f"/srv/{name}" in one.get("detail", ""))
    assert record["type"] == "device"
    assert record["role"] == "disk"
    assert record["result"] == "changed"
    assert "lost" not in record
    vm.remove_disk(name)
    *_, gone = host.until(is_of(record["device"], "remove"))
    assert gone["result"] == "changed", gone


def _a_reader_that_stops(vm: Machine, host: Receiver, folder: Path) -> None:
    """What the host's end takes is full: disks are mounted and stages run as always, and once the host reads
    on, it gets all records.
    """
    vm.run("systemctl stop gandi-agent")
    filled = int(vm.output(["python3", "-c", FILL]))
    assert filled > 0
    vm.run("systemctl start gandi-agent")
    begun = time.monotonic()
    vm.add_disk(filesystem(folder, "two"))
    vm.wait_until("mountpoint -q /srv/two", timeout=60)
    vm.run("systemctl restart gandi-config", timeout=60)
    vm.run("gandi-agent status --format=short")
    print(f"not read: {filled} bytes; disk and stage took {time.monotonic() - begun:.1f} s")
    waiting = vm.json("cat /run/gandi/reported.json")["port"]["waiting"]
    assert [one["type"] for one in waiting] in (["device", "stage"], ["device", "stage", "boot"]), waiting
    got = host.until(lambda one: one.get("stage") == "config")
    assert "/srv/two" in got[0]["detail"]


def _another_port(vm: Machine, host: Receiver, folder: Path) -> Receiver:
    """The port is removed, and comes again on another controller: the daemon may not open the device of a
    driver that PID 1 did not know when it started the daemon.
    """
    vm.qmp.call("device_del", id="serial-port-0")
    vm.wait_until(f"! grep -qx {PORT} /sys/class/virtio-ports/*/name")
    path = vm.process.sockets / "later"
    data = {"addr": {"type": "unix", "data": {"path": str(path)}}, "server": True, "wait": False}
    vm.qmp.call("chardev-add", id="later", backend={"type": "socket", "data": data})
    vm.qmp.call("device_add", driver="virtio-serial-pci", id="serial1", bus="port7")
    vm.qmp.call("device_add", driver="virtserialport", chardev="later", name=PORT, bus="serial1.0")
    vm.wait_until(f"grep -qx {PORT} /sys/class/virtio-ports/*/name")
    host.close()
    host = Receiver(path)
    vm.add_disk(filesystem(folder, "three"))
    *_, record = host.until(lambda one: "/srv/three" in one.get("detail", ""))
    assert record["result"] == "changed"
    assert "50-DeviceAllow.conf" in vm.output("systemctl show -P DropInPaths gandi-agent"), "it was refused"
    return host


def _a_broken_document(vm: Machine, host: Receiver, folder: Path) -> None:
    """failed, the item and the remedy."""
    document = delivered.NATIVE | {"id": "broken", "timezone": "Mars/Olympus"}
    path = drives.make_iso(folder / "broken.iso", drives.native(document), "gandi")
    vm.run("echo CONFIG_REPORT_URL=http://127.0.0.1:8080/token >> /etc/default/gandi")
    server = vm.spawn(["python3", "-c", SERVER], timeout=400)
    delivered.delivered(vm, delivered.drive(path))
    *records, boot = host.until(is_boot, 300)
    assert boot["result"] == "failed"
    (item,) = [one for one in records if one["type"] == "item"]
    assert item["result"] == "failed"
    assert "timezone" in item["item"]
    assert item["hint"]
    posted = json.loads(server.result().checked().stdout)
    assert (posted["result"], posted["verdict"]) == ("failed", boot["verdict"])
    assert posted["failed"][0]["item"] == item["item"]
    assert posted["instance"] == "broken"
    vm.wait_until("gandi-agent status | grep -q 'report to CONFIG_REPORT_URL: sent: HTTP status 200, try 2'")
    assert "token" not in vm.output("cat /run/gandi/status.json; journalctl -b -u gandi-report")
    assert base64.b64encode(sample.HASH.encode()).decode() not in json.dumps(records)
    assert sample.HASH not in json.dumps(records)
