"""Runs in the guest, in the place of /usr/bin/gandi-agent and of the reader: the same program, with notes of
where its CPU goes.

Not part of the package, and of no boot that is compared. A note is a line of JSON in ``NOTES``; ``cpu`` is
in seconds. Imports are timed by their thread's CPU clock around the import system's own entry, so what a
busy boot does meanwhile does not count.
"""

from __future__ import annotations

import json
import os
import resource
import runpy
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

PACKAGE = "/usr/lib/gandi-agent"
NOTES = "/run/gandi-bench.json"
_READER = f"{PACKAGE}/agent/parse/__main__.py"

_notes = os.open(NOTES, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
_inner = threading.local()


def note(what: str, name: str, cpu: float, **more: object) -> None:
    """One line, at once: whoever is killed has told all until then."""
    place = {"pid": os.getpid(), "thread": threading.get_native_id()}
    line = {"what": what, "name": name, "cpu": cpu} | place | more
    os.write(_notes, json.dumps(line).encode() + b"\n")


def children() -> float:
    """CPU of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def spent(what: str, function: Callable[..., Any], name_of: Callable[..., str]) -> Callable[..., Any]:
    """``function``, with a note of the CPU that its thread and its children took."""

    def noted(*args: Any, **kwargs: Any) -> Any:
        own, ended, name = time.thread_time(), children(), name_of(*args)
        note(f"{what} begins", name, 0.0)
        try:
            return function(*args, **kwargs)
        finally:
            note(what, name, time.thread_time() - own, children=children() - ended)

    return noted


def watch_imports(patches: dict[str, Callable[[ModuleType], None]]) -> None:
    """Note what each import took without those within it; hand each module of ``patches`` to its patch."""
    system: Any = sys.modules["_frozen_importlib"]
    find = system._find_and_load

    def timed(name: str, importer: object) -> Any:
        # What the imports within this one take, and what it takes with them, meets in the caller's sum.
        outer, _inner.value = getattr(_inner, "value", 0.0), 0.0
        begun = time.thread_time()
        try:
            module = find(name, importer)
        finally:
            took = time.thread_time() - begun
            note("import", name, took - _inner.value)
            _inner.value = outer + took
        if name in patches and not getattr(module, "_watched", False):
            module._watched = True
            patches[name](module)
        return module

    system._find_and_load = timed


def patch_host(module: Any) -> None:
    """Note every command."""
    module.Host.run = spent("command", module.Host.run, lambda _host, argv, **_: " ".join(argv[:3]))


def patch_stages(module: Any) -> None:
    """Note every step and every disk's turn, and every record of the progress."""
    module.attempt = spent("step", module.attempt, lambda _ctx, name, _work: name)
    module.record = spent("record", module.record, lambda _ctx, _write: "")


def patch_parser(module: Any) -> None:
    """Note the reader, and have it run by this file."""
    module._READER = __file__
    module._spawn = spent("reader", module._spawn, lambda argv, _descriptor: " ".join(argv[4:6]))


def patch_child(module: Any) -> None:
    """In the reader: note what it took to be ready to read; afterwards it has no right to."""
    confine = module.confine

    def noted() -> None:
        note("reader ready", "", time.process_time())
        confine()

    module.confine = noted


def main() -> None:
    """As the daemon with the word ``daemon``, as the reader with the reader's arguments."""
    sys.path.insert(0, PACKAGE)
    if sys.argv[1] != "daemon":
        note("reader started", "", time.process_time())
        watch_imports({"agent.parse.child": patch_child})
        runpy.run_path(_READER, run_name="__main__")
        return
    note("daemon started", "", time.process_time())
    watch_imports({"agent.host": patch_host, "agent.stages": patch_stages, "agent.parser": patch_parser})
    from agent.__main__ import main as agent  # type: ignore[import-not-found,unused-ignore]

    sys.exit(agent(["daemon"]))


if __name__ == "__main__":
    main()
