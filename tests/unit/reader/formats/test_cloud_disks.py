"""``disk_setup``: each layout that cloud-init documents, and each fault costs its own table."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.config import model
from agent.config.system import PartitionTable
from agent.reader.common.merge import Draft
from agent.reader.formats import cloud_config, yaml_events

LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
SWAP = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"
DISK = "/dev/disk/by-id/virtio-data"


def read(setup: Any) -> tuple[tuple[PartitionTable, ...], list[tuple[str, str]]]:
    yaml_events.load()
    draft = Draft("nocloud")
    text = f"#cloud-config\n{json.dumps({'disk_setup': setup})}"
    document = cloud_config.parse(text, "user-data", draft)
    assert document is not None
    cloud_config.apply(document, "user-data", draft, "")
    reading = draft.reading()
    assert reading.config is not None
    assert model.load(model.dump(reading.config)) == reading.config
    tables = reading.config.system.tables if reading.config.system else ()
    return tables, [
        (one.path.removeprefix("user-data: disk_setup."), one.message) for one in reading.problems
    ]


@pytest.mark.parametrize(
    ("setup", "kind", "parts"),
    [
        ({"table_type": "gpt", "layout": True}, "gpt", ((100, LINUX),)),
        ({"layout": True}, "dos", ((100, "83"),)),
        ({"table-type": "MBR", "layout": [40, [33, 82], "9"]}, "dos", ((40, "83"), (33, "82"), (9, "83"))),
        (
            {"table_type": "gpt", "layout": [[25, "8200"], [75, LINUX.lower()]]},
            "gpt",
            ((25, SWAP), (75, LINUX)),
        ),
    ],
)
def test_each_layout(setup: dict[str, Any], kind: str, parts: tuple[tuple[int, str], ...]) -> None:
    assert read({DISK: setup | {"overwrite": True}}) == ((PartitionTable(DISK, kind, parts, True),), [])
    assert read({"vdb": setup}) == ((PartitionTable("/dev/vdb", kind, parts),), [])


@pytest.mark.parametrize(
    ("device", "setup", "path", "why"),
    [
        ("/dev/vdb", {"layout": True, "overwrite": True}, "/dev/vdb", "another name at the next boot"),
        ("ephemeral0", {"layout": True}, "ephemeral0", "a metadata service resolves"),
        ("/dev/vdb", {"layout": False}, "/dev/vdb", "without partitions"),
        ("/dev/vdb", {"layout": "remove"}, "/dev/vdb.layout", "the item around it is left out"),
        ("/dev/vdb", {"layout": [60, 60]}, "/dev/vdb", "more than 100 percent"),
        ("/dev/vdb", {"layout": [20] * 5}, "/dev/vdb", "or 4 partitions"),
        ("/dev/vdb", {"layout": [0]}, "/dev/vdb.layout", "not a percentage"),
        ("/dev/vdb", {"layout": [[50, "zz"]]}, "/dev/vdb", "not a type of a partition"),
        (
            "/dev/vdb",
            {"table_type": "gpt", "layout": [[50, "83;"]]},
            "/dev/vdb",
            "not a type of a partition",
        ),
        ("/dev/vdb", {"table_type": "apm", "layout": True}, "/dev/vdb.table_type", "not a known word"),
        ("/dev/vdb", {"layout": True, "colour": 1}, "/dev/vdb.colour", "unknown key"),
    ],
)
def test_a_fault_costs_its_own_table(device: str, setup: dict[str, Any], path: str, why: str) -> None:
    tables, [(place, what)] = read({device: setup, DISK: {"table_type": "gpt", "layout": True}})
    assert tables == (PartitionTable(DISK, "gpt", ((100, LINUX),)),)
    assert (place, why in what) == (path, True), what
