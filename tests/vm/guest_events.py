"""Makes events in a guest: each word of the input is a uevent file to write to; "loop" or "veth": a device
that comes and goes.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

#: Pause for udev after so many events: its queue is bounded by memory alone.
AT_ONCE = 200
#: A file whose filesystem and label are no drive's.
BACKING = Path("/run/week.img")


def main(words: Iterable[str]) -> None:
    """Make them in this order, then wait for udev."""
    for number, word in enumerate(words):
        match word:
            case "loop":
                loop = _run("losetup", "--find", "--show", str(BACKING))
                _run("udevadm", "settle")
                _run("losetup", "--detach", loop)
            case "veth":
                _run("ip", "link", "add", "week0", "type", "veth", "peer", "name", "week1")
                _run("ip", "link", "del", "week0")
            case _:
                Path(word).write_text("change")
        if number % AT_ONCE == AT_ONCE - 1:
            _run("udevadm", "settle")
    _run("udevadm", "settle", "--timeout=600")


def _run(*argv: str) -> str:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


if __name__ == "__main__":
    main(sys.stdin.read().split())
