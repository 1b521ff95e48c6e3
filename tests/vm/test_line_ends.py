"""Text of an unprivileged user in files of the kernel and the system: a line ends only where the kernel ends
it, so such text cannot stop the work on disks, or keep an account from what the platform delivers for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests import drives
from tests.vm import sample
from tests.vm.conftest import Rig
from tests.vm.delivered import NATIVE, delivered, drive, keys
from tests.vm.rig import MIB, Bus, Disk, Machine, State, make_filesystem

#: The password's sha512-crypt hash.
PASSWORD = "hunter22"
HASH = (
    "$6$Zq1vN3xTabcd$TS5.OPsPaPXmNZkMf58DzwcoGgvowtX2Mwf1rtPJUtO8gsQbSCVAQE5Iz9lGjhU7WGqe1otNjaxWyAMmKChmT0"
)
USER = {"name": "admin1", "password": HASH, "keys": [sample.KEY, sample.OTHER_KEY]}
#: Mounts FUSE on its argument, as libfuse does by the set-uid fusermount3, and stays as its server, which
#: never answers.
FUSE = r"""
import array, os, signal, socket, subprocess, sys
ours, theirs = socket.socketpair()
subprocess.run(
    ["fusermount3", "-o", "subtype=a\fb - c\u2028\r", "--", sys.argv[1]],
    env=os.environ | {"_FUSE_COMMFD": str(theirs.fileno())}, pass_fds=[theirs.fileno()], check=True,
)
_, ancillary, _, _ = ours.recvmsg(1, 64)
print(array.array("i", ancillary[0][2])[0], flush=True)
signal.pause()
"""


def test_a_users_text_ends_no_line(machine: Rig, platform: State, tmp_path: Path) -> None:
    """The user mounts FUSE with such a subtype and puts such a room number into passwd. Then a disk comes,
    and a document with the account locked and one of its keys withdrawn.
    """
    vm = machine.clone(platform)
    delivered(vm, _document(tmp_path / "first.iso", USER))
    assert keys(vm, "/home/admin1") == USER["keys"]
    _fuse(vm)
    _chfn(vm)

    data = make_filesystem(tmp_path / "data.img", 64 * MIB, "ext4", label="data")
    vm.add_disk(Disk(path=data, id="data"))
    vm.wait_until("mountpoint -q /srv/data", timeout=60)
    assert "/srv/data" in vm.output("gandi-agent disks")
    vm.run("! journalctl -b | grep -e Traceback -e IndexError")

    vm.remove_disk("drive")
    locked = USER | {"keys": [sample.KEY], "locked": True}
    vm.add_disk(_document(tmp_path / "second.iso", locked))
    vm.wait_until("blkid -t LABEL=gandi", timeout=30)
    vm.run("udevadm settle; systemctl restart gandi-bootstrap || true", timeout=120)
    assert vm.output("grep ^admin1: /etc/shadow").split(":")[1] == f"!{HASH}"
    assert keys(vm, "/home/admin1") == [sample.KEY]


def _document(path: Path, user: dict[str, Any]) -> Disk:
    content = drives.native(NATIVE | {"users": [user], "scripts": []})
    return drive(drives.make_iso(path, content, "gandi"), bus=Bus.VIRTIO)


def _fuse(vm: Machine) -> None:
    vm.write_file("/tmp/fuse.py", FUSE)
    vm.run("modprobe fuse; install -d -o admin1 /home/admin1/mnt; mknod -m 666 /dev/fuse c 10 229 || true")
    vm.run(
        "systemd-run --quiet --unit=user-fuse --property=User=admin1 python3 /tmp/fuse.py /home/admin1/mnt"
    )
    vm.wait_until("grep -aq ' /home/admin1/mnt ' /proc/self/mountinfo", timeout=30)
    line = next(line for line in vm.read_file("/proc/1/mountinfo").split(b"\n") if b"admin1/mnt" in line)
    assert b" - fuse.a\fb" in line


def _chfn(vm: Machine) -> None:
    """By the user with its password: of the fields that it may change, chfn takes any text for the room."""
    vm.run(["runuser", "-u", "admin1", "--", "chfn", "-r", "a\u2028b"], stdin=f"{PASSWORD}\n".encode())
    assert b"a\xe2\x80\xa8b" in vm.read_file("/etc/passwd")
