"""An entry on its way through the real library, to a journal of the test's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from agent.systemd.journal import Message

TREE = Path(__file__).parents[2]
#: A socket where libsystemd looks for journald's; what it gets, as text and with the length of a long one.
PROGRAM = f"""
import array, json, os, socket, sys
sys.path.insert(0, {str(TREE)!r})
from agent.host.host import Host
from agent.systemd.journal import Journal
os.makedirs("/run/systemd/journal")
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.bind("/run/systemd/journal/socket")
Journal(Host()).line("gandi-mount", "one line")
Journal(Host()).overflow()
Journal(Host()).line("gandi-mount", "x" * (8 << 20))
got = [journal.recv(1 << 16).decode() for _ in range(2)]
_, (passed,), _, _ = socket.recv_fds(journal, 1, 1)
print(json.dumps([*got, os.fstat(passed).st_size]))
"""


def test_an_entry_arrives_whole_whatever_its_size() -> None:
    """Format: systemd.io/JOURNAL_NATIVE_PROTOCOL; what is too large for a datagram comes as a memfd."""
    mount = 'mount -t tmpfs tmpfs /run && exec "$@"'
    done = subprocess.run(
        ("unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", PROGRAM),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    line, overflow, size = json.loads(done.stdout)
    unit = ["PRIORITY=6", "SYSLOG_IDENTIFIER=gandi-mount", "OBJECT_SYSTEMD_UNIT=gandi-mount.service"]
    assert line.splitlines() == ["MESSAGE=one line", *unit]
    assert f"MESSAGE_ID={Message.OVERFLOW}" in overflow.splitlines()
    assert size > 8 << 20
