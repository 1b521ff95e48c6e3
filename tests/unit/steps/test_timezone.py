"""The timezone: a link, and Debian's text where there is one."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest

from agent.config.model import Identity
from agent.context import context
from agent.host.host import Host
from agent.lib.errors import ConfigError, HostError
from agent.steps import timezone
from tests.unit.steps.conftest import IDENTITY, Machine


@pytest.fixture(autouse=True)
def _zones(machine: Machine) -> None:
    for zone in ("Europe/Paris", "Etc/UTC"):
        machine.put(f"/usr/share/zoneinfo/{zone}", "TZif")


def test_it_is_linked_and_then_left(machine: Machine) -> None:
    machine.put("/etc/timezone", "Etc/UTC\n")
    machine.deliver(timezone="Europe/Paris")
    assert machine.run(timezone.apply) == {"timezone": "changed: Europe/Paris"}
    assert os.readlink(machine.root / "etc/localtime") == "/usr/share/zoneinfo/Europe/Paris"
    assert machine.text("/etc/timezone") == "Europe/Paris\n"
    assert machine.run(timezone.apply) == {"timezone": "unchanged: Europe/Paris"}
    link = machine.root / "etc/localtime"
    link.unlink()
    link.symlink_to("../usr/share/zoneinfo/Etc/UTC")
    assert machine.run(timezone.apply) == {"timezone": "kept: changed by admin"}


def test_a_cut_between_the_text_and_the_link_is_made_good(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.put("/etc/timezone", "Etc/UTC\n")
    machine.deliver(timezone="Europe/Paris")
    for method in ("write", "symlink"):
        real = getattr(Host, method)

        def cut(host: Host, name: str, *words: Any, real: Any = real, **how: Any) -> object:
            if name in ("/etc/timezone", "/etc/localtime"):
                raise HostError("no power")
            return real(host, name, *words, **how)

        with monkeypatch.context() as patch:
            patch.setattr(Host, method, cut)
            with pytest.raises(HostError):
                machine.run(timezone.apply)
    assert machine.run(timezone.apply) == {"timezone": "changed: Europe/Paris"}
    assert machine.text("/etc/timezone") == "Europe/Paris\n"
    assert zone(machine) == "Europe/Paris"


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "../../../etc/shadow"])
def test_one_that_is_not_there_is_named(machine: Machine, zone: str) -> None:
    machine.deliver(timezone=zone)
    with pytest.raises(ConfigError, match=r"not known"):
        machine.run(timezone.apply)
    assert not (machine.root / "etc/localtime").exists()


def zone(machine: Machine) -> str:
    link = machine.root / "etc/localtime"
    return os.readlink(link).removeprefix("/usr/share/zoneinfo/") if link.is_symlink() else ""


@pytest.mark.parametrize(
    ("cmdline", "wanted"),
    [
        ("ro gandi=cet-some-more quiet", "Europe/Paris"),
        ("gandi=CET", "Europe/Paris"),
        ("gandi=utc", "Etc/UTC"),
        ("gandi=-x", "Etc/UTC"),
        ("nogandi=utc", "Europe/Paris"),
    ],
)
def test_the_kernels_word_counts_after_the_documents(machine: Machine, cmdline: str, wanted: str) -> None:
    machine.put("/proc/cmdline", f"{cmdline}\n")
    machine.run(timezone.apply)
    assert zone(machine) == wanted
    machine.deliver(timezone="Etc/UTC")
    machine.run(timezone.apply)
    assert zone(machine) == "Etc/UTC"


def test_gandis_archive_alone_has_a_timezone_of_old(machine: Machine) -> None:
    machine.deliver(identity=Identity("nocloud", "1"))
    assert machine.run(timezone.apply) == {}
    machine.deliver(identity=IDENTITY)
    assert machine.run(timezone.apply) == {"timezone": "changed: Europe/Paris"}


def test_the_one_of_old_gives_way_to_the_images(machine: Machine) -> None:
    machine.put("/usr/share/zoneinfo/Asia/Tokyo", "TZif")
    link = machine.root / "etc/localtime"
    link.parent.mkdir(exist_ok=True)
    link.symlink_to("/usr/share/zoneinfo/Asia/Tokyo")
    assert machine.run(timezone.apply) == {"timezone": "kept: Asia/Tokyo, set in the image"}
    link.unlink()
    link.symlink_to("/usr/share/zoneinfo/Etc/UTC")
    assert machine.run(timezone.apply) == {"timezone": "changed: Europe/Paris"}


def test_the_kernels_word_without_a_document(machine: Machine) -> None:
    machine.put("/proc/cmdline", "gandi=cet\n")
    ctx = context(Host(machine.root))
    assert [str(item) for item in timezone.apply(ctx)] == ["changed: timezone: Europe/Paris"]
    assert [str(item) for item in timezone.apply(ctx)] == ["unchanged: timezone: Europe/Paris"]


def test_without_tzdata_only_the_documents_is_missed(machine: Machine) -> None:
    shutil.rmtree(machine.root / "usr/share/zoneinfo")
    assert machine.run(timezone.apply) == {
        "timezone": "skipped: Europe/Paris: not in /usr/share/zoneinfo/: install tzdata"
    }
