"""``apply --root``: configure a mounted image without booting it.

Runs those steps of a boot that need only files and the programs of the passwd package. Their state is stored
in the image, so its first boot only does the rest: NICs with names known only on the running machine,
scripts, growth. Also works chrooted into the image, with the image's own Python.
"""

from __future__ import annotations

import os
from functools import partial
from itertools import chain

from agent import stages
from agent.cli import clean
from agent.context import Medium, attempt, context
from agent.host import terminal
from agent.host.host import Host
from agent.image import delivery
from agent.lib import assignments
from agent.lib.errors import ConfigError
from agent.report import Outcome, StepReport, changed, failed, skipped, unchanged
from agent.sources import TRUSTED_KEYS, FoundMedium, needs_signature
from agent.state import settled
from agent.steps import source as source_step
from agent.steps.hostkeys import KEYGEN, MAKER
from agent.systemd import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from agent.config.model import InstanceConfig
    from agent.context import Context
    from agent.reader.client import Parsed
    from agent.report import Item

#: How the system uses SELinux (selinux(8)), and the request to label all files at the next boot.
_SELINUX, _RELABEL = "/etc/selinux/config", "/.autorelabel"
_ENABLE = f"enable it: systemctl --root=DIR enable {KEYGEN}; or run the command without --no-programs"


def apply(
    root: str | Path,
    source: str | None,
    chosen: Sequence[stages.Stage],
    debug: Callable[[str], None] | None = None,
    *,
    read: Callable[[], Parsed] | None = None,
    programs: bool = True,
    repair: bool = False,
    boot_loader: bool = False,
) -> int:
    """Configure the system below ``root`` from ``source`` (see ``delivery``) by the steps of these stages,
    with ``repair`` mend what leads to its disk, and with ``boot_loader`` install GRUB there. Without a
    source, do only those.

    Print the result of each step; return 1 if one failed, else 0. ``debug``: see Host; ``read``: see steps.
    Without ``programs``, run none of the image: what needs one is left to its first boot.
    Raise ConfigError if there is no system below ``root``, or its disk is to get a boot loader and cannot.
    """
    host = Host(os.path.realpath(root), offline=True, runs_programs=programs, debug=debug)
    if not host.exists("/etc/passwd"):
        raise ConfigError(f"{root}: no system is mounted there", hint="mount the image's root filesystem")
    # Check first that the image's programs can be run: otherwise nothing is changed.
    if programs:
        host.run(("true",))
    ctx = context(host)
    reports: Iterable[StepReport] = steps(ctx, source, chosen, read=read) if source else ()
    if not programs and not host.which("gandi-agent"):
        missing = skipped("gandi-agent", "not in the image: what is left to its first boot is not done")
        reports = chain(reports, (StepReport("agent", (missing,), 0.0),))
    if repair or boot_loader:
        reports = _with_disk(ctx, reports, repair=repair, boot_loader=boot_loader)
    return print_steps(reports)


def _with_disk(
    ctx: Context, reports: Iterable[StepReport], *, repair: bool, boot_loader: bool
) -> Iterator[StepReport]:
    """Yield the steps, and at last those for the disk; it is looked for before anything is changed."""
    from agent.image import boot_disk
    from agent.image import boot_loader as loader
    from agent.image import repair as mending
    from agent.image.root_references import BOOT

    here = Host(debug=ctx.host.debug)
    target = boot_disk.find(here, str(ctx.host.root), is_written=boot_loader)
    if boot_loader:
        if BOOT in mending.filesystems(here, ctx.host, target):
            what = f"{BOOT}: a partition of its own: GRUB is installed only with it in the root filesystem"
            raise ConfigError(what, hint="leave --bootloader out, and run grub-install in the machine")
        loader.check(here, ctx.host, target)
    for report in reports:
        yield report
        if report.step == "source" and report.failed:
            return
    if repair:
        work = partial(mending.repair, here, ctx.host, target, with_loader=boot_loader)
        yield attempt(ctx, "repair", work)
    if boot_loader:
        yield attempt(ctx, "boot loader", lambda: loader.install(here, ctx.host, target))


def print_steps(reports: Iterable[StepReport]) -> int:
    """Print the result of each step as it ends; return 1 if one failed, else 0."""
    worst = 0
    for report in reports:
        terminal.print_lines(*report.lines())
        worst = max(worst, int(report.failed))
    return worst


def steps(
    ctx: Context,
    source: str,
    chosen: Sequence[stages.Stage],
    *,
    read: Callable[[], Parsed] | None = None,
    identity: Callable[[], Iterator[Item]] | None = None,
) -> Iterator[StepReport]:
    """Store the document, run the steps, and remove what the first boot must make: host keys, machine-id.

    ``read`` returns the document, by default from ``source``; ``identity`` is run in place of the removal,
    for a machine that has booted.
    """
    ctx.host.sweep()
    settled.remove_mark(ctx.host)
    yield attempt(ctx, "source", lambda: _apply_source(ctx, source, read))
    if ctx.config is None:
        return
    for stage in chosen:
        for step in stages.STAGES[stage]:
            if step.offline and stages.is_due(ctx, step):
                yield stages.run_step(ctx, step)
    if identity is None:
        yield attempt(ctx, "first boot", lambda: remove_host_identity(ctx.host, ctx.config))
    else:
        yield attempt(ctx, "identity", identity)
    if assignments.value(ctx.host.read(_SELINUX) or "", "SELINUX") in ("enforcing", "permissive"):
        yield attempt(ctx, "SELinux", lambda: _have_labelled(ctx.host))


def _apply_source(ctx: Context, source: str, read: Callable[[], Parsed] | None) -> Iterator[Item]:
    if needs_signature(ctx.host):
        raise ConfigError(
            f"{TRUSTED_KEYS} is in the image: the machine itself verifies its document, at its boot",
            hint="deliver a signed document to the machine, or remove the file from the image",
        )
    parsed = read() if read else delivery.read(Host(), source)
    name = parsed.config.identity.source if parsed.config else ""
    found = FoundMedium(Medium(name, source, "", is_named=True), parsed)
    yield from source_step.put_in_force(ctx, found, parsed, ctx.state.config())


def remove_host_identity(host: Host, config: InstanceConfig | None) -> Iterator[Item]:
    """Remove host keys and machine-id, which no two machines may share: the first boot makes new ones."""
    yield renew_host_keys(host, config)
    yield from clean.machine_id(host)


def _have_labelled(host: Host) -> Iterator[Item]:
    """Have the next boot label the files: only the image's own policy has the labels."""
    is_new = host.write(_RELABEL, "")
    yield (changed if is_new else unchanged)(_RELABEL, "the next boot labels the files")


def renew_host_keys(host: Host, config: InstanceConfig | None) -> Item:
    """Remove the host keys: the next boot makes new ones. Those that the document delivers stay."""
    item = next(clean.host_keys(host, config))
    is_delivered = config is not None and config.sshd is not None and config.sshd.has_keys
    if item.outcome is Outcome.CHANGED and not is_delivered and not units.is_enabled(host, KEYGEN):
        # The first boot would not make them, and sshd does not start without.
        if not host.runs_programs:
            return failed("host keys", f"removed, and {KEYGEN} is not enabled in the image", hint=_ENABLE)
        host.run((MAKER,))
        item = changed("host keys", f"made now, since {KEYGEN} is not enabled in the image")
    return item
