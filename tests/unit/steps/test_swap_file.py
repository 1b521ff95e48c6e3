"""The size of a swap file, and where none is made. A real one: tests/system/test_swap_file.py."""

from __future__ import annotations

import pytest

from agent.config.system import SwapFile, System
from agent.lib.errors import ConfigError
from agent.steps import swap_file
from tests.unit.steps.conftest import Machine

GIB = 1 << 30


@pytest.mark.parametrize(
    ("size", "maxsize", "memory", "free", "meant"),
    [
        (GIB, 0, 4 * GIB, 10 * GIB, GIB),
        (3 * GIB, 2 * GIB, 4 * GIB, 10 * GIB, 2 * GIB),
        (5 << 20 | 77, 0, GIB, GIB, 5 << 20),
        (None, 0, GIB // 2, 100 * GIB, GIB),
        (None, 0, 3 * GIB // 2, 100 * GIB, 2 * GIB),
        (None, 0, 3 * GIB, 100 * GIB, 3 * GIB),
        (None, 0, 8 * GIB, 100 * GIB, 4 * GIB),
        (None, 0, 20 * GIB, 100 * GIB, 8 * GIB),
        (None, 16 * GIB, 20 * GIB, 100 * GIB, 10 * GIB),
        (None, GIB, 8 * GIB, 100 * GIB, GIB),
        (None, 0, 8 * GIB, 4 * GIB, GIB),
    ],
)
def test_size(size: int | None, maxsize: int, memory: int, free: int, meant: int) -> None:
    assert swap_file.size(SwapFile("/s", size, maxsize), memory, free) == meant


@pytest.mark.parametrize("size", [2 * GIB, GIB, None])
def test_no_space(size: int | None) -> None:
    with pytest.raises(ConfigError, match="/s: "):
        swap_file.size(SwapFile("/s", size), 4 * GIB, GIB if size else 1 << 20)


def test_an_image_gets_none(machine: Machine) -> None:
    machine.deliver(system=System(swap=SwapFile("/swap.img")))
    assert machine.run(swap_file.apply) == {"swap file": "skipped: it is made when this machine boots"}
    assert not (machine.root / "swap.img").exists()
