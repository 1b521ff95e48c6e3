"""The document's certificates: files, and the system's program that makes the bundle.

Debian's own program runs in tests/system/test_cloud_system.py.
"""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from agent.config.system import CaCerts, System
from agent.host.host import Completed, Host
from agent.lib.errors import ConfigError, HostError, NeedsProgram
from agent.steps import ca_certs
from tests.unit.steps.conftest import Machine

ONE, TWO = (f"-----BEGIN CERTIFICATE-----\n{n}\n-----END CERTIFICATE-----\n" for n in ("MIIB", "MIIC"))
LIST = "# a comment\nmozilla/A.crt\n!mozilla/B.crt\n"


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the programs that have run; install and rm do their work below the root."""
    names: list[str] = []

    def run(host: Host, argv: tuple[str, ...], **_how: Any) -> Completed:
        names.append(argv[0])
        if argv[0] == "install":
            folder = host.path(argv[argv.index("-t") + 1])
            for path in argv[argv.index("-t") + 2 :]:
                host.mkdir(argv[argv.index("-t") + 1])
                shutil.copy(host.path(path), folder)
        elif argv[0] == "rm":
            for path in argv[2:]:
                host.remove(path)
        return Completed(argv, 0, "", "")

    monkeypatch.setattr(Host, "run", run)
    return names


@pytest.fixture
def debian(machine: Machine, ran: list[str]) -> Machine:
    for program in ("update-ca-certificates", "install", "rm"):
        machine.put(f"/usr/sbin/{program}")
    machine.put("/etc/ca-certificates.conf", LIST)
    machine.deliver(system=System(ca_certs=CaCerts((ONE, TWO))))
    return machine


def texts(machine: Machine, folder: str = "usr/local/share/ca-certificates") -> set[str]:
    return {path.read_text() for path in (machine.root / folder).glob("gandi-*.crt")}


def test_debian(debian: Machine, ran: list[str]) -> None:
    assert debian.run(ca_certs.apply) == {"ca certificates": "changed: 2 trusted"}
    assert texts(debian) == {ONE, TWO}
    assert ran == ["install", "update-ca-certificates"]
    assert debian.run(ca_certs.apply) == {"ca certificates": "unchanged: 2 trusted"}
    assert len(ran) == 2
    debian.deliver(system=System(ca_certs=CaCerts((TWO,))))
    assert debian.run(ca_certs.apply) == {"ca certificates": "changed: 1 trusted"}
    assert texts(debian) == {TWO}, "one that is no longer delivered is no longer trusted"
    assert debian.text("/etc/ca-certificates.conf") == LIST


def test_one_that_the_administrator_removed_stays_removed(debian: Machine) -> None:
    debian.run(ca_certs.apply)
    for path in (debian.root / "usr/local/share/ca-certificates").iterdir():
        path.unlink()
    assert debian.run(ca_certs.apply) == {"ca certificates": "kept: changed by admin"}


def test_none_of_the_image(debian: Machine) -> None:
    debian.deliver(system=System(ca_certs=CaCerts((ONE,), remove_defaults=True)))
    assert debian.run(ca_certs.apply) == {"ca certificates": "changed: 1 trusted, none of the image"}
    assert debian.text("/etc/ca-certificates.conf") == "# a comment\n!mozilla/A.crt\n!mozilla/B.crt\n"
    assert debian.run(ca_certs.apply)["ca certificates"].startswith("unchanged")


def test_a_cut_before_the_bundle(debian: Machine, ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Host.run

    def cut(host: Host, argv: tuple[str, ...], **how: Any) -> Completed:
        if argv[0] == "update-ca-certificates":
            raise HostError("cut")
        return whole(host, argv, **how)

    monkeypatch.setattr(Host, "run", cut)
    with pytest.raises(HostError, match="cut"):
        debian.run(ca_certs.apply)
    assert texts(debian) == {ONE, TWO}, "as wanted already, but in no bundle"
    monkeypatch.setattr(Host, "run", whole)
    assert debian.run(ca_certs.apply) == {"ca certificates": "changed: 2 trusted"}
    assert ran[-1] == "update-ca-certificates"


def test_the_rpm_systems(machine: Machine, ran: list[str]) -> None:
    for program in ("update-ca-trust", "install"):
        machine.put(f"/usr/bin/{program}")
    machine.deliver(system=System(ca_certs=CaCerts((ONE,))))
    assert machine.run(ca_certs.apply) == {"ca certificates": "changed: 1 trusted"}
    assert texts(machine, "etc/pki/ca-trust/source/anchors") == {ONE}
    assert ran[-1] == "update-ca-trust"
    machine.deliver(system=System(ca_certs=CaCerts((ONE,), remove_defaults=True)))
    with pytest.raises(ConfigError, match="remove_defaults: not supported"):
        machine.run(ca_certs.apply)


def test_a_system_without_a_bundle(machine: Machine, ran: list[str]) -> None:
    machine.deliver(system=System(ca_certs=CaCerts((ONE,))))
    with pytest.raises(ConfigError, match="update-ca-certificates"):
        machine.run(ca_certs.apply)
    assert not ran


def test_without_programs_all_of_it_is_left_to_the_first_boot(debian: Machine, ran: list[str]) -> None:
    ctx = debian.context()
    ctx.host.runs_programs = False
    with pytest.raises(NeedsProgram, match="update-ca-certificates"):
        list(ca_certs.apply(ctx))
    assert not ran
    assert not ctx.state.recorded_items("ca certificates")
    assert debian.text("/etc/ca-certificates.conf") == LIST
    assert debian.run(ca_certs.apply)["ca certificates"].startswith("changed")
