"""A verb as a process, to see its output on a terminal: the real command, with loop devices as disks and its
state in a folder.

``python -m tests.system.verb ROOT NAMES VERB [ARGUMENT…]``; NAMES are kernel names, separated by commas. The
verb ``mount-all`` is the step of the mount stage, with its line and its record for ``status``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from agent import __main__ as command
from agent import context as contexts
from agent.disks import detach, survey
from agent.disks import handler as handler
from agent.disks.base import diskseq, record
from agent.host import terminal
from agent.host.host import Host
from agent.report import StageReport, StepReport, items
from tests.system import disks
from tests.system.disks import LoopDisk


def main(root: Path, names: str, verb: str, *arguments: str) -> int:
    """Run the verb."""
    made = [LoopDisk(Path(), name) for name in names.split(",")]
    system, ctx = disks.system(*made), disks.context(root)
    record.FOLDER, diskseq.FILE = str(root / "run"), str(root / "run/coldplug")
    for function in (survey.disks, detach.detach, detach.take_back):
        (function.__kwdefaults__ or {})["system"] = system
    setattr(contexts, "context", lambda _host: ctx)  # noqa: B010  # a function, to the type checker
    if verb != "mount-all":
        return command.main([verb, *arguments], Host(root) if verb == "status" else Host())
    begun = time.monotonic()
    step = StepReport("disks", tuple(handler.mount_all(ctx, system=system)), time.monotonic() - begun)
    ctx.status.stage_ended(StageReport("mount", (step,), step.seconds))
    for item in step.items:
        ctx.status.merge("devices", item.name, {"outcome": item.outcome, "items": items([item])})
    terminal.print_lines(*step.lines())
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
