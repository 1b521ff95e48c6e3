"""A machine in a temporary tree, and a document for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.config.model import Identity, InstanceConfig
from agent.context import Context, context
from agent.host.host import Host
from agent.lib.records import replace
from agent.report import Item

IDENTITY = Identity("gandi", "4c4c4544-0000-1000-8000-000000000001")


class Machine:
    """A root folder in which steps run as at several boots: each ``run`` has a new context."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = InstanceConfig(IDENTITY)

    def put(self, name: str, text: str = "") -> Path:
        """Write a file of the machine."""
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def text(self, name: str) -> str:
        """Return the text of one of its files."""
        return (self.root / name.lstrip("/")).read_text()

    def deliver(self, **what: Any) -> None:
        """Change the platform's document."""
        self.config = replace(self.config, **what)

    def context(self, *, dry_run: bool = False, same_boot: bool = False) -> Context:
        """Return a context as the daemon makes it at the next boot, or, with ``same_boot``, at another
        start.
        """
        if not same_boot:
            shutil.rmtree(self.root / "run/gandi", ignore_errors=True)
        ctx = context(Host(self.root, dry_run=dry_run))
        ctx.state.set_instance(IDENTITY)
        ctx.config = self.config
        return ctx

    def run(self, step: Callable[[Context], Iterator[Item]], *, same_boot: bool = False) -> dict[str, str]:
        """Run a step; return ``outcome: detail`` of each item by name."""
        items = list(step(self.context(same_boot=same_boot)))
        return {i.name: f"{i.outcome}: {i.detail}".removesuffix(": ") for i in items}

    def stamps(self) -> dict[str, int]:
        """Return every file's modification time, to show that nothing was rewritten, without files of one
        boot only.
        """
        boot = self.root / "run/gandi"
        files = (path for path in self.root.rglob("*") if not path.is_dir() and boot not in path.parents)
        return {str(path): path.lstat().st_mtime_ns for path in files}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """An empty machine with an instance."""
    return Machine(tmp_path)
