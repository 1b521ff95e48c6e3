"""The kernel's host name, in a UTS namespace; /etc and the state are overlays in a mount namespace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Run by another Python, as root of this machine within the namespaces.
BOOT = """
import os, sys
from agent.context import context
from agent.host.host import Host
from agent.config.model import Identity, InstanceConfig
from agent.steps import hostname
ctx = context(Host())
ctx.state.set_instance(Identity("gandi", "1"))
for name in sys.argv[1:]:
    ctx.config = InstanceConfig(ctx.state.identity(), hostname=name)
    outcomes = [str(item.outcome) for item in hostname.apply(ctx)]
    print(os.uname().nodename, open("/etc/hostname").read().strip(), outcomes[0])
"""
PREPARE = """
set -e
mount -t tmpfs tmpfs "$0"
mkdir "$0/upper" "$0/work" "$0/state"
mount -t overlay -o lowerdir=/etc,upperdir="$0/upper",workdir="$0/work" overlay /etc
mkdir -p /var/lib/gandi
mount --bind "$0/state" /var/lib/gandi
exec "$@"
"""


def test_the_kernel_follows_at_once(tmp_path: Path) -> None:
    before = os.uname().nodename
    inside = ["sh", "-c", PREPARE, str(tmp_path), sys.executable, "-c", BOOT]
    done = subprocess.run(
        ["unshare", "--uts", "--mount", *inside, "vm1", "vm1", "vm2.example.com"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == [
        "vm1 vm1 changed",
        "vm1 vm1 unchanged",
        "vm2.example.com vm2.example.com changed",
    ], done.stderr
    assert os.uname().nodename == before
