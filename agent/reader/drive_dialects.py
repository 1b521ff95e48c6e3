"""Read a drive's files as the parser client sends them: one JSON line of [name, size] pairs, then the bytes.

They are in shared memory (memfd_create(2)); each is read when a dialect needs it.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator, Mapping

from agent.reader.common.document import too_large
from agent.reader.common.result import encoded, problem_rows
from agent.reader.dialects import DIALECTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from agent.reader.common.result import Reading

    Parse = Callable[[Mapping[str, bytes]], Reading]

#: Bytes of the line; two thousand names of the longest kind fit.
_HEAD = 16 << 20


class Files(Mapping[str, bytes]):
    """The files by name. Raise ValueError if the bundle is not valid."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._places: dict[str, tuple[int, int]] = {}
        line = self._line()
        place = len(line)
        for name, size in json.loads(line):
            self._places[str(name)] = (place, int(size))
            place += size

    def __getitem__(self, name: str) -> bytes:
        place, size = self._places[name]
        # Memory is read in one piece: pread(2) stops short only at 2 GiB.
        content = os.pread(self._descriptor, size, place)
        if len(content) < size:
            raise ValueError("a bundle that is cut short")
        return content

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _line(self) -> bytes:
        line = b""
        while b"\n" not in line and len(line) < _HEAD:
            chunk = os.pread(self._descriptor, 1 << 16, len(line))
            if not chunk:
                raise ValueError("a bundle without its first line")
            line += chunk
        return line[: line.index(b"\n") + 1]


def prepare(dialect: str, *, texts: bool) -> Callable[[], dict[str, Any]]:
    """Return the function that reads the bundle on standard input; with ``texts`` it may hold YAML and MIME.

    Its answer has no digest: the process that read the drive computes it.
    """
    parse = _dialect(dialect)
    if texts:
        from agent.reader.formats import user_data, yaml_events

        yaml_events.load()
        user_data.load()
    return lambda: _answer(parse)


def _dialect(name: str) -> Parse:
    """Import the dialect, and with it what only it needs."""
    if name not in DIALECTS:
        raise ValueError(f"no dialect {name} of a drive")
    parse: Parse = importlib.import_module(f"agent.reader.dialects.{name}").parse_files
    return parse


def _answer(parse: Parse) -> dict[str, Any]:
    try:
        reading = parse(Files(0))
    except MemoryError:
        reading = too_large("the drive")
    answer = encoded(reading)
    return answer | {"problems": problem_rows(reading.problems)}
