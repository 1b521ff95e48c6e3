"""The table of dialects has a row for each module, and a module for each row."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.reader.dialects import DIALECTS, DRIVES
from agent.sources import drive_files

ROOT = Path(__file__).parents[4]


def test_each_file_has_a_row() -> None:
    files = {path.stem for path in (ROOT / "agent/reader/dialects").glob("*.py")}
    assert files - {"__init__"} == set(DIALECTS)


@pytest.mark.parametrize("name", DIALECTS)
def test_each_row_has_a_file_and_its_labels_are_in_udevs_rules(name: str) -> None:
    """A virtual device with such a label is reported, so udev has to start the daemon for it."""
    assert callable(importlib.import_module(f"agent.reader.dialects.{name}").parse_files)
    (rule,) = (
        line
        for line in (ROOT / "udev/86-gandi-agent.rules").read_text().splitlines()
        if "ID_FS_LABEL" in line
    )
    labels = rule.partition('ID_FS_LABEL}=="')[2].partition('"')[0].split("|")
    for label in DIALECTS[name].labels:
        assert {label, label.upper()} <= set(labels)


@pytest.mark.parametrize("name", DRIVES)
@given(st.data())
def test_what_marks_a_drive_is_read_from_it(name: str, data: st.DataObject) -> None:
    """A drive with names that are left out would count as one without a configuration."""
    row = DIALECTS[name]
    path = data.draw(st.from_regex(re.compile(row.mark, re.ASCII), fullmatch=True))
    top, is_below, _ = path.partition("/")
    assert re.fullmatch(row.folders if is_below else row.files, top, re.ASCII)
    assert (drive_files._FOLDERS if is_below else drive_files._FILES).fullmatch(top)


@pytest.mark.parametrize(
    ("names", "is_folder", "is_file"),
    [
        ("cloudstack CloudStack CLOUDSTA openstack OPENSTAC gandi GANDI", True, False),
        ("meta-data meta_data META_DAT META_DAT. user-data user_data USER_DAT USER_DATA.", False, True),
        ("vendor-data VENDOR_D VENDOR_D. network-config network_config NETWORK_ NETWORK_.", False, True),
        ("gandi.json GANDI.JSO GANDI.JSON. GANDI.JS script SCRIPT SCRIPT.", False, True),
        ("ec2 etc content latest lost+found cloud cloudstack.iso gandi2 gandi.d config", False, False),
        ("meta-data.json user-data.txt user vendor network gandi.yaml scripts x-script", False, False),
    ],
)
def test_no_other_name_in_a_drives_root_is_read(names: str, is_folder: bool, is_file: bool) -> None:
    """As the platforms write them, and as plain ISO 9660 spells them."""
    for name in names.split():
        assert bool(drive_files._FOLDERS.fullmatch(name)) == is_folder, name
        assert bool(drive_files._FILES.fullmatch(name)) == is_file, name
