"""What the mark of a settled machine orders for the next boot."""

from __future__ import annotations

from pathlib import Path

from agent.daemon import boot_mark
from agent.host.host import Host
from agent.state import settled


def test_a_getty_is_ordered_again_after_a_boot_without_stages(tmp_path: Path) -> None:
    """Only the console step makes the link below /run: without it the mark of that boot has the unit."""
    host = Host(tmp_path)
    assert boot_mark.gettys(host) == []
    host.write(settled.FLAG, "report\ngetty serial-getty@hvc0.service\nconsume \n")
    assert boot_mark.gettys(host) == ["serial-getty@hvc0.service"]
    host.symlink("/run/systemd/system/getty.target.wants/serial-getty@hvc0.service", "/x")
    assert boot_mark.gettys(host) == ["serial-getty@hvc0.service"]
