"""What is true of each reading, whatever was delivered."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from agent.config import model, nics
from agent.reader.common.result import Reading

Parse = Callable[[Mapping[str, bytes]], Reading]


def hold(parse: Parse, files: Mapping[str, bytes]) -> Reading:
    """Assert what must be true of any reading."""
    reading = parse(files)
    if reading.config is not None:
        assert model.load(model.dump(reading.config)) == reading.config
        programs = (*reading.config.scripts, *reading.config.boot)
        assert {one.name for one in programs} | {f.name for f in reading.config.files} <= set(reading.files)
        numbers = [nic.number for nic in reading.config.nics]
        assert len(set(numbers)) == len(numbers)
        for nic in reading.config.nics:
            assert {*nic.ports} <= {*numbers}
            assert nic.kind is not nics.Kind.VLAN or (nic.parent in numbers and nic.vlan)
        assert not set(reading.secrets) - {user.name for user in reading.config.users}
    assert len(reading.problems) <= 60
    for problem in reading.problems:
        assert (problem.path + problem.message + problem.hint).isprintable()
    json.dumps([reading.secrets, [problem.path for problem in reading.problems]]).encode()
    return reading
