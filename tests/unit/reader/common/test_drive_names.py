"""File names of a drive in the spellings of the tools that make drives."""

from __future__ import annotations

import pytest

from agent.reader.common.drive_names import DriveNames

WANTED = "cloudstack/metadata/local-hostname.txt"


@pytest.mark.parametrize(
    "found",
    [
        WANTED,
        "cloudstack/metadata/local_hostname.txt",
        "CLOUDSTACK/METADATA/LOCAL_HOSTNAME.TXT;1",
        "CLOUDSTACK/METADATA/LOCAL-HOSTNAME.TXT",
        "CLOUDSTA/METADATA/LOCAL_HO.TXT",
        "cloudsta/metadata/local_ho.txt",
    ],
)
def test_found(found: str) -> None:
    assert DriveNames([found, "x/y"]).find(WANTED) == found


@pytest.mark.parametrize(
    "other",
    [
        "CLOUDSTA/METADATA/LOCAL_IP.TXT",
        "cloudstack/metadata/local.txt",
        "cloudstack/metadata/local-hostname.json",
        "cloudstack/metadata/local-hostname.txt/x",
        "metadata/local-hostname.txt",
        "",
    ],
)
def test_not_found(other: str) -> None:
    assert DriveNames([other]).find(WANTED) is None


def test_the_proper_spelling_first() -> None:
    names = ["CLOUDSTA/METADATA/LOCAL_HO.TXT", "cloudstack/metadata/local_hostname.txt"]
    assert DriveNames(names).find(WANTED) == names[1]
    assert DriveNames([*names, WANTED]).find(WANTED) == WANTED


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ("META_DAT.JSO", "meta_data.json"),
        ("USER_DAT", "user-data"),
        ("user_data", "user-data"),
        ("NETWORK_", "network-config"),
        ("VENDOR_D", "vendor-data"),
        ("META_DATA.;1", "meta-data"),
    ],
)
def test_in_the_root(found: str, wanted: str) -> None:
    assert DriveNames([found]).find(wanted) == found
