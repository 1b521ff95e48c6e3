"""The files that the package installs agree with each other and with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import agent
from agent.config import settings
from agent.stages import STAGES as STEPS
from tests.unit.systemd.test_journal import identifiers

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "units").glob("*.service"))
OTHERS = ("agent", "check", "jumped", "restored", "resumed", "sshdkeygen", "sshdkeygen-rsa", "watch")
STAGES = [unit for unit in UNITS if unit.stem.removeprefix("gandi-") not in OTHERS]
SANDBOX = re.compile(
    r"^(?:NoNewPrivileges|Protect\w+|MemoryDenyWriteExecute|LockPersonality|Restrict(?:Realtime|Address\w+)"
    r"|Read(?:Only|Write)Paths)=.*$",
    re.MULTILINE,
)


def test_one_version() -> None:
    first = (ROOT / "debian/changelog").read_text().splitlines()[0]
    assert first.startswith(f"gandi-agent ({agent.__version__}) ")


def test_settings_template_shows_every_setting_with_its_default() -> None:
    text = (ROOT / "etc-default/gandi").read_text()
    in_force = re.sub(r"^#(?=[A-Z0-9_]+=)", "", text, flags=re.MULTILINE)
    assert settings.parse(in_force) == (settings.Settings(), [])
    assert set(re.findall(r"^([A-Z0-9_]+)=", in_force, re.MULTILINE)) == set(settings.FIELDS)


def test_settings_template_as_shipped_sets_nothing_but_nodhcp() -> None:
    text = (ROOT / "etc-default/gandi").read_text()
    assert [line for line in text.splitlines() if line and line[0] != "#"] == ['CONFIG_NODHCP=""']


@pytest.mark.parametrize("name", sorted(settings.FIELDS | dict.fromkeys(settings.RETIRED)))
def test_manual_explains_every_setting(name: str) -> None:
    assert f"*{name}*" in (ROOT / "docs/man/gandi.5.scd").read_text()


def test_manual_says_of_each_setting_that_nothing_reads_that_it_has_no_effect() -> None:
    read = {name for stage in STEPS.values() for step in stage for name in step.settings}
    for module in (ROOT / "agent").rglob("*.py"):
        read |= set(re.findall(r"settings\.([a-z0-9_]+)\b", module.read_text()))
    paragraphs = re.split(r"\n(?=\*[A-Z])", (ROOT / "docs/man/gandi.5.scd").read_text())
    marked = [text for text in paragraphs if "No effect in this version" in text]
    without_effect = {
        name for text in marked for name in re.findall(r"\*((?:CONFIG|GANDI)_[A-Z0-9_]+)\*", text)
    }
    assert without_effect == {name for name, field in settings.FIELDS.items() if field not in read}


@pytest.mark.parametrize("unit", STAGES, ids=lambda unit: unit.stem)
def test_a_stage_has_what_costs_nothing_of_the_daemons_sandbox(unit: Path) -> None:
    daemon = SANDBOX.findall((ROOT / "units/gandi-agent.service").read_text())
    stage = SANDBOX.findall(unit.read_text())
    assert set(stage) <= set(daemon)
    assert {"NoNewPrivileges=yes", "MemoryDenyWriteExecute=yes"} <= set(stage)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_every_start_has_a_bound(unit: Path) -> None:
    assert re.search(r"^TimeoutStartSec=[1-9]", unit.read_text(), re.MULTILINE)


def test_one_unit_for_each_stage_and_each_is_in_the_package() -> None:
    asked = {
        found[1] for unit in STAGES if (found := re.search(r"gandi-stage (\w+)$", unit.read_text(), re.M))
    }
    assert asked == {unit.stem.removeprefix("gandi-") for unit in STAGES}
    # What has no target of its own is pulled in by another unit of these.
    for script in ("postinst", "postrm"):
        text = (ROOT / "debian" / script).read_text()
        assert all(
            unit.name in text for unit in (ROOT / "units").iterdir() if "\n[Install]\n" in unit.read_text()
        )


def test_no_file_of_the_package_is_a_conffile() -> None:
    """A modified one would stop an unattended upgrade with a question."""
    for lines in ("debian/install", "debian/links"):
        for line in (ROOT / lines).read_text().splitlines():
            assert not line.split()[-1].lstrip("/").startswith("etc"), f"{lines}: {line}"


def test_catalog_explains_every_message() -> None:
    catalog = (ROOT / "units/gandi-agent.catalog").read_text()
    assert sorted(re.findall(r"^-- ([0-9a-f]{32})$", catalog, re.MULTILINE)) == sorted(identifiers())
