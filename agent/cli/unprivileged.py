"""``plan`` and ``apply`` for a user who is not root, in a user namespace: a tree of their own, or an image.

Nothing of the image is run. An image's bytes are read by a throw-away machine alone (disks/offline/
appliance.py).
"""

from __future__ import annotations

import os
from functools import partial

from agent.cli import apply, plan_image
from agent.disks.offline import appliance, image, mounting, scratch
from agent.host import terminal, user_namespace
from agent.host.host import Host
from agent.image import delivery
from agent.lib.errors import ConfigError
from agent.report import StepReport, skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agent.cli.apply_image import Options
    from agent.reader.client import Parsed
    from agent.stages import Stage

    Debug = Callable[[str], None] | None

_GROWTH = "left to the first boot, which grows the root to its disk: only root can grow an image"


def apply_root(root: str | Path, source: str, chosen: Sequence[Stage], debug: Debug = None) -> int:
    """Configure a tree of the user's own; see apply.apply."""
    parsed, path = delivery.read(Host(debug=debug), source), os.path.realpath(root)
    _become_root(Host(debug=debug), path)
    return apply.apply(path, source, chosen, debug, read=partial(_same, parsed), programs=False)


def plan_root(root: str | Path, source: str, chosen: Sequence[Stage], debug: Debug = None) -> int:
    """Print the plan of a tree of the user's own; see plan_image.of_root."""
    parsed, path, host = delivery.read(Host(debug=debug), source), os.path.realpath(root), Host(debug=debug)
    _become_root(host, path)
    with scratch.room(host):
        return plan_image.of_tree(host, path, str(root), source, parsed, chosen, in_user_namespace=True)


def apply_image(
    path: str, source: str, chosen: Sequence[Stage], wanted: Options, debug: Debug = None
) -> int:
    """Configure the system on an image, see apply_image.run; its sizes stay."""
    if wanted.swap:
        raise ConfigError(
            "--swap: only root can add swap to an image", hint="leave it out, or run it as root"
        )
    host = Host(debug=debug)
    parsed, environment, file = _opened(host, path, source, read_only=False)
    why = "--grow=none" if not wanted.grow else _GROWTH
    with (
        scratch.room(host),
        appliance.mounted(
            host, file, wanted.partition, scratch.IMAGE, environment=environment, read_only=False
        ),
    ):
        terminal.print_lines(f"image: {path}: the system found in it, by a throw-away machine")
        apply.print_steps((StepReport("growth", (skipped("root disk", why),), 0.0),))
        return apply.apply(scratch.IMAGE, source, chosen, debug, read=partial(_same, parsed), programs=False)


def plan_of_image(
    path: str, partition: str, source: str, chosen: Sequence[Stage], debug: Debug = None
) -> int:
    """Print the plan of the system on an image; see plan_image.of_image."""
    host = Host(debug=debug)
    parsed, environment, file = _opened(host, path, source, read_only=True)
    with (
        scratch.room(host),
        appliance.mounted(host, file, partition, scratch.IMAGE, environment=environment, read_only=True),
    ):
        terminal.print_lines(f"image: {path}: the system found in it, by a throw-away machine")
        return plan_image.of_tree(host, scratch.IMAGE, path, source, parsed, chosen, in_user_namespace=True)


def _opened(host: Host, path: str, source: str, *, read_only: bool) -> tuple[Parsed, dict[str, str], str]:
    """Read the document, check the image, and become root of a namespace. Return the document, the
    environment of the throw-away machine, and the image's absolute path.
    """
    parsed = delivery.read(host, source)
    # Only looked at: QEMU locks it.
    with image.opened(host, path, read_only=read_only):
        pass
    environment = appliance.prepared(host, dict(os.environ))
    _become_root(host)
    return parsed, environment, os.path.realpath(path)


def _become_root(host: Host, tree: str = "") -> None:
    user_namespace.enter(host, tree)
    mounting.leave_shared_mounts(host)


def _same(parsed: Parsed) -> Parsed:
    return parsed
