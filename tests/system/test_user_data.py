"""What user data runs, in which order and environment, and at which boots: from a drive, through the
confined reader and the stored configuration, to real programs below a root.

Replaced is PID 1: a transient unit is its command, in a chroot, with the unit's environment. /run is emptied
for each boot.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.context import context
from agent.host.host import Host
from agent.network import online
from agent.reader import client
from agent.report import Item
from agent.steps import boot, script
from agent.systemd import libsystemd, units
from tests.system.disks import sh

_LOG = "root/log"
_MESSAGE = """\
Content-Type: multipart/mixed; boundary="b1"
MIME-Version: 1.0

--b1
Content-Type: text/cloud-config

bootcmd: ['echo "bootcmd $INSTANCE_ID" >>/root/log']
runcmd: ['echo runcmd >>/root/log']

--b1
Content-Type: text/x-shellscript-per-once

#!/bin/sh
echo once >>/root/log

--b1
Content-Type: text/x-shellscript-per-boot
Content-Disposition: attachment; filename="20-late.sh"

#!/bin/sh
echo late >>/root/log

--b1
Content-Type: text/x-shellscript-per-boot
Content-Disposition: attachment; filename="10-first.sh"

#!/bin/sh
echo first >>/root/log

--b1
Content-Type: text/plain

#cloud-boothook
#!/bin/sh
echo "boothook $INSTANCE_ID" >>/root/log

--b1
Content-Type: text/x-shellscript

#!/bin/sh
echo script >>/root/log

--b1--
"""


class _Live(Host):
    """A tree that counts as the running system."""

    @property
    def live(self) -> bool:
        return True

    def path(self, name: str) -> str:
        return f"{self.root}/{name.lstrip('/')}"


class _Machine:
    """A root with the programs of this host, to which a drive is attached."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def boots(self, user_data: bytes, instance: str = "i-1") -> list[str]:
        """Run what the drive contains as a boot does; return the lines that its programs wrote."""
        shutil.rmtree(self.root / "run")
        (self.root / "run/gandi").mkdir(parents=True)
        files = {"meta-data": f"instance-id: {instance}\n".encode(), "user-data": user_data}
        parsed = client.parse_files("nocloud", files)
        assert not parsed.problems
        assert parsed.config is not None
        ctx = context(_Live(self.root))
        ctx.config = parsed.config
        ctx.state.set_instance(parsed.config.identity)
        ctx.state.store_config(parsed.config, parsed.files)
        items: list[Item] = [*boot.apply(ctx), *script.apply(ctx)]
        assert not [item for item in items if item.outcome == "failed"], items
        log = self.root / _LOG
        said = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return said

    def run(self, _unit: str, properties: Any, *, timeout: float) -> None:
        """Run a transient unit's command, as ``libsystemd.start_transient``."""
        said = {name: values for name, _kind, *values in properties}
        command = [word.replace("$$", "$") for word in said["ExecStart"]]
        environment = dict(one.split("=", 1) for one in said["Environment"])
        subprocess.run(
            ["/usr/sbin/chroot", self.root, *command],
            env={"PATH": "/usr/sbin:/usr/bin"} | environment,
            timeout=timeout,
            check=True,
        )


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Machine]:
    root = tmp_path / "root"
    for name in ("usr", "proc", "dev", "run", "root", "var/lib", "etc"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    bound = ("usr", "proc", "dev")
    for name in bound:
        sh("mount", "--bind", f"/{name}", str(root / name))
    made = _Machine(root)
    monkeypatch.setattr(libsystemd, "start_transient", made.run)
    monkeypatch.setattr(libsystemd, "active_state", lambda *_arguments, **_more: "inactive")
    monkeypatch.setattr(units, "main_process", lambda *_arguments: 0)
    monkeypatch.setattr(online, "is_online", lambda _host: True)
    yield made
    for name in reversed(bound):
        sh("umount", str(root / name))


def test_each_part_runs_in_its_order_at_its_boots(machine: _Machine) -> None:
    early = ["boothook i-1", "bootcmd i-1"]
    raw = _MESSAGE.encode()
    assert machine.boots(raw) == [*early, "once", "first", "late", "script", "runcmd"]
    assert machine.boots(raw) == [*early, "first", "late"]
    other = ["boothook i-2", "bootcmd i-2"]
    assert machine.boots(raw, "i-2") == [*other, "first", "late", "script", "runcmd"]
    assert machine.boots(raw, "i-2") == [*other, "first", "late"]


@pytest.mark.parametrize(
    "raw",
    [
        b"#!/bin/sh\r\necho ran >/root/log\r\n",
        b"#!/bin/sh -e\r\necho ran >/root/log\r\n",
        b"\xef\xbb\xbf#!/bin/sh\necho ran >/root/log\n",
        b"\r\n\n#!/bin/sh\necho ran >/root/log\n",
        "#!/bin/sh\r\necho ran >/root/log\r\n".encode("utf-16"),
        b"\xef\xbb\xbf#cloud-config\r\nruncmd:\r\n- echo ran >/root/log\r\n",
        b"## template: jinja\r\n#!/bin/sh\r\necho ran >/root/log # {{ v1.instance_id }}\r\n",
    ],
    ids=["CRLF", "CRLF after an option", "BOM", "blank lines", "UTF-16", "cloud-config", "template"],
)
def test_a_file_of_another_editor_runs(machine: _Machine, raw: bytes) -> None:
    assert machine.boots(raw) == ["ran"]
    assert sorted(path.name for path in (machine.root / "root").iterdir()) == []
