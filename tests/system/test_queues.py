"""The kernel's answers about a NIC's queues and address, for a veth pair in a namespace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).parents[2]
_ASK = """
import socket
from agent.lib.errors import HostError
from agent.host.host import Host
from agent.network import ethtool_netlink as kernel

print(kernel.queues(socket.if_nametoindex("one")), kernel.permanent_address(socket.if_nametoindex("one")))
for name, act in (("lo", lambda: kernel.queues(1)), ("none", lambda: kernel.queues(4711)),
                  ("too many", lambda: kernel.set_queues(Host(), socket.if_nametoindex("one"), 4))):
    try:
        act()
    except HostError as error:
        print(name, error.message.rpartition(": ")[2])
"""


def test_what_the_kernel_says_is_understood() -> None:
    """A veth pair has no combined queues and no permanent address; a refused request is reported."""
    make = "ip link add one numtxqueues 4 numrxqueues 4 type veth peer name two"
    shell = f"{make} && exec {sys.executable} -c '{_ASK}'"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", shell], cwd=TREE, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "(0, 0) "
    assert lines[1:] == ["lo Operation not supported", "none No such device", "too many Invalid argument"]
