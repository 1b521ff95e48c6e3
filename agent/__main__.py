"""The command ``gandi-agent``: its verbs, each importing what it needs. Errors become exit statuses.

0 done; 1 a step or the command failed; 2 wrong usage, or (``status``) not ended yet; 75 another process runs
a stage.
"""

from __future__ import annotations

import os
import sys

from agent.host import terminal
from agent.host.host import Host
from agent.lib.errors import AgentError, ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import NoReturn

#: Verbs that read what only root may read, and verbs that change something.
_READING = ("plan", "disks", "resources", "collect-logs")
_CHANGING = ("detach", "mount", "rerun", "clean", "apply")
_ROOT = frozenset((*_READING, *_CHANGING, "adopt", "succeed", "daemon"))


def main(arguments: Sequence[str] | None = None, host: Host | None = None) -> int:
    """Run the verb on ``host``, by default the running system, and return the exit status.

    Errors are printed on stderr with their remedy.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    host = host or Host()
    try:
        match words:
            # The boot's two verbs, without argparse, which costs 7 ms of CPU, and 100 ms in a slow guest.
            case ["daemon"]:
                _root_only("daemon")
                return _daemon(host)
            case ["run-stage", name]:
                return _run_stage(host, name)
            case _:
                chosen = make_parser().parse_args(words)
                if chosen.debug:
                    host.debug = terminal.debug
                if chosen.verb in _ROOT:
                    _root_only(chosen.verb)
                return _VERBS[chosen.verb](host, chosen)
    except AgentError as error:
        from agent.stages import exit_status

        hint = (f"  try: {error.hint}",) if error.hint else ()
        terminal.print_error(f"gandi-agent: {error.message}", *hint)
        return exit_status(error)
    except BrokenPipeError:  # the reader (head, less) has ended; the rest is discarded
        terminal.discard_output()
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # the interpreter would print its text unescaped
        terminal.print_error(
            f"gandi-agent: unexpected {type(error).__name__}", *terminal.traceback_lines(error)
        )
        return 1


def _root_only(verb: str) -> None:
    """Raise ConfigError for users other than root."""
    if os.geteuid():
        raise ConfigError(f"{verb}: must be run as root", hint=f"sudo gandi-agent {verb}")


def _daemon(host: Host) -> int:
    from agent.context import context
    from agent.daemon.loop import Daemon, sockets

    Daemon(context(host), *sockets(host)).run()
    return 0


def _run_stage(host: Host, name: str) -> int:
    from agent import stages
    from agent.context import context

    if name not in list(stages.Stage):
        make_parser().parse_args(["run-stage", name])  # prints what is wrong, and exits with 2
    _root_only("run-stage")
    ctx, stage = context(host), stages.Stage(name)
    if stages.is_mount_due(host) and stage is not stages.Stage.MOUNT:
        stages.run(ctx, stages.Stage.MOUNT, lambda step: terminal.print_lines(*step.lines()))
    report = stages.run(ctx, stage, lambda step: terminal.print_lines(*step.lines()))
    if not report.steps:
        terminal.print_lines(stages.NO_STEPS)
    return int(report.failed)


def _run_step(host: Host, name: str) -> int:
    """Run a step after its stage, and print what it did. Return 1 if it failed."""
    from agent import stages
    from agent.context import context
    from agent.report import Outcome

    _root_only("run-step")
    items = list(stages.rerun_step(context(host), name))
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
    from agent.cli import plan
    from agent.stages import Stage

    return plan.plan(host, [Stage(chosen.stage)] if chosen.stage else list(Stage))


def _config(host: Host, chosen: Namespace) -> int:
    from agent.cli import documents, plan

    match chosen.what:
        case "validate":
            return documents.validate(host, chosen.path, as_json=chosen.json)
        case "schema":
            return documents.schema()
        case _:
            return plan.config_show(host, as_json=chosen.json)


def _document_verb(host: Host, chosen: Namespace) -> int:
    from agent.cli import documents

    match chosen.verb:
        case "get":
            return documents.get(host, chosen.key)
        case "seed":
            size = chosen.size << 20
            return documents.seed(host, chosen.kind, chosen.config, chosen.script, chosen.out, size)
        case _:
            return documents.ganeti()


def _apply(host: Host, chosen: Namespace) -> int:
    from agent.cli import apply
    from agent.stages import Stage

    stages = [Stage(name) for name in chosen.stage or Stage]
    return apply.apply(chosen.root, chosen.source, stages, host.debug)


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

    return clean.clean(clean.image_host(chosen.root) if chosen.root else host, dry_run=chosen.dry_run)


def _decompress_kernel(host: Host, chosen: Namespace) -> int:
    if not chosen.file:
        _root_only("decompress-kernel")
    from agent.config.settings import SettingsFile
    from agent.image import kernel_image as kernel

    setting = SettingsFile(host).current().decompress_kernel
    return kernel.decompress(host, chosen.file, setting=setting, force=chosen.force, quiet=chosen.quiet)


def _take_over(host: Host, chosen: Namespace) -> int:
    from agent.cli import adopt, succeed

    return adopt.adopt(host) if chosen.verb == "adopt" else succeed.succeed(host)


#: Verb -> function that runs it and returns the exit status. Each imports only what its verb needs.
_VERBS: dict[str, Callable[[Host, Namespace], int]] = {
    "status": _status,
    "timeline": _timeline,
    "why": _why,
    "plan": _plan,
    "config": _config,
    "get": _document_verb,
    "seed": _document_verb,
    "ganeti": _document_verb,
    "apply": _apply,
    "collect-logs": _collect_logs,
    "disks": _disk_verb,
    "resources": _disk_verb,
    "detach": _disk_verb,
    "mount": _disk_verb,
    "rerun": _rerun,
    "clean": _clean,
    "decompress-kernel": _decompress_kernel,
    "adopt": _take_over,
    "succeed": _take_over,
    "run-stage": lambda host, chosen: _run_stage(host, chosen.stage),
    "run-step": lambda host, chosen: _run_step(host, chosen.step),
    "daemon": lambda host, _chosen: _daemon(host),
}


def make_parser() -> ArgumentParser:
    """Return the parser of all verbs; tools/completions.py generates the shell completions from it."""
    from argparse import SUPPRESS, ArgumentParser

    from agent import __version__
    from agent.lib.text import printable
    from agent.stages import Stage

    class Parser(ArgumentParser):
        """Escapes what was typed before it is printed in an error."""

        def error(self, message: str) -> NoReturn:
            super().error(printable(message))

    names = [str(stage) for stage in Stage]
    parser: ArgumentParser = Parser(
        prog="gandi-agent",
        description="Configure this machine from the platform's document; see gandi-agent(1)",
        epilog="exit status: 0 done; 1 failed; 2 not ended, or wrong usage; 75 another process runs a stage",
    )
    parser.add_argument("--version", action="version", version=f"gandi-agent {__version__}")
    parser.add_argument(
        "--debug", action="store_true", help="print each decision and its facts on standard error"
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    status = verbs.add_parser("status", help="how the boot went, and what the agent is doing")
    status.add_argument(
        "--format",
        choices=["short", "text", "json"],
        default="text",
        help="short: the verdict alone; json: for programs (text)",
    )
    status.add_argument(
        "--json", action="store_const", const="json", dest="format", help="the same as --format=json"
    )
    status.add_argument(
        "--wait",
        nargs="?",
        type=_seconds,
        const=300.0,
        metavar="S",
        help="wait until all stages have ended (300 s)",
    )
    status.add_argument("--drift", action="store_true", help="what is no longer as the agent left it")
    timeline = verbs.add_parser("timeline", help="where this boot's time went, until ssh and after")
    form = timeline.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON, for programs")
    form.add_argument("--svg", metavar="FILE", help="write a drawing for a browser to FILE")
    why = verbs.add_parser("why", help="where a thing comes from, and whether it was changed since")
    why.add_argument("what", metavar="WHAT", help="a path, address, NIC, user, key, disk, setting, ...")
    why.add_argument("--json", action="store_true", help="print JSON, for programs")
    plan = verbs.add_parser("plan", help="what each stage would do now; changes nothing")
    plan.add_argument("stage", nargs="?", choices=names)
    logs = verbs.add_parser("collect-logs", help="pack the data for a fault report, without secrets")
    logs.add_argument(
        "-o", dest="out", metavar="FILE", help="the archive (gandi-logs-HOST-TIME.tar in the current folder)"
    )
    _document_verbs(verbs, names)
    _disk_verbs(verbs)
    rerun = verbs.add_parser("rerun", help="run the customer's script once more")
    rerun.add_argument("what", choices=["script"])
    _image_verbs(verbs)
    _internal_verbs(verbs, names)
    for verb in verbs.choices.values():  # --debug is also accepted after the verb
        verb.add_argument("--debug", action="store_true", default=SUPPRESS, help=SUPPRESS)
    return parser


def _disk_verbs(verbs: _SubParsersAction[ArgumentParser]) -> None:
    """Add the verbs about attached disks and other resources."""
    disks = verbs.add_parser("disks", help="each disk, what is done with it, and why")
    resources = verbs.add_parser("resources", help="the same for disks, CPUs, memory and NICs")
    for parser in (disks, resources):
        parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    detach = verbs.add_parser("detach", help="release a disk, so that the platform may detach it")
    detach.add_argument("disk", metavar="DISK|MOUNTPOINT", help="its name, path, label or serial number")
    mount = verbs.add_parser("mount", help="mount a disk that was detached or unmounted")
    mount.add_argument("disk", metavar="DISK", help="its name, path, label or serial number")


def _document_verbs(verbs: _SubParsersAction[ArgumentParser], stages: list[str]) -> None:
    """Add the verbs about documents and media."""
    config = verbs.add_parser("config", help="show what is in force, or check a document")
    about = config.add_subparsers(dest="what", required=True, metavar="show|validate|schema")
    show = about.add_parser("show", help="the settings and the document in force, without secrets")
    show.add_argument("--json", action="store_true", help="print JSON, for programs")
    validate = about.add_parser("validate", help="the errors of a document, a drive or an image")
    validate.add_argument(
        "path", metavar="PATH", help="a file, a folder laid out as a drive, a device; - is stdin"
    )
    validate.add_argument("--json", action="store_true", help="print JSON, for programs")
    about.add_parser("schema", help="the JSON Schema of the native document")
    get = verbs.add_parser("get", help="the platform's metadata of this machine")
    get.add_argument("key", nargs="?", metavar="KEY", help="default: every key")
    apply = verbs.add_parser(
        "apply",
        help="configure a mounted image without booting it",
        epilog="The document is trusted, the image is not: its programs are run by bubblewrap, without"
        " access to this machine. They may use CPU, memory and the image's disk; the kernel's driver reads"
        " its filesystem. See gandi-agent(1).",
    )
    apply.add_argument(
        "--root", required=True, type=_path, metavar="DIR", help="the mountpoint of the image"
    )
    apply.add_argument("--source", required=True, metavar="PATH", help="as for config validate")
    apply.add_argument("--stage", action="append", choices=stages, help="only the steps of this stage")
    seed = verbs.add_parser("seed", help="make a medium that the agent reads")
    seed.add_argument("kind", choices=["swap", "iso", "dir"])
    seed.add_argument("--config", required=True, metavar="FILE", help="the document")
    seed.add_argument("--script", metavar="FILE", help="the customer's script")
    seed.add_argument("-o", "--out", required=True, metavar="OUT")
    seed.add_argument("--size", type=int, default=512, metavar="MIB", help="size of a swap image (512)")


def _image_verbs(verbs: _SubParsersAction[ArgumentParser]) -> None:
    """Add the verbs for image builds and for the package."""
    clean = verbs.add_parser("clean", help="remove what identifies this machine, to make an image of it")
    clean.add_argument("--root", type=_path, metavar="DIR", help="the system that is mounted there")
    clean.add_argument("--dry-run", action="store_true", help="show what would be done")
    kernel = verbs.add_parser("decompress-kernel", help="unpack kernels for the loader of a Xen PV machine")
    kernel.add_argument("file", nargs="*", metavar="FILE", help="default: those in /boot")
    kernel.add_argument("--force", action="store_true", help="also on a machine that does not need it")
    kernel.add_argument("--quiet", action="store_true", help="print only changes and failures")


def _internal_verbs(verbs: _SubParsersAction[ArgumentParser], stages: list[str]) -> None:
    """Add the verbs run by units, the package and the Ganeti hook; --help omits them without help texts."""
    verbs.add_parser("daemon", description="For gandi-agent.service.")
    run_stage = verbs.add_parser(
        "run-stage", description="For the stage units, when the daemon does not answer."
    )
    run_stage.add_argument("stage", choices=stages)
    run_step = verbs.add_parser("run-step", description="For the programs that the agent writes.")
    run_step.add_argument("step", choices=["deferred files"])
    verbs.add_parser("adopt", description="For the package: record a running machine as it is.")
    verbs.add_parser("succeed", description="For the package: take over from gandi-hosting-vm2.")
    verbs.add_parser(
        "ganeti", description="For the hook of instance-debootstrap: its variables as a document."
    )


def _path(text: str) -> Path:
    from pathlib import Path

    return Path(text)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < 1e9:
        raise ValueError(text)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
