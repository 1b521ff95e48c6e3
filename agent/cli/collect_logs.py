"""``gandi-agent collect-logs``: one archive with what a fault report needs.

It is sent to others, so nothing in it is secret: the document is redacted as by ``config show``, and the
journals of the customer's and the operator's programs, which may print secrets, are left out. Each part is
bounded in time and size; a part that fails is noted in the archive, and the others are still made.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from functools import partial
from itertools import islice

from agent import __version__, stages
from agent.cli import plan, status
from agent.context import attempt, context
from agent.host import terminal
from agent.image.seed import archive
from agent.lib.errors import HostError
from agent.lib.text import joined, lines
from agent.report import failed
from agent.udev.monitor import TAG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

    Part = Callable[[Context], Iterable[str]]

#: Largest size of a part, in bytes.
_LARGEST = 8 << 20
#: Time limit of each program, in seconds.
_TIMEOUT = 30.0
#: Number of the newest lines of each journal.
_LINES = 20_000
#: Characters of a program's error output that are noted.
_SHOWN = 400
#: The agent's state of this boot; levels of folders, and number of names, to list.
FOLDER = "/run/gandi"
_DEPTH, _NAMES = 3, 2000
#: Units to collect the journal of, as patterns of journalctl(1): the package's, and those that the agent
#: starts for its programs, never the document's (gandi-script, gandi-boot-NAME), hooks or plugins.
_UNITS = (
    "gandi-agent.*",
    "gandi-agent-uevent.socket",
    *(f"gandi-{stage}.service" for stage in stages.Stage),
    "gandi-check.service",
    "gandi-watch.service",
    "gandi-sshdkeygen*.service",
    "gandi-disks.target",
    *(f"gandi-{work}-*.service" for work in ("format", "fsck", "grow", "umount", "ifup")),
)
_JOURNAL = ("journalctl", "--boot", "--no-pager", "--output=short-precise", f"--lines={_LINES}")
#: File in the archive -> program that prints its content. Under the agent's identifier only root's entries
#: are collected: logger(1) lets every user write some.
_PROGRAMS: dict[str, tuple[str, ...]] = {
    "journal-units.txt": (*_JOURNAL, *(f"--unit={unit}" for unit in _UNITS)),
    "journal-agent.txt": (*_JOURNAL, "--identifier=gandi-agent", "_UID=0"),
    "lsblk.txt": (
        "lsblk",
        "--all",
        "--output=NAME,MAJ:MIN,TYPE,SIZE,RO,FSTYPE,LABEL,UUID,PARTLABEL,SERIAL,MOUNTPOINT",
    ),
    "ip-address.txt": ("ip", "-details", "address"),
    "ip-route.txt": ("ip", "route", "show", "table", "all"),
    "ip6-route.txt": ("ip", "-6", "route", "show", "table", "all"),
    "systemd-version.txt": ("systemctl", "--version"),
}


def collect(host: Host, out: str | None) -> int:
    """Write the archive, by default gandi-logs-HOST-TIME.tar in the current folder, and print its name.

    Raise HostError if it cannot be written or its name exists already.
    """
    now = time.time()
    name = f"gandi-logs-{_hostname()}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}"
    ctx, files = context(host), dict[str, bytes]()
    work = {file: partial(_part, ctx, files, file, make) for file, make in _PARTS.items()}
    work |= {file: partial(_program, ctx, files, file, argv) for file, argv in _PROGRAMS.items()}
    reports = [attempt(ctx, file, do) for file, do in work.items()]
    problems = [f"{report.step}: {item.detail}" for report in reports for item in report.items]
    files["problems.txt"] = terminal.block(*problems).encode()
    path = out or f"{name}.tar"
    _write(host, path, archive(files, folder=name, mtime=int(now)))
    terminal.print_lines(*problems, f"made {path}")
    return 0


def _hostname() -> str:
    return re.sub("[^A-Za-z0-9.-]+", "_", os.uname().nodename)[:64] or "unnamed"


def _part(ctx: Context, files: dict[str, bytes], file: str, make: Part) -> Iterator[Item]:
    return _kept(files, file, terminal.block(*make(ctx)))


def _program(ctx: Context, files: dict[str, bytes], file: str, argv: Sequence[str]) -> Iterator[Item]:
    done = ctx.host.run(argv, timeout=_TIMEOUT, check=False, changes=False, limit=_LARGEST)
    yield from _kept(files, file, done.stdout)
    if done.returncode:
        yield failed(file, f"{argv[0]}: exit status {done.returncode}: {joined(done.stderr)[:_SHOWN]}")


def _kept(files: dict[str, bytes], file: str, text: str) -> Iterator[Item]:
    """Add a part to the archive, cut at ``_LARGEST``; yield a failure if it was cut."""
    data = text.encode("utf-8", "backslashreplace")
    files[file] = data[:_LARGEST]
    if len(data) >= _LARGEST:
        yield failed(file, f"cut at {_LARGEST >> 20} MiB")


def _write(host: Host, path: str, data: bytes) -> None:
    """Make the file, readable by root only. An existing file or link of that name is never written to."""
    try:
        with host.opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(file, rest) :]
    except HostError as error:
        is_unusable = isinstance(error.__cause__, FileExistsError | FileNotFoundError)
        hint = "another name: gandi-agent collect-logs -o FILE" if is_unusable else error.hint
        raise HostError(error.message, hint=hint) from error
    except OSError as error:
        host.remove(path)
        raise HostError(f"{path}: cannot be written: {error.strerror}", hint="free space: see df") from error


# -- the parts made here --------------------------------------------------------------------------


def _json(document: object) -> list[str]:
    return lines(json.dumps(document, indent=1, sort_keys=True))


def _udev(ctx: Context) -> Iterable[str]:
    """Yield udev's record of each device with the agent's tag (b254:16, n3, +cpu:cpu1)."""
    for key in sorted(ctx.host.names(f"/run/udev/tags/{TAG}")):
        yield from (f"{key}:", *lines(ctx.host.read(f"/run/udev/data/{key}") or ""), "")


def _below(host: Host, folder: str, depth: int) -> Iterator[str]:
    for name in sorted(host.names(folder)):
        yield f"{folder}/{name}"
        if depth > 1:
            yield from _below(host, f"{folder}/{name}", depth - 1)


def _versions(ctx: Context) -> Iterable[str]:
    kernel = os.uname()
    yield f"gandi-agent {__version__}"
    yield f"{kernel.sysname} {kernel.release} {kernel.version} {kernel.machine}"
    yield f"Python {sys.version}"
    yield from lines(ctx.host.read("/etc/os-release") or "")


#: File in the archive -> function that returns its lines.
_PARTS: dict[str, Part] = {
    "status.txt": lambda ctx: status.text(status.gather_facts(ctx)),
    "status.json": lambda ctx: _json(status.document(status.gather_facts(ctx))),
    "config.txt": lambda ctx: plan.config_lines(ctx, plan.effective_settings(ctx)),
    "config.json": lambda ctx: _json(plan.effective_settings(ctx)),
    "udev.txt": _udev,
    "run-gandi.txt": lambda ctx: islice(_below(ctx.host, FOLDER, _DEPTH), _NAMES),
    "versions.txt": _versions,
}
