"""The reader's process: drop all privileges, read the medium, answer with one JSON document, and end.

All imports come before ``confine``: afterwards the process may be unable to read its own library. So the
arguments determine them: with the digest of the last delivery it only compares, without pydantic.
"""

from __future__ import annotations

import json
import os
import sys

from agent.reader.sandbox import confine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

#: Values of PLACE: the medium is a bundle of a drive's files; one that may hold YAML and MIME messages.
FILES, TEXTS = "files", "files+texts"


def main(arguments: list[str]) -> None:
    """Read the medium on standard input and answer on standard output; arguments: see agent/reader."""
    dialect, place, known, *packages = [*arguments, ""] if len(arguments) == 2 else arguments
    answer = _prepared(dialect, place, known, packages)
    confine()
    try:
        said = answer()
    except Exception as error:
        said = {"defect": _where(error)}
    # Not escaped: text that is not ASCII would have three times the size. Not by sys.stdout: in a fork, its
    # buffer may hold output of the parent.
    left = memoryview(json.dumps(said, ensure_ascii=False).encode("utf-8", "replace"))
    while left:
        left = left[os.write(1, left) :]


def become_reader(words: list[str], medium: int, answers: int) -> NoReturn:
    """Run as the reader in a forked process and end it; ``words`` are main's arguments."""
    try:
        os.dup2(medium, 0)
        os.dup2(answers, 1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 2)  # discarded: an error's text may quote the document
        main(words)
        os._exit(0)
    finally:
        os._exit(1)


def _prepared(dialect: str, place: str, known: str, packages: list[str]) -> Callable[[], dict[str, Any]]:
    """Import all that the reading needs, and return the function that reads.

    ``packages`` are the folders of the distribution's modules, which ``-S`` left out; only a dialect needs
    them. The module ``site`` is not used for this: it also runs sitecustomize and *.pth files, with the
    privileges that the process still has.
    """
    sys.path += packages
    if place in (FILES, TEXTS):
        from agent.reader import drive_dialects

        return drive_dialects.prepare(dialect, texts=place == TEXTS)
    from agent.reader import swap_disk

    return swap_disk.prepare(dialect, known)


def _where(error: Exception) -> str:
    """Return an error's type and its place in the reader, without its text, which may quote the document."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = trace.tb_frame.f_code.co_filename.rpartition("/")[2] if trace else ""
    return f"{type(error).__name__} in {place}:{trace.tb_lineno if trace else 0}"
