"""Files of a machine that has been set up with a document: the document as the agent stores it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from agent.config import model
from agent.config.nics import Nic
from agent.host.host import Host
from agent.state.store import State
from tests.vm.rig import GuestFile

#: Settings of machines without a medium, so that a boot does not wait for one.
NO_MEDIUM = "echo CONFIG_SOURCE_TIMEOUT=0 >> /etc/default/gandi"


def stored(*nics: Nic, **more: object) -> tuple[GuestFile, ...]:
    """Return the files of a stored document with these NICs, for an image."""
    identity = model.Identity("native", "one")
    config = model.InstanceConfig(identity, nics=nics, **more)  # type: ignore[arg-type]  # its fields
    with tempfile.TemporaryDirectory() as folder:
        state = State(Host(Path(folder)))
        state.set_instance(identity)
        state.store_config(config, {})
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return tuple(
            GuestFile(f"/{path.relative_to(folder)}", path.read_bytes(), path.stat().st_mode & 0o777)
            for path in files
        )
