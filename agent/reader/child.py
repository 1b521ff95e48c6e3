"""What the reader does: gives up its rights, reads the medium, answers with one JSON document, and ends.

All imports come before ``confine``: afterwards the process may not even be able to read its own library. So
it is told beforehand what it is for: with the digest of the last delivery it only compares, and needs no
pydantic.
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

#: Instead of an offset: the medium is a bundle of a drive's files, or one that may hold YAML and messages.
FILES, TEXTS = "files", "files+texts"


def main(arguments: list[str]) -> None:
    """Answer on standard output for the medium on standard input; see the package for the arguments."""
    dialect, place, known, *packages = [*arguments, ""] if len(arguments) == 2 else arguments
    answer = _prepared(dialect, place, known, packages)
    confine()
    try:
        said = answer()
    except Exception as error:
        said = {"defect": _where(error)}
    # Not escaped: an answer of text that is no ASCII would have three times the size. Not by sys.stdout: in
    # a fork it may hold what its parent has not yet written.
    left = memoryview(json.dumps(said, ensure_ascii=False).encode("utf-8", "replace"))
    while left:
        left = left[os.write(1, left) :]


def be(words: list[str], medium: int, answers: int) -> NoReturn:
    """Be the reader of the medium, in a fork, to the end of the process; ``words`` as main's."""
    try:
        os.dup2(medium, 0)
        os.dup2(answers, 1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 2)  # for nothing: an error's text may quote the document
        main(words)
        os._exit(0)
    finally:
        os._exit(1)


def _prepared(dialect: str, place: str, known: str, packages: list[str]) -> Callable[[], dict[str, Any]]:
    """Return the whole work, with everything imported that it needs; only a dialect needs ``packages``, the
    folders of the distribution's modules that ``-S`` left out. The module ``site`` would also run what is in
    sitecustomize and in *.pth files, with the rights that the process still has.
    """
    sys.path += packages
    if place in (FILES, TEXTS):
        from agent.reader import drive_dialects

        return drive_dialects.prepare(dialect, texts=place == TEXTS)
    from agent.reader import swap_disk

    return swap_disk.prepare(known)


def _where(error: Exception) -> str:
    """The kind of a defect and its place in the reader; its text may quote the document."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = trace.tb_frame.f_code.co_filename.rpartition("/")[2] if trace else ""
    return f"{type(error).__name__} in {place}:{trace.tb_lineno if trace else 0}"
