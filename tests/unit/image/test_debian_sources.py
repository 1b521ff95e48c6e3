"""The file of Debian's archive: what is written for a mirror, and what of an image's sources stays."""

from __future__ import annotations

import pytest

from agent.config.system import Archive
from agent.image import debian_sources
from agent.image.debian_sources import KEYRING, Kept
from agent.lib.errors import ConfigError

TRIXIE = 'ID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\n'
SID = "ID=debian\nVERSION_CODENAME=forky\n"
OWN = "http://203.0.113.5/debian"
SECURITY = ("deb", "http://security.debian.org/debian-security", "trixie-security", "main")


def written(archive: Archive, suite: str) -> list[tuple[str, ...]]:
    """Return the fields of each paragraph, without those that are always the same."""
    found = []
    for paragraph in debian_sources.text(archive, suite, Kept()).split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if not line.startswith("#"))
        assert fields.pop("Signed-By") == KEYRING
        found.append(tuple(fields.values()))
    return found


@pytest.mark.parametrize(
    ("archive", "suite", "meant"),
    [
        (Archive(OWN), "trixie", [("deb", OWN, "trixie trixie-updates", "main"), SECURITY]),
        (
            Archive(OWN, "https://203.0.113.5/debian-security"),
            "trixie",
            [
                ("deb", OWN, "trixie trixie-updates", "main"),
                ("deb", "https://203.0.113.5/debian-security", "trixie-security", "main"),
            ],
        ),
        (Archive(OWN), "sid", [("deb", OWN, "sid", "main")]),
        (Archive("https://192.0.2.5/own"), "trixie", [("deb", "https://192.0.2.5/own", "trixie", "main")]),
        (
            Archive("https://192.0.2.5/own", "https://192.0.2.5/fixes"),
            "trixie",
            [
                ("deb", "https://192.0.2.5/own", "trixie", "main"),
                ("deb", "https://192.0.2.5/fixes", "trixie-security", "main"),
            ],
        ),
    ],
)
def test_updates_and_security_updates_come_with_debians_archive(
    archive: Archive, suite: str, meant: list[tuple[str, ...]]
) -> None:
    assert written(archive, suite) == meant


@pytest.mark.parametrize(
    ("uri", "is_debians"),
    [
        ("https://deb.debian.org/debian", True),
        ("https://debian.org", True),
        ("https://203.0.113.5/mirrors/debian/", True),
        ("http://snapshot.debian.org/archive/debian/20260101T000000Z", True),
        ("https://notdebian.org/packages", False),
        ("https://packages.example.org/debian-extra", False),
        ("no URI", False),
    ],
)
def test_a_mirror_of_debian_is_known_by_its_host_or_its_folder(uri: str, is_debians: bool) -> None:
    assert debian_sources.is_debians(uri) is is_debians


def test_the_release_is_that_of_the_system_unless_a_suite_is_delivered() -> None:
    assert debian_sources.suite_of(TRIXIE, "") == "trixie"
    assert debian_sources.suite_of(SID, "sid") == "sid"
    with pytest.raises(ConfigError, match="which release this is"):
        debian_sources.suite_of(SID, "")
    with pytest.raises(ConfigError, match="not Debian"):
        debian_sources.suite_of(TRIXIE.replace("debian", "ubuntu"), "trixie")


def test_lines_of_the_archive_go_and_all_others_stay() -> None:
    stays = (
        "deb https://packages.example.org/x trixie main\n"
        "deb [signed-by=/k.gpg] https://download.example.org/linux/debian trixie main\n"
        "deb https://download.example.org/linux/debian trixie stable\n"
        "deb http://deb.debian.org/debian trixie-backports main\n"
    )
    goes = (
        "deb http://127.0.0.1:9999/debian trixie main contrib # by debootstrap\n"
        "deb-src [arch=amd64] http://deb.debian.org/debian trixie-updates main\n"
        f"deb [signed-by={KEYRING}] http://security.debian.org/debian-security trixie-security main\n"
    )
    assert debian_sources.without_debians(goes + stays, "trixie") == (
        stays,
        Kept(("deb", "deb-src"), (), ("main", "contrib")),
    )
    assert debian_sources.without_debians(f"# text\n\n{goes}", "trixie")[0] == ""
    assert debian_sources.without_debians(goes, "bookworm") == (goes, Kept())


def test_of_paragraphs_other_suites_components_and_third_parties_stay() -> None:
    other = "Types: deb\nURIs: https://packages.example.org/x\nSuites: trixie\nComponents: main"
    text = f"""\
# the image's
Types: deb deb-src
URIs: http://deb.debian.org/debian
 http://203.0.113.5/debian
Suites: trixie trixie-updates trixie-backports
Components: main non-free-firmware
Signed-By: {KEYRING}

{other}
"""
    left, kept = debian_sources.paragraphs(text, "trixie")
    assert left == f"\n{other}\n"
    assert kept == Kept(("deb", "deb-src"), ("trixie-backports",), ("main", "non-free-firmware"))
    new = debian_sources.text(Archive(OWN), "trixie", kept) + left
    assert "Suites: trixie trixie-updates trixie-backports\nComponents: main non-free-firmware\n" in new
    assert debian_sources.paragraphs(new, "trixie") == (left, kept), "read again, it is the same"
    assert debian_sources.paragraphs("", "trixie") == ("", Kept())
