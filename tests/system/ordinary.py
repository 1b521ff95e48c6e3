"""A user of this machine who is not root, for commands of a test. Only these commands see their account,
home and subordinate ids.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.vm.rig.tree import base_tree

UID = 4567
#: The first of 65536 subordinate ids: account 1 of a namespace in which the user is root.
FIRST = 200000
_NAME = "ordinary"
_ENTER = """\
for file in passwd group subuid subgid; do
    mount --bind "$0/$file" /etc/$file
done
exec env HOME="$0/home" "$@"
"""
#: The folder of the file becomes a copy in memory without it.
_HIDE = """\
folder=${0%/*}
mount --rbind "$folder" /media
mount -t tmpfs hidden "$folder"
PATH=/media:$PATH
for path in /media/*; do
    [ "${path##*/}" = "${0##*/}" ] || ln -s "$path" "$folder/"
done
exec "$@"
"""


@contextmanager
def reachable() -> Iterator[Path]:
    """Yield a folder that other users can reach: those of pytest are closed by its next session."""
    folder = Path(tempfile.mkdtemp(prefix="gandi-test-", dir="/var/tmp"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class Ordinary:
    """The user; ``folder`` holds their home and the files that make the account."""

    def __init__(self, folder: Path, ids: str = f"{_NAME}:{FIRST}:65536\n") -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        os.chown(self.home, UID, UID)
        account = f"{_NAME}:x:{UID}:{UID}::{self.home}:/bin/sh\n"
        (folder / "passwd").write_text(Path("/etc/passwd").read_text() + account)
        (folder / "group").write_text(Path("/etc/group").read_text() + f"{_NAME}:x:{UID}:\n")
        for name in ("subuid", "subgid"):
            (folder / name).write_text(ids)
            Path("/etc", name).touch()

    def command(self, *words: str) -> tuple[str, ...]:
        """Return the command that is the agent, run as this user."""
        become = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups")
        agent = (*become, sys.executable, "-m", "agent", *words)
        return ("unshare", "--mount", "sh", "-ec", _ENTER, str(self.folder), *agent)

    def processes(self) -> list[str]:
        """Return the names of the processes of this user."""
        found = list[str]()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(FileNotFoundError, ProcessLookupError):
                if folder.stat().st_uid == UID:
                    found.append((folder / "comm").read_text().strip())
        return found

    def run(
        self,
        *words: str,
        stdin: str = "",
        status: int = 0,
        timeout: float = 120,
        environment: Mapping[str, str] | None = None,
        hidden: str = "",
    ) -> str:
        """Run the agent as this user, for whom the file ``hidden`` is not there; check its exit status and
        return what it prints.
        """
        hide = ("unshare", "--mount", "sh", "-ec", _HIDE, hidden) if hidden else ()
        done = subprocess.run(
            (*hide, *self.command(*words)),
            input=stdin,
            text=True,
            capture_output=True,
            check=False,
            timeout=timeout,
            env={**os.environ, **(environment or {})},
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr


def appliance(folder: Path) -> dict[str, str]:
    """Return the variables by which libguestfs has a kernel here: that of the guests."""
    Path("/lib/modules").mkdir(exist_ok=True)  # supermin looks at it in any case
    tree, place = base_tree(), folder / "kernel"
    place.mkdir()
    (kernel,) = (tree / "boot").glob("vmlinuz-*")
    shutil.copy(kernel, place / "vmlinuz")
    version = kernel.name.removeprefix("vmlinuz-")
    shutil.copytree(tree / "lib/modules" / version, place / version, symlinks=True)
    return {
        "SUPERMIN_KERNEL": str(place / "vmlinuz"),
        "SUPERMIN_KERNEL_VERSION": version,
        "SUPERMIN_MODULES": str(place / version),
        # As the guests of the tests: a /dev/kvm that is there may not work.
        "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg",
    }
