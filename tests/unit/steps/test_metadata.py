"""The step that publishes the platform's metadata: at each boot, and not as a change."""

from __future__ import annotations

import json

from agent.steps import metadata
from tests.unit.steps.conftest import Machine


def test_it_is_there_at_each_boot(machine: Machine) -> None:
    machine.deliver(metadata=(("zone", "paris"), ("name", "vm1")))
    for _ in range(2):
        assert machine.run(metadata.apply) == {"metadata": "unchanged: 2 values"}
        path = machine.root / "run/gandi/metadata.json"
        assert json.loads(path.read_text()) == {"zone": "paris", "name": "vm1"}
        path.unlink()
