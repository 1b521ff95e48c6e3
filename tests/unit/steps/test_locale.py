"""The locale: made if the system can, written into the file that the system reads.

Debian's own locale-gen runs in tests/system/test_cloud_system.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from agent.config.system import System
from agent.host.host import Completed, Host
from agent.lib.errors import ConfigError
from agent.steps import locale
from tests.unit.steps.conftest import Machine


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The locales that the machine has; locale-gen makes those of its list."""
    there = {"C", "C.utf8", "POSIX"}

    def run(host: Host, argv: tuple[str, ...], **_how: Any) -> Completed:
        if argv[0] == "locale-gen":
            listed = (host.read("/etc/locale.gen") or "").split("\n")
            there.update(
                line.split(" ")[0].replace("UTF-8", "utf8") for line in listed if line[:1] not in "#"
            )
        return Completed(argv, 0, "".join(f"{name}\n" for name in sorted(there)), "")

    monkeypatch.setattr(Host, "run", run)
    return there


@pytest.fixture
def debian(machine: Machine) -> Machine:
    machine.put("/usr/sbin/locale-gen")
    machine.put("/usr/share/i18n/SUPPORTED", "de_DE.UTF-8 UTF-8\nfr_FR.UTF-8 UTF-8\nfr_FR ISO-8859-1\n")
    machine.put("/etc/locale.gen", "# a list\n# de_DE.UTF-8 UTF-8\n# fr_FR.UTF-8 UTF-8\n")
    machine.put("/etc/default/locale", "LANG=C.UTF-8\nLC_TIME=C\n")
    machine.deliver(system=System(locale="fr_FR.UTF-8"))
    return machine


def test_debian_makes_it_first(debian: Machine, known: set[str]) -> None:
    assert debian.run(locale.apply) == {"locale": "changed: fr_FR.UTF-8"}
    assert debian.text("/etc/locale.gen") == "# a list\n# de_DE.UTF-8 UTF-8\nfr_FR.UTF-8 UTF-8\n"
    assert "fr_FR.utf8" in known
    assert debian.text("/etc/default/locale") == 'LANG="fr_FR.UTF-8"\nLC_TIME=C\n'
    stamps = debian.stamps()
    assert debian.run(locale.apply) == {"locale": "unchanged: fr_FR.UTF-8"}
    assert debian.stamps() == stamps


def test_the_administrators_is_kept_until_the_document_changes(debian: Machine) -> None:
    debian.run(locale.apply)
    debian.put("/etc/default/locale", "LANG=C\n")
    assert debian.run(locale.apply) == {"locale": "kept: changed by admin"}
    debian.deliver(system=System(locale="de_DE.UTF-8"))
    assert debian.run(locale.apply) == {"locale": "changed: de_DE.UTF-8"}


def test_one_that_is_there_is_only_set(debian: Machine) -> None:
    (debian.root / "etc/default/locale").unlink()
    debian.put("/etc/locale.conf", "")
    debian.deliver(system=System(locale="C.UTF-8"))
    before = debian.text("/etc/locale.gen")
    assert debian.run(locale.apply) == {"locale": "changed: C.UTF-8"}
    assert debian.text("/etc/locale.conf") == 'LANG="C.UTF-8"\n'
    assert debian.text("/etc/locale.gen") == before


def test_one_that_the_system_does_not_know(debian: Machine) -> None:
    debian.deliver(system=System(locale="xx_XX.UTF-8"))
    with pytest.raises(ConfigError, match=r"xx_XX\.UTF-8: not known"):
        debian.run(locale.apply)
    assert debian.text("/etc/default/locale") == "LANG=C.UTF-8\nLC_TIME=C\n"


def test_a_system_without_locale_gen(debian: Machine) -> None:
    (debian.root / "usr/sbin/locale-gen").unlink()
    with pytest.raises(ConfigError, match="locale-gen is not installed"):
        debian.run(locale.apply)
