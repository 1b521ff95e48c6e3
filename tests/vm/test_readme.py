"""Every command in README.md for an operator on a machine works there."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.vm.rig import Machine

README = Path(__file__).parents[2] / "README.md"
PROGRAMS = ("gandi-agent ", "systemctl ", "journalctl ", "udevadm ")
#: Commands for an image, mounted or as a disk: see tests/vm/test_offline.py, tests/vm/test_image_disk.py,
#: tests/vm/test_plan.py and tests/unit/cli/test_clean.py.
ELSEWHERE = ("--root /mnt", "--image disk.raw")
DOCUMENT = {"version": 1, "id": "vm1", "hostname": "vm1"}


def commands() -> list[str]:
    """Return them in the order of the page, the one that removes the machine's state last."""
    text = README.read_text()
    spans = re.findall(r"`([^`\n]+)`|^    (\S.*?)(?: +#.*)?$", text, re.MULTILINE)
    found = [one or other for one, other in spans]
    typed = [line for line in found if line.startswith(PROGRAMS) and not any(e in line for e in ELSEWHERE)]
    return sorted(dict.fromkeys(typed), key=lambda line: line == "gandi-agent clean")


def test_what_is_typed_works(booted: Machine) -> None:
    """Each exits with 0, or with 3 where systemctl reports an inactive unit."""
    typed = commands()
    assert len(typed) > 12, typed
    booted.write_file("/root/vm1.json", json.dumps(DOCUMENT).encode())
    for line in typed:
        done = booted.run(f"cd /root && {line}", check=False, timeout=120)
        allowed = (0, 3) if line.startswith("systemctl status") else (0,)
        assert done.rc in allowed, f"{line}: {done.rc}: {done.stdout}{done.stderr}"
