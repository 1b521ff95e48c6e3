"""atheris: libFuzzer in a process of its own for each search; it mutates the inputs that reached new code.

It is not one of .venv's packages: no other test needs it, and there are wheels for some Pythons only. The
set-up puts it into ``.cache/atheris``.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from tests.fuzz.target import Target

PROJECT = Path(__file__).parents[2]
WORK = PROJECT / "build/fuzz"
VERSION = "3.0.0"
PACKAGE = PROJECT / ".cache/atheris" / VERSION
#: Seconds that one run may take, and MiB of the process: libFuzzer ends it then, and keeps the input. The
#: target itself bounds the CPU time, as other programs may have the cores.
_LIMITS = ("-timeout=300", "-rss_limit_mb=2048")
#: What ``become`` writes when a run raised: libFuzzer's own exit status for that is the same for all ends.
_CRASH = "Test unit written to "


class Missing(Exception):
    """atheris is not there."""


@dataclass(frozen=True, slots=True)
class Found:
    """Result of a search: runs, edges of code reached, inputs kept, seconds; the file of a finding or "",
    and what libFuzzer has printed of it.
    """

    runs: int
    edges: int
    inputs: int
    seconds: float
    finding: str = ""
    told: str = ""


def become(name: str, module: str, options: list[str]) -> NoReturn:
    """Be libFuzzer for one target of a module: to instrument the others' readers takes seconds. The agent's
    modules, and those of the formats, count their edges.
    """
    sys.path.insert(0, str(PACKAGE))
    try:
        import atheris
    except ImportError as error:
        raise SystemExit(f"atheris {VERSION}: {error}") from error
    with atheris.instrument_imports(include=["agent", "yaml", "email", "tarfile"]):
        from tests.fuzz.mutations import with_values

        target = next(one for one in importlib.import_module(module).TARGETS if one.name == name)
        for seed in target.seeds():
            target.check(seed)  # imports what is imported late

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        chance = Random(seed)
        changed = with_values(chance, data) if chance.randrange(2) else b""
        return changed if 0 < len(changed) <= most else bytes(atheris.Mutate(data, most))

    of_json = {"custom_mutator": mutate} if target.is_json else {}
    # By its first word libFuzzer starts itself again, with a shell, to merge.
    again = shlex.join((sys.executable, "-m", "tests.fuzz", name, "--engine", module))
    atheris.Setup([again, *options], target.check, **of_json)
    atheris.Fuzz()
    raise SystemExit(0)


def search(name: str, seconds: float, seed: int, work: Path) -> Found:
    """Search for so long, from the kept corpus and what earlier searches in ``work`` have found. Raise
    Missing without atheris.
    """
    from tests.fuzz.targets import TARGETS, kept

    if not PACKAGE.is_dir():
        why = (
            "make setup could not fetch it" if (PROJECT / ".venv/no-atheris").exists() else "run: make setup"
        )
        raise Missing(f"no atheris {VERSION} in {PACKAGE}: {why}")
    began = time.monotonic()
    inputs, findings = work / "inputs" / name, work / "findings"
    inputs.mkdir(parents=True, exist_ok=True)
    findings.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-seeds-") as folder:
        seeds, tokens = Path(folder) / "seeds", Path(folder) / "tokens"
        seeds.mkdir()
        for number, data in enumerate((*kept(TARGETS[name]), *TARGETS[name].seeds())):
            (seeds / str(number)).write_bytes(data)
        tokens.write_text("".join(f'"{_quoted(token)}"\n' for token in TARGETS[name].tokens))
        told = _engine(
            name,
            f"-max_total_time={seconds:.0f}",
            f"-seed={seed % (1 << 31) or 1}",
            f"-max_len={TARGETS[name].largest}",
            *([f"-dict={tokens}"] if TARGETS[name].tokens else []),
            f"-artifact_prefix={findings}/{name}-",
            "-print_final_stats=1",
            "-reload=0",
            *_LIMITS,
            *map(str, (inputs, seeds)),
        )
    return _found(told, time.monotonic() - began)


def minimise(target: Target, more: Path) -> None:
    """Replace the target's kept corpus by few inputs, of it and of ``more``, that reach the same code.
    Inputs with a name of their own stay: each was a finding.
    """
    from tests.fuzz.targets import CORPUS

    kept = CORPUS / target.name
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-corpus-") as folder:
        seeds, made = Path(folder) / "seeds", Path(folder) / "made"
        seeds.mkdir()
        made.mkdir()
        for number, data in enumerate(target.seeds()):
            (seeds / str(number)).write_bytes(data)
        _engine(target.name, "-merge=1", *_LIMITS, *map(str, (made, seeds, kept, more)))
        for path in filter(_is_made, kept.iterdir()):
            path.unlink()
        there = {path.read_bytes() for path in (*seeds.iterdir(), *kept.iterdir())}
        for path in made.iterdir():
            if path.read_bytes() not in there:
                shutil.copy(path, kept / path.name)


def _is_made(path: Path) -> bool:
    """Return whether libFuzzer has given the name: the SHA-1 of the content."""
    return re.fullmatch("[0-9a-f]{40}", path.name) is not None


def _engine(name: str, *options: str) -> str:
    from tests.fuzz.targets import module_of

    argv = [sys.executable, "-m", "tests.fuzz", name, "--engine", module_of(name), *options]
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir="/dev/shm") as folder:
        done = subprocess.run(
            argv,
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"GANDI_FUZZ_FOLDER": folder},
        )
    return done.stdout.decode("utf-8", "replace")


def _found(told: str, seconds: float) -> Found:
    """Return what libFuzzer has printed as a result."""
    runs = re.findall(r"stat::number_of_executed_units: (\d+)", told) or re.findall(r"^#(\d+)\t", told, re.M)
    edges = [int(number) for number in re.findall(r"cov: (\d+)", told)]
    inputs = [int(number) for number in re.findall(r"corp: (\d+)", told)]
    finding = re.search(rf"{_CRASH}(\S+)", told)
    return Found(
        int(runs[-1]) if runs else 0,
        max(edges, default=0),
        max(inputs, default=0),
        seconds,
        finding[1] if finding else "" if runs else "the search did not begin",
        told[-4000:] if finding or not runs else "",
    )


def _quoted(token: bytes) -> str:
    return "".join(chr(c) if 0x20 <= c < 0x7F and c not in b'\\"' else f"\\x{c:02x}" for c in token)
