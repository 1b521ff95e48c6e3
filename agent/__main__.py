"""The command ``gandi-agent``: the two verbs of a boot, and errors as exit statuses. The other verbs are in
cli/verbs.py, which costs a boot nothing.

0 done; 1 a step or the command failed; 2 wrong usage, or (``status``) not ended yet; 75 another process runs
a stage.
"""

from __future__ import annotations

import os
import sys

from agent.host import terminal
from agent.host.host import Host
from agent.lib.errors import AgentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None, host: Host | None = None) -> int:
    """Run the verb on ``host``, by default the running system, and return the exit status.

    Errors are printed on stderr with their remedy.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    host = host or Host()
    try:
        match words:
            # Without argparse, which costs 7 ms of CPU, and 100 ms in a slow guest.
            case ["daemon"] if not os.geteuid():
                return _daemon(host)
            case ["run-stage", name] if not os.geteuid():
                return _run_stage(host, name)
            case _:
                from agent.cli import verbs

                return verbs.run(host, words, _daemon, _run_stage)
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


def _daemon(host: Host) -> int:
    from agent.context import context
    from agent.daemon.control_socket import sockets
    from agent.daemon.loop import Daemon

    Daemon(context(host), *sockets(host)).run()
    return 0


def _run_stage(host: Host, name: str) -> int:
    from agent import stages
    from agent.context import context

    if name not in list(stages.Stage):
        from agent.cli.arguments import make_parser

        make_parser().parse_args(["run-stage", name])  # prints what is wrong, and exits with 2
    ctx, stage = context(host), stages.Stage(name)
    if stages.is_mount_due(host) and stage is not stages.Stage.MOUNT:
        stages.run(ctx, stages.Stage.MOUNT, lambda step: terminal.print_lines(*step.lines()))
    report = stages.run(ctx, stage, lambda step: terminal.print_lines(*step.lines()))
    if not report.steps:
        terminal.print_lines(stages.NO_STEPS)
    return int(report.failed)


if __name__ == "__main__":
    sys.exit(main())
