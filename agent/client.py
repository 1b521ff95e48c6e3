"""The stage client: asks the daemon to run a stage, shows each line, ends with the stage's exit status.

Runs as ``python3 -I -S client.py STAGE``, alone: nothing of the package, and ``_socket`` for ``socket``,
which would cost as much CPU as all the rest (6 ms of 13; four times in each boot, and fifteen times that in
a slow guest). Where the daemon is dead, hangs or goes away, this process becomes the full agent, which runs
the stage itself; a lock keeps a stage from running twice at a time.
"""

import sys
from _socket import AF_UNIX, SOCK_STREAM, socket

SOCKET = "/run/gandi/agent.sock"
AGENT = "/usr/bin/gandi-agent"
#: Seconds without a sign of life, before the acknowledgement and after: socket activation lets connect()
#: succeed while the daemon is dead, and a stopped daemon keeps its connections open.
SILENCE = 20.0
#: No line of the daemon's is longer (bytes).
LINE_LIMIT = 1 << 18


class Unanswered(Exception):
    """The daemon did not do it; the text says why."""


def ask(stage: str) -> int:
    """Let the daemon run the stage and return its exit status. Raises Unanswered when it cannot be relied
    upon.
    """
    try:
        daemon = socket(AF_UNIX, SOCK_STREAM)
        daemon.settimeout(SILENCE)
        daemon.connect(SOCKET)
        daemon.sendall(f"stage {stage}\n".encode())
        return follow(daemon)
    except TimeoutError:
        raise Unanswered(f"said nothing for {SILENCE:g} s") from None
    except OSError as error:
        raise Unanswered(error.strerror or "failed") from None


def follow(daemon: socket) -> int:
    """Show what the daemon says, until it says how the stage ended."""
    unread = b""
    while True:
        received = daemon.recv(4096)
        if not received or len(unread) > LINE_LIMIT:
            raise Unanswered("hung up before the stage ended")
        *lines, unread = (unread + received).split(b"\n")
        for line in lines:
            word, _, rest = line.decode("utf-8", "replace").partition(" ")
            if word == "-":
                print(rest, flush=True)
            elif word == "end":
                return int(rest) if rest.isdigit() else 1
            elif word not in ("ok", "."):
                raise Unanswered(f"said {line[:40]!r}")


def main(arguments: list[str]) -> int:
    """The exit status of the stage; does not return where the agent takes over."""
    if len(arguments) != 1:
        print("usage: client.py STAGE", file=sys.stderr)
        return 2
    try:
        return ask(arguments[0])
    except Unanswered as why:
        print(f"the daemon {why}: running the stage here", flush=True)
    import os  # not loaded yet: see -S

    os.execv(AGENT, [AGENT, "run-stage", arguments[0]])  # noqa: S606  # no shell is what is wanted


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
