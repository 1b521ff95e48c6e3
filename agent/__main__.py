"""The command ``gandi-agent``: the verbs, each importing what it needs. The only module that turns errors
into exit statuses.

0 done; 1 a step failed, or the command did; 2 wrong usage, or (``status``) not ended yet; 75 somebody else
runs a stage.
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

from agent.errors import AgentError
from agent.host import Host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None, host: Host | None = None) -> int:
    """Run the verb on ``host``, by default the running system; the exit status. Errors go to stderr with
    their remedy.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    host = host or Host()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A name that the terminal's character set lacks, or that is no text at all, must not end a verb.
            stream.reconfigure(errors="backslashreplace")
    try:
        match words:
            # The two verbs of the boot, before argparse: it costs 7 ms of CPU, a hundred in a slow guest.
            case ["daemon"]:
                return _daemon(host)
            case ["run-stage", name]:
                return _run_stage(host, name)
            case _:
                status = _dispatch(host, _parser().parse_args(words))
                sys.stdout.flush()  # at exit, the interpreter's own flush would fail where nobody catches it
                return status
    except AgentError as error:
        from agent.stages import exit_status

        print(f"gandi-agent: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  try: {error.hint}", file=sys.stderr)
        return exit_status(error)
    except BrokenPipeError:  # the reader (head, less) has seen enough; what is left goes nowhere
        with Host().opened(os.devnull, os.O_WRONLY) as nowhere:
            os.dup2(nowhere, sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _daemon(host: Host) -> int:
    from agent.context import context
    from agent.daemon import Daemon, listener

    Daemon(context(host), listener(host)).run()
    return 0


def _run_stage(host: Host, name: str) -> int:
    from agent import stages
    from agent.context import context

    if name not in list(stages.Stage):
        return _dispatch(host, _parser().parse_args(["run-stage", name]))  # says what is wrong, and exits 2
    report = stages.run(
        context(host), stages.Stage(name), lambda step: print(*step.lines(), sep="\n", flush=True)
    )
    if not report.steps:
        print(stages.NOTHING, flush=True)
    return int(report.failed)


def _dispatch(host: Host, chosen: Namespace) -> int:
    match chosen.verb:
        case "status":
            from agent import statusverb

            return statusverb.status(host, as_json=chosen.json, wait=chosen.wait)
        case "plan":
            from agent import verbs
            from agent.stages import Stage

            return verbs.plan(host.root, [Stage(chosen.stage)] if chosen.stage else list(Stage))
        case "config":
            from agent import verbs

            return verbs.config_show(host, as_json=chosen.json)
        case "disks":
            from agent import verbs

            return verbs.disks(host)
        case "clean":
            from agent import verbs

            return verbs.clean(host)
        case "run-stage":
            return _run_stage(host, chosen.stage)
        case _:
            return _daemon(host)


def _parser() -> ArgumentParser:
    from argparse import ArgumentParser

    from agent import __version__
    from agent.stages import Stage

    names = [str(stage) for stage in Stage]
    parser = ArgumentParser(
        prog="gandi-agent",
        description="Makes a machine of the platform's document, and its devices usable. (gandi-agent(1))",
        epilog="exit status: 0 done; 1 failed; 2 not ended, or wrong usage; 75 somebody else runs a stage",
    )
    parser.add_argument("--version", action="version", version=f"gandi-agent {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    status = verbs.add_parser("status", help="how the boot went, and what the agent is doing")
    status.add_argument("--json", action="store_true", help="for programs")
    status.add_argument(
        "--wait",
        nargs="?",
        type=_seconds,
        const=300.0,
        metavar="S",
        help="until all stages have ended (300 s)",
    )
    plan = verbs.add_parser("plan", help="what each stage would do now; changes nothing")
    plan.add_argument("stage", nargs="?", choices=names)
    config = verbs.add_parser("config", help="what is in force and where it comes from, without secrets")
    config.add_argument("show", choices=["show"])
    config.add_argument("--json", action="store_true", help="for programs")
    verbs.add_parser("disks", help="each disk, and what is done with it or why not")
    verbs.add_parser("clean", help="forget this instance, before the disk becomes an image")
    verbs.add_parser("daemon", help="for gandi-agent.service")
    run_stage = verbs.add_parser("run-stage", help="for the stage units, when the daemon does not answer")
    run_stage.add_argument("stage", choices=names)
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < 1e9:
        raise ValueError(text)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
