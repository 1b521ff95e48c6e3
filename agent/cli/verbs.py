"""The verbs of ``gandi-agent`` but for the work of a boot, each importing only what it needs."""

from __future__ import annotations

import os

from agent.cli.arguments import make_parser
from agent.host import terminal
from agent.lib.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence

    from agent.host.host import Host

#: Verbs that read what only root may read, and verbs that change something.
_READING = ("plan", "disks", "resources", "collect-logs")
_CHANGING = ("detach", "mount", "rerun", "clean", "apply")
_ROOT = frozenset((*_READING, *_CHANGING, "adopt", "succeed", "withdraw", "daemon", "run-stage", "run-step"))


def run(
    host: Host,
    words: Sequence[str],
    daemon: Callable[[Host], int],
    run_stage: Callable[[Host, str], int],
) -> int:
    """Run the verb that the words ask for, and return the exit status. ``daemon`` and ``run_stage`` are the
    two verbs of a boot.

    Raise AgentError for what failed; SystemExit, with a message on stderr, for words that are wrong.
    """
    chosen = make_parser().parse_args(words)
    if chosen.debug:
        host.debug = terminal.debug
    if chosen.verb in _ROOT and not _is_for_users(chosen):
        _root_only(chosen.verb)
    match chosen.verb:
        case "daemon":
            return daemon(host)
        case "run-stage":
            return run_stage(host, chosen.stage)
        case verb:
            return _VERBS[verb](host, chosen)


def _root_only(verb: str) -> None:
    """Raise ConfigError for users other than root."""
    if os.geteuid():
        raise ConfigError(f"{verb}: must be run as root", hint=f"sudo gandi-agent {verb}")


def _is_for_users(chosen: Namespace) -> bool:
    """Return whether a user may do it for an image of their own (cli/unprivileged.py)."""
    if chosen.verb not in ("plan", "apply"):
        return False
    is_tree = chosen.root is not None and os.path.realpath(chosen.root) != "/"
    return is_tree or chosen.image is not None


def _run_step(host: Host, chosen: Namespace) -> int:
    """Run a step after its stage, and print what it did. Return 1 if it failed."""
    from agent import stages
    from agent.context import context
    from agent.report import Outcome

    items = list(stages.rerun_step(context(host), chosen.step))
    terminal.print_lines(*map(str, items))
    return int(any(item.outcome is Outcome.FAILED for item in items))


def _status(host: Host, chosen: Namespace) -> int:
    if chosen.drift:
        if chosen.wait is not None:
            raise ConfigError("status: --drift does not wait", hint="gandi-agent status --wait first")
        _root_only("status --drift")
        from agent.cli import drift

        return drift.drift(host, as_json=chosen.format == "json")
    from agent.cli import status

    return status.status(host, form=chosen.format, wait=chosen.wait)


def _timeline(host: Host, chosen: Namespace) -> int:
    from agent.cli import timeline

    return timeline.timeline(host, as_json=chosen.json, svg=chosen.svg)


def _why(host: Host, chosen: Namespace) -> int:
    from agent.cli import why

    if not why.is_setting(chosen.what):
        _root_only("why")
    return why.why(host, chosen.what, as_json=chosen.json)


def _plan(host: Host, chosen: Namespace) -> int:
    from agent.stages import Stage

    stages = [Stage(chosen.stage)] if chosen.stage else list(Stage)
    if chosen.root is None and chosen.image is None:
        if chosen.source is not None or chosen.partition is not None:
            raise ConfigError("plan: no image for that", hint="name it with --image or --root")
        from agent.cli import plan

        return plan.plan(host, stages)
    if chosen.source is None:
        raise ConfigError("plan: --source is missing", hint="name the document of the first boot")
    if chosen.image is None and chosen.partition is not None:
        raise ConfigError("plan: --partition needs the disk", hint="name it with --image")
    from agent.cli import plan_image, unprivileged

    user = os.geteuid() != 0
    if chosen.image is None:
        of_root = unprivileged.plan_root if user else plan_image.of_root
        return of_root(chosen.root, chosen.source, stages, host.debug)
    of_image = unprivileged.plan_of_image if user else plan_image.of_image
    return of_image(chosen.image, chosen.partition or "", chosen.source, stages, host.debug)


def _config(host: Host, chosen: Namespace) -> int:
    from agent.cli import documents, plan

    match chosen.what:
        case "validate":
            return documents.validate(host, chosen.path, as_json=chosen.json)
        case "schema":
            return documents.schema()
        case _:
            return plan.config_show(host, as_json=chosen.json, as_sh=chosen.sh)


