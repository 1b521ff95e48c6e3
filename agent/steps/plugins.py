"""Steps: run the operator's plugins, and programs of other packages, at each boot; then hook post-vm-config.

They run one after the other, each until it ends, in a transient unit (agent/programs/hooks.py). Services
ordered after the stage wait for them, so each one, and all of a folder together, have a time limit.
"""

from __future__ import annotations

import os
import re
import time

from agent.host.chroot_path import unfollowed
from agent.report import failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

#: The shell library that plugins source, and the package's version of it.
LIB, SHIPPED_LIB = "/etc/gandi/plugins-lib", "/usr/share/gandi-agent/plugins-lib"
#: Folder for other packages' programs, run at the end of the bootstrap stage.
BOOTSTRAP = "/usr/share/gandi/bootstrap.d"
#: The hook at the end of the config stage.
CONFIGURED = "post-vm-config"
#: Seconds for one, and for all of a folder.
TIMEOUT, TOTAL_TIMEOUT = 120.0, 240.0
#: Names that are not run: backups of editors and package managers, and a name that the old package reserved.
_NOT = r"(?s)\..*|.*~|.*\.dpkg-.*|.*\.rpm.*|pre-first"
_UNSAFE = r"[^A-Za-z0-9-]+"


def plugins(ctx: Context) -> Iterator[Item]:
    """Run the plugins of GANDI_PLUGIN_DIR; first link the shell library if nothing is in its place."""
    folder = ctx.settings.plugin_dir.rstrip("/")
    names = enabled_programs(ctx.host, folder)
    if names and not os.path.lexists(unfollowed(ctx.host, LIB)):
        ctx.host.symlink(LIB, SHIPPED_LIB)
    yield from _run(ctx, folder, names, "gandi-plugin", "config")


def bootstrap(ctx: Context) -> Iterator[Item]:
    """Run other packages' programs for the bootstrap stage."""
    yield from _run(ctx, BOOTSTRAP, enabled_programs(ctx.host, BOOTSTRAP), "gandi-bootstrap", "bootstrap")


def hook(ctx: Context) -> Iterator[Item]:
    """Run the hook ``post-vm-config``."""
    if not ctx.host.exists(f"{ctx.settings.hook_dir}/{CONFIGURED}"):
        return
    from agent.programs import hooks

    yield from hooks.run(ctx, CONFIGURED, environment={})


def enabled_programs(host: Host, folder: str) -> list[str]:
    """Return the names of a folder's executable regular files, or links to such, in byte order."""
    try:
        names = os.listdir(host.path(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = [name for name in names if not re.fullmatch(_NOT, name)]
    return sorted((name for name in found if _executable(host.path(f"{folder}/{name}"))), key=os.fsencode)


def _run(ctx: Context, folder: str, names: list[str], unit: str, stage: str) -> Iterator[Item]:
    deadline = time.monotonic() + TOTAL_TIMEOUT
    for name in names:
        left = min(TIMEOUT, deadline - time.monotonic())
        if left < 1:
            yield failed(
                name,
                f"not run: those before it took {TOTAL_TIMEOUT:g} s",
                "move long work into systemd units",
            )
            continue
        from agent.programs import hooks  # late: most machines have no plugin

        where = {"GANDI_STAGE": stage}
        unit_name = f"{unit}-{re.sub(_UNSAFE, '-', name)}"
        yield from hooks.execute(ctx, unit_name, f"{folder}/{name}", (), where, left)


def _executable(path: str) -> bool:
    return os.path.isfile(path) and bool(os.stat(path).st_mode & 0o111)
