"""``plan`` with a document and an image: what the first boot of that image would do.

The steps run in a copy that is thrown away (disks/offline/scratch.py), so each finds what those before it
have written, as at the boot. Nothing of the image is run or changed. What only the machine itself can know
is named as such.
"""

from __future__ import annotations

import contextlib
import os
from functools import partial

from agent import sources, stages
from agent.cli import plan
from agent.cli.plan import KNOWN_AT_BOOT
from agent.context import Medium, attempt, context
from agent.disks.offline import image, loop, mounting, roots, scratch
from agent.host import terminal
from agent.host.host import Host
from agent.image import delivery
from agent.lib.errors import ConfigError
from agent.lib.records import dataclass
from agent.report import Outcome, StepReport, skipped
from agent.sources import TRUSTED_KEYS, FoundMedium, needs_signature
from agent.stages import STAGES, Stage
from agent.steps import plugins
from agent.steps import source as source_step
from agent.systemd import sealed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from agent.context import Context
    from agent.reader.client import Parsed
    from agent.report import Item

    Debug = Callable[[str], None] | None
    Planned = tuple[Stage, StepReport, tuple[str, ...]]

#: The bookkeeping of the boot that the steps write to the copy.
_STATE = ("/var/lib/gandi/", "/run/gandi/")


@dataclass(frozen=True, slots=True)
class AtBoot:
    """What of a step only the machine can know. ``runs``: the step has items of files, too; those that it
    skips are the machine's. ``notes``: there may be items that files do not show.
    """

    what: str
    runs: bool = True
    notes: bool = False


_PROGRAMS = AtBoot("how the programs end")
_DISKS = AtBoot("the machine's disks", runs=False)
#: Each step of a boot that is not planned from files alone.
AT_BOOT = {
    "modules": AtBoot("the running kernel, and the modules delivered for it", runs=False),
    "swap": AtBoot("the disk to swap to", runs=False),
    "network": AtBoot("the machine's NICs and their names, and NICs in no document", notes=True),
    "boot programs": _PROGRAMS,
    "partition tables": _DISKS,
    "filesystems": _DISKS,
    "mounts": _DISKS,
    "bootstrap.d": _PROGRAMS,
    "disks": _DISKS,
    "resources": AtBoot("the machine's CPUs and memory", runs=False),
    "console": AtBoot("the machine's consoles", runs=False),
    "system files": AtBoot("the UUID of the root filesystem, for /etc/fstab"),
    "swap file": AtBoot("the machine's memory, and the space that is free then"),
    "plugins": _PROGRAMS,
    "root disk": AtBoot("the size of the machine's disk", runs=False),
    "scripts": _PROGRAMS,
    "kernel images": AtBoot("whether the machine's loader can unpack kernels", runs=False),
    "fsck": AtBoot("the counters of the root filesystem", runs=False),
}
#: An item that would be made by a program's answer (NeedsProgram).
_NEEDS = "left to the first boot"
_HOOK = AtBoot("how the program ends", runs=False)
_KERNEL_LINE = AtBoot("the kernel command line, in which gandi= names a timezone", notes=True)
#: Of the other steps, only what is sealed or needs a program is left.
_OTHER = AtBoot("")
_PACKAGES = AtBoot("it is written when the packages are installed", runs=False)


def of_root(root: str | Path, source: str, chosen: Sequence[Stage], debug: Debug = None) -> int:
    """Print what the first boot of the system below ``root`` would do with the document; return 1 if a step
    would fail, else 0. Raise ConfigError or HostError for a tree that cannot be looked at.
    """
    parsed, host, path = delivery.read(Host(debug=debug), source), Host(debug=debug), os.path.realpath(root)
    mounting.leave_shared_mounts(host)
    with scratch.room(host):
        return of_tree(host, path, str(root), source, parsed, chosen)


def of_image(path: str, partition: str, source: str, chosen: Sequence[Stage], debug: Debug = None) -> int:
    """Do the same for the system on an image; see apply_image.run."""
    parsed, host = delivery.read(Host(debug=debug), source), Host(debug=debug)
    mounting.leave_shared_mounts(host)
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(image.opened(host, path, read_only=True))
        attach = partial(loop.attached, sector=opened.sector, partitions=True, read_only=True)
        name = stack.enter_context(attach(host, opened.descriptor))
        root = roots.choose(host, roots.read(host, name), path, partition)
        terminal.print_lines(f"image: {path}: the system on {root} ({root.fstype})")
        node = stack.enter_context(roots.node(host, root))
        stack.enter_context(scratch.room(host))
        there = mounting.mounted(host, node, root.fstype, read_only=True, place=scratch.IMAGE)
        stack.enter_context(there)
        return of_tree(host, scratch.IMAGE, path, source, parsed, chosen)