def _document_verb(host: Host, chosen: Namespace) -> int:
    from agent.cli import documents

    match chosen.verb:
        case "get":
            return documents.get(host, chosen.key)
        case _:
            size = chosen.size << 20
            return documents.seed(
                host, chosen.kind, chosen.config, chosen.script, chosen.out, size, sign=chosen.sign
            )


def _ganeti(host: Host, chosen: Namespace) -> int:
    from agent.cli import ganeti

    if chosen.what in ("rename", "fstab", "bootloader", "repair"):
        _root_only(f"ganeti {chosen.what}")
    return ganeti.run(chosen.what, chosen.values, host.debug)


def _apply(host: Host, chosen: Namespace) -> int:
    from agent.cli import apply
    from agent.stages import Stage

    stages = [Stage(name) for name in chosen.stage or Stage]
    mended = {"repair": chosen.repair, "boot_loader": chosen.bootloader == "grub"}
    on_disk = (chosen.partition, chosen.grow, chosen.swap)
    programs = not chosen.no_programs
    if any(mended.values()) and not programs:
        what = "apply: --repair and --bootloader run programs of the image"
        raise ConfigError(what, hint="leave --no-programs out, or run them by a command of their own")
    if chosen.source is None and not any(mended.values()):
        hint = "name a document, or only mend the image: --repair, --bootloader grub"
        raise ConfigError("apply: --source is missing", hint=hint)
    user = os.geteuid() != 0
    if user and any(mended.values()):
        what = "apply: --repair and --bootloader must be run as root"
        raise ConfigError(what, hint="sudo gandi-agent apply")
    if chosen.image is None:
        if any(value is not None for value in on_disk):
            raise ConfigError(
                "apply: --partition, --grow and --swap need the disk", hint="name it with --image"
            )
        if user:
            from agent.cli import unprivileged

            return unprivileged.apply_root(chosen.root, chosen.source, stages, host.debug)
        return apply.apply(chosen.root, chosen.source, stages, host.debug, programs=programs, **mended)
    from agent.cli import apply_image, unprivileged

    run = unprivileged.apply_image if user else apply_image.run
    options = apply_image.options(*on_disk, programs=programs, **mended)
    return run(chosen.image, chosen.source, stages, options, host.debug)


def _collect_logs(host: Host, chosen: Namespace) -> int:
    from agent.cli import collect_logs

    return collect_logs.collect(host, chosen.out)


def _disk_verb(host: Host, chosen: Namespace) -> int:
    from agent.cli import disks

    match chosen.verb:
        case "disks":
            return disks.disks(host, as_json=chosen.json)
        case "resources":
            return disks.resources(host, as_json=chosen.json)
        case "detach":
            return disks.detach(host, chosen.disk)
        case _:
            return disks.mount(host, chosen.disk)


def _rerun(host: Host, _chosen: Namespace) -> int:
    from agent.cli import rerun

    return rerun.script(host)


def _clean(host: Host, chosen: Namespace) -> int:
    from agent.cli import clean

    on = {
        clean.LOGS: chosen.logs,
        clean.KEYS: chosen.ssh_keys,
        clean.USERS: chosen.users,
        clean.ZERO: chosen.zero,
    }
    also = [name for name, is_on in on.items() if is_on]
    there = clean.image_host(chosen.root) if chosen.root else host
    return clean.clean(there, dry_run=chosen.dry_run, also=also)


def _decompress_kernel(host: Host, chosen: Namespace) -> int:
    if not chosen.file:
        _root_only("decompress-kernel")
    from agent.config.settings import SettingsFile
    from agent.image import kernel_image as kernel

    setting = SettingsFile(host).current().decompress_kernel
    return kernel.decompress(host, chosen.file, setting=setting, force=chosen.force, quiet=chosen.quiet)


def _package_verb(host: Host, chosen: Namespace) -> int:
    match chosen.verb:
        case "adopt":
            from agent.cli import adopt

            return adopt.adopt(host)
        case "succeed":
            from agent.cli import succeed

            return succeed.succeed(host)
        case _:
            from agent.cli import withdraw

            return withdraw.withdraw(host)


#: Verb -> function that runs it and returns the exit status. Each imports only what its verb needs.
_VERBS: dict[str, Callable[[Host, Namespace], int]] = {
    "status": _status,
    "timeline": _timeline,
    "why": _why,
    "plan": _plan,
    "config": _config,
    "get": _document_verb,
    "seed": _document_verb,
    "ganeti": _ganeti,
    "apply": _apply,
    "collect-logs": _collect_logs,
    "disks": _disk_verb,
    "resources": _disk_verb,
    "detach": _disk_verb,
    "mount": _disk_verb,
    "rerun": _rerun,
    "clean": _clean,
    "decompress-kernel": _decompress_kernel,
    "adopt": _package_verb,
    "succeed": _package_verb,
    "withdraw": _package_verb,
    "run-step": _run_step,
}
