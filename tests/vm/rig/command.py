"""Run tools of the build host, with one form of error.

For the rig only: the agent's commands go through its `Host`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

CLEAN_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
}
# Variables that a network may need to reach a mirror.
PASSED_ON = ("http_proxy", "https_proxy", "no_proxy", "SOURCE_DATE_EPOCH")


class RigError(Exception):
    """The test rig itself failed, not the product."""


def environment() -> dict[str, str]:
    """Return a clean environment for host tools, with the caller's proxy settings."""
    return CLEAN_ENVIRONMENT | {name: os.environ[name] for name in PASSED_ON if name in os.environ}


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | None = None,
    timeout: float = 120,
) -> str:
    """Run a host tool and return its standard output; `timeout` in seconds.

    Raise RigError with the end of its output when it fails, is missing or takes too long.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=environment(),
            check=False,
        )
    except FileNotFoundError as error:
        raise RigError(f"{words[0]} is not installed; run tools/setup") from error
    except subprocess.TimeoutExpired as error:
        raise RigError(f"{' '.join(words)}: not done after {timeout} s") from error
    if done.returncode:
        said = (done.stdout + done.stderr)[-3000:]
        raise RigError(f"{' '.join(words)}: exit {done.returncode}\n{said}")
    return done.stdout


def need_root(purpose: str) -> None:
    """Raise RigError that names the purpose, unless this process is root."""
    if os.geteuid() != 0:
        raise RigError(f"{purpose} needs root (chroot, overlay and loop mounts): run this with sudo")