def of_tree(
    host: Host,
    path: str,
    shown: str,
    source: str,
    parsed: Parsed,
    chosen: Sequence[Stage],
    *,
    in_user_namespace: bool = False,
) -> int:
    """Print the plan of the tree at ``path``, which is named ``shown``. There is room for a copy."""
    with scratch.copied(host, path, in_user_namespace=in_user_namespace) as copy:
        there = scratch.ScratchHost(copy, debug=host.debug)
        if not there.exists("/etc/passwd"):
            what = f"{shown}: no system is mounted there"
            raise ConfigError(what, hint="mount the image's root filesystem")
        return _print(first_boot(context(there), source, parsed, chosen))


def _print(found: Iterator[Planned]) -> int:
    worst, stage = 0, None
    for now, report, effects in found:
        if now is not stage:
            stage = now
            terminal.print_lines(f"{stage}:")
        match report.items:
            case [one] if one.name == report.step and one.detail.startswith(KNOWN_AT_BOOT):
                terminal.print_lines(f"  {report.step}: {one.detail}")
                continue
        worst |= plan.print_step(report, [effect for effect in effects if not _is_state(effect)])
    return worst


def first_boot(ctx: Context, source: str, parsed: Parsed, chosen: Sequence[Stage]) -> Iterator[Planned]:
    """Yield the report of each step of the stages, and its effects. Of what is not known before the
    boot the items are skipped ones, with a detail that begins with KNOWN_AT_BOOT.
    """
    seen = 0
    for stage in Stage:
        for step in STAGES[stage]:
            if step.name == "source":
                report = attempt(ctx, step.name, lambda: _source(ctx, source, parsed))
            elif stage not in chosen or not stages.is_due(ctx, step):
                continue
            else:
                report = _planned(ctx, step)
            if stage in chosen or report.failed:
                yield stage, report, tuple(ctx.host.planned[seen:])
            seen = len(ctx.host.planned)


def _planned(ctx: Context, step: stages.Step) -> StepReport:
    at_boot = _at_boot(ctx, step)
    if stages.reason_to_skip(ctx, step) or at_boot is None:
        at_boot = _OTHER
    elif not at_boot.runs:
        return StepReport(step.name, (_left(step.name, at_boot.what),), 0.0)
    report = stages.run_step(ctx, step)
    if step.name == "scripts" and report.items:
        programs = ctx.config.scripts if ctx.config else ()
        names = [_left(script.name, at_boot.what) for script in programs]
        return StepReport(step.name, (*names, _left(step.name, at_boot.what)), report.seconds)
    items = [_as_known(item, at_boot) for item in report.items]
    if at_boot.notes:
        items.append(_left(step.name, at_boot.what))
    return StepReport(report.step, tuple(items), report.seconds)


def _at_boot(ctx: Context, step: stages.Step) -> AtBoot | None:
    config = ctx.config
    if step.config_field and not stages.has_part(ctx, step):
        return None
    if step.name == "post-vm-config" and ctx.host.exists(f"{ctx.settings.hook_dir}/{plugins.CONFIGURED}"):
        return _HOOK
    if step.name == "timezone" and not (config and config.timezone):
        return _KERNEL_LINE
    if step.name == "deferred files" and config and config.system and config.system.packages:
        return _PACKAGES
    return AT_BOOT.get(step.name)


def _as_known(item: Item, at_boot: AtBoot) -> Item:
    """Return the item, as one of the boot if it is left to the machine."""
    of_boot = at_boot.what or item.detail.startswith((sealed.LEFT, _NEEDS))
    is_left = item.outcome is Outcome.SKIPPED and of_boot
    is_left = is_left or (item.outcome is Outcome.CHANGED and at_boot is _PROGRAMS)
    return _left(item.name, at_boot.what or item.detail) if is_left else item


def _left(name: str, what: str) -> Item:
    return skipped(name, f"{KNOWN_AT_BOOT}: {what}")


def _source(ctx: Context, source: str, parsed: Parsed) -> Iterator[Item]:
    """Put the document in force in the copy, as if the machine had found it on a medium."""
    if why := sources.why_disabled(ctx):
        yield skipped("source", why)
        return
    if needs_signature(ctx.host):
        raise ConfigError(
            f"{TRUSTED_KEYS} is in the image: the machine itself verifies its document, at its boot",
            hint="deliver a signed document to the machine, or remove the file from the image",
        )
    name = parsed.config.identity.source if parsed.config else ""
    found = FoundMedium(Medium(name, source, "", is_named=True), parsed)
    yield from source_step.put_in_force(ctx, found, parsed, ctx.state.config())


def _is_state(effect: str) -> bool:
    words = effect.split(" ")
    return len(words) > 1 and words[1].startswith(_STATE)
