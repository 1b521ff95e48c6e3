"""The verb ``ganeti``: what the OS scripts and the hook of Ganeti do by their environment variables."""

from __future__ import annotations

import os

from agent.host import terminal
from agent.image import ganeti, ganeti_creation, ganeti_variables
from agent.lib.errors import ConfigError
from agent.lib.text import lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def run(what: str, values: Sequence[str], debug: Callable[[str], None] | None = None) -> int:
    """Do one of these, and return the exit status. Raise ConfigError that names a variable.

    ``document``: print the native document of the instance. ``verify``: print what is wrong with the OS
    parameters. ``creation``: print how ``create`` is to make the disk. ``sources``: print the sources of
    apt of a release that is made. For the instance below /: ``packages``: install the operator's packages.
    ``rename``: give it its new name. ``fstab``: name its new filesystem in /etc/fstab by ``values``: its
    UUID, its type, and the UUID of the swap or nothing. ``bootloader``, ``repair``: see ``_on_node``.
    ``debug``: see Host.
    """
    if what == "verify":
        return _verify()
    if what == "creation":
        terminal.print_lines(*ganeti_creation.lines(os.environ))
        return 0
    if what == "sources":
        terminal.print_lines(*lines(ganeti_creation.sources(os.environ)))
        return 0
    if what == "packages":
        from agent.cli import ganeti_packages
        from agent.host.host import Host

        ganeti_packages.install(Host("/", offline=True, debug=debug), os.environ)
        return 0
    if what == "fstab":
        if not 2 <= len(values) <= 3:
            raise ConfigError("ganeti fstab: neither two nor three values", hint="see: its OS script import")
        return _fstab(*values)
    if what in ("bootloader", "repair"):
        if len(values) != 4:
            raise ConfigError(f"ganeti {what}: not four values", hint="see: its OS script import")
        return _on_node(what, values[0], values[1:], debug)
    if what == "rename":
        from agent.cli import apply, ganeti_rename
        from agent.context import context
        from agent.host.host import Host
        from agent.image import delivery

        ctx = context(Host("/", offline=True, debug=debug))
        return apply.print_steps(ganeti_rename.steps(ctx, os.environ, delivery.standard_input()))
    terminal.print_json(ganeti.document(os.environ))
    return 0


def _verify() -> int:
    """Print a line for each parameter that is wrong; return 1 if there is one, else 0."""
    variables = ganeti_variables.Variables(os.environ)
    wrong = list(variables.wrong_parameters()) or list(ganeti_creation.conflicts(variables))
    for error in wrong:
        terminal.print_error(f"{error.message}: {error.hint}" if error.hint else error.message)
    return int(bool(wrong))


def _fstab(root: str, fstype: str, swap: str = "") -> int:
    """Rewrite /etc/fstab after an import; return 0."""
    from agent.block import fstab
    from agent.host.host import Host
    from agent.image import ganeti_fstab

    host = Host("/", offline=True)
    host.write(fstab.FSTAB, ganeti_fstab.mended(host.read(fstab.FSTAB) or "", root, fstype, swap))
    return 0


def _on_node(what: str, root: str, target: Sequence[str], debug: Callable[[str], None] | None) -> int:
    """Install the boot loader of the instance that is mounted at ``root``, or mend what leads to its disk.
    ``target``: the disk, UUID and type of the root filesystem. Return 1 if an item failed, else 0.
    """
    from agent.host.host import Host
    from agent.image import boot_loader
    from agent.report import Outcome

    here, tree, disk = Host(debug=debug), Host(root, offline=True, debug=debug), boot_loader.Target(*target)
    if what == "repair":
        from agent.image import repair

        items = repair.repair(here, tree, disk, with_loader=True)
    else:
        items = boot_loader.install(here, tree, disk)
    worst = 0
    for item in items:
        worst = max(worst, int(item.outcome is Outcome.FAILED))
        terminal.print_lines(str(item))
    return worst
