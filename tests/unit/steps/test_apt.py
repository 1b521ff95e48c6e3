"""Sources of packages, keys, proxies and settings of apt, each in a file of the agent's own."""

from __future__ import annotations

import pytest

from agent import stages
from agent.config.system import Apt, AptSource, Archive, System
from agent.lib.errors import ConfigError
from agent.report import Outcome
from agent.steps import apt
from tests.unit.steps.conftest import Machine

KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQ==\n-----END PGP PUBLIC KEY BLOCK-----\n"
LINE = "deb [arch=amd64,arm64 trusted=no] http://192.0.2.1/debian $RELEASE main contrib"


@pytest.fixture
def debian(machine: Machine) -> Machine:
    machine.put("/usr/bin/apt-get")
    machine.put("/etc/os-release", "ID=debian\nVERSION_CODENAME=trixie\n")
    return machine


def deliver(machine: Machine, *sources: AptSource, partial: bool = False, **more: object) -> dict[str, str]:
    machine.deliver(system=System(apt=Apt(sources, **more)), partial=partial)  # type: ignore[arg-type]
    return machine.run(apt.apply)


def test_a_source_with_its_key(debian: Machine) -> None:
    assert set(deliver(debian, AptSource("one", LINE, KEY)).values()) == {"changed"}
    assert debian.text("/etc/apt/keyrings/gandi-one.asc") == KEY
    assert debian.text("/etc/apt/sources.list.d/gandi-one.sources").split("\n")[1:] == [
        "Types: deb",
        "URIs: http://192.0.2.1/debian",
        "Suites: trixie",
        "Components: main contrib",
        "Architectures: amd64 arm64",
        "Trusted: no",
        "Signed-By: /etc/apt/keyrings/gandi-one.asc",
        "",
    ]
    assert set(debian.run(apt.apply).values()) == {"unchanged"}


def test_a_key_alone_is_trusted_for_all(debian: Machine) -> None:
    assert deliver(debian, AptSource("one", "", KEY)) == {
        "apt:/etc/apt/trusted.gpg.d/gandi-one.asc": "changed"
    }


@pytest.mark.parametrize(
    ("source", "key", "meant"),
    [
        ("deb http://x ./", "", "Types: deb\nURIs: http://x\nSuites: ./\n"),
        (
            "deb-src [ signed-by=/k.gpg check-valid-until=no ] http://x s m # text",
            "/key",
            "Types: deb-src\nURIs: http://x\nSuites: s\nComponents: m\nSigned-By: /k.gpg\n"
            "Check-Valid-Until: no\n",
        ),
        (
            "deb [signed-by=$KEY_FILE] http://x s m",
            "/key",
            "Types: deb\nURIs: http://x\nSuites: s\nComponents: m\nSigned-By: /key\n",
        ),
        (
            "Types: deb\nURIs: http://x\nSuites: $RELEASE\n\nTypes: deb\nURIs: http://y\nSigned-By: /z",
            "/key",
            "Types: deb\nURIs: http://x\nSuites: trixie\nSigned-By: /key\n\n"
            "Types: deb\nURIs: http://y\nSigned-By: /z\n",
        ),
    ],
)
def test_forms(source: str, key: str, meant: str) -> None:
    assert apt.deb822(source, key, "trixie") == meant


def test_a_value_that_is_not_known_costs_its_source(debian: Machine) -> None:
    found = deliver(
        debian, AptSource("bad", "deb [signed-by=$KEY_FILE] http://x s m"), AptSource("one", LINE)
    )
    assert found == {
        "apt:bad": "failed: $KEY_FILE: not known",
        "apt:/etc/apt/sources.list.d/gandi-one.sources": "changed",
    }
    with pytest.raises(ConfigError, match=r"\$RELEASE"):
        apt.deb822(LINE, "", "")


def test_proxies_and_settings(debian: Machine) -> None:
    deliver(debian, proxies=(("http", "http://192.0.2.2:3128/"),), conf='APT::Get::Assume-Yes "1";')
    assert debian.text("/etc/apt/apt.conf.d/90gandi-proxy").endswith(
        'Acquire::http::Proxy "http://192.0.2.2:3128/";\n'
    )
    assert debian.text("/etc/apt/apt.conf.d/94gandi") == 'APT::Get::Assume-Yes "1";\n'


def test_what_is_no_longer_delivered_goes_and_the_administrators_stays(debian: Machine) -> None:
    one, two = AptSource("one", LINE, KEY), AptSource("two", "deb http://x ./")
    deliver(debian, one, two)
    debian.put("/etc/apt/sources.list.d/gandi-two.sources", "# mine\n")
    assert deliver(debian, one, two)["apt:/etc/apt/sources.list.d/gandi-two.sources"].startswith("kept")
    # A document with errors may lack one by mistake.
    assert all(said == "unchanged" for said in deliver(debian, one, partial=True).values())
    found = deliver(debian, two)
    assert found["apt:/etc/apt/sources.list.d/gandi-one.sources"] == "changed: no longer delivered, removed"
    assert found["apt:/etc/apt/keyrings/gandi-one.asc"] == "changed: no longer delivered, removed"
    assert debian.text("/etc/apt/sources.list.d/gandi-two.sources") == "# mine\n"


PARAGRAPHS = """\
# the distribution's
Types: deb
URIs: http://deb.debian.org/debian
Suites: trixie trixie-updates
Components: main

Types: deb
URIs: http://security.debian.org/debian-security
Suites: trixie-security
Components: main
"""
MIRRORS = (("primary", "http://192.0.2.3/debian"), ("security", "http://192.0.2.3/security"))


def test_a_part_that_is_no_longer_delivered_is_withdrawn(debian: Machine) -> None:
    step = next(step for step in stages.STAGES[stages.Stage.CONFIG] if step.name == "apt")
    deliver(debian, AptSource("one", LINE, KEY), conf='Acquire::Retries "3";')
    debian.deliver(system=None, partial=True)
    assert not debian.run(apt.apply), "a mistake in the document withdraws nothing"
    debian.deliver(partial=False)
    ctx = debian.context()
    assert stages.is_due(ctx, step)
    report = stages.run_step(ctx, step)
    assert [item.outcome for item in report.items] == [Outcome.CHANGED] * 3
    assert not (debian.root / "etc/apt/sources.list.d/gandi-one.sources").exists()
    assert not stages.is_due(debian.context(), step)


def test_mirrors_in_paragraphs(debian: Machine) -> None:
    path = "/etc/apt/sources.list.d/debian.sources"
    debian.put(path, PARAGRAPHS)
    assert deliver(debian, mirrors=MIRRORS) == {f"apt mirror:{path}": "changed"}
    assert debian.text(path) == PARAGRAPHS.replace(
        "http://deb.debian.org/debian", "http://192.0.2.3/debian"
    ).replace("http://security.debian.org/debian-security", "http://192.0.2.3/security")
    assert deliver(debian, mirrors=MIRRORS) == {f"apt mirror:{path}": "unchanged"}
    debian.put(path, PARAGRAPHS)
    assert deliver(debian, mirrors=MIRRORS) == {f"apt mirror:{path}": "kept: changed by admin"}
    assert deliver(debian, mirrors=(("primary", "http://192.0.2.4/"),)) == {f"apt mirror:{path}": "changed"}
    assert "URIs: http://security.debian.org/debian-security\n" in debian.text(path)


def test_mirrors_in_lines(debian: Machine) -> None:
    third = "deb https://packages.example.org/x trixie stable\n"
    own = "deb [arch=amd64] http://deb.debian.org/debian trixie main\n"
    debian.put("/etc/apt/sources.list", own + third)
    assert deliver(debian, mirrors=MIRRORS[:1]) == {"apt mirror:/etc/apt/sources.list": "changed"}
    replaced = own.replace("http://deb.debian.org/debian", "http://192.0.2.3/debian")
    assert debian.text("/etc/apt/sources.list") == replaced + third


def test_a_mirror_without_a_source_to_change(debian: Machine) -> None:
    debian.put("/etc/apt/sources.list", "deb https://packages.example.org/x trixie stable\n")
    (said,) = deliver(debian, mirrors=MIRRORS[:1]).values()
    assert said.startswith("failed: apt.primary: no source of the distribution's servers")


RELEASE = 'ID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\n'
OWN = Archive("http://192.0.2.3/debian")
SOURCES, LIST = "/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"


def test_debians_archive_is_written_in_place_of_the_lines_of_debootstrap(debian: Machine) -> None:
    debian.put("/etc/os-release", RELEASE)
    debian.put("/usr/share/keyrings/debian-archive-keyring.gpg")
    debian.put(LIST, "deb http://127.0.0.1:9999/debian trixie main contrib\n")
    assert deliver(debian, archive=OWN) == {
        f"apt mirror:{SOURCES}": "changed: http://192.0.2.3/debian",
        f"apt mirror:{LIST}": f"changed: what {SOURCES} has is left out",
    }
    assert not (debian.root / LIST[1:]).exists()
    text = debian.text(SOURCES)
    assert "URIs: http://192.0.2.3/debian\nSuites: trixie trixie-updates\nComponents: main contrib\n" in text
    assert "Suites: trixie-security\n" in text
    assert {said.partition(":")[0] for said in deliver(debian, archive=OWN).values()} == {"unchanged"}
    debian.put(SOURCES, "# mine\n")
    assert deliver(debian, archive=OWN)[f"apt mirror:{SOURCES}"].startswith("kept")
    another = Archive("http://192.0.2.4/debian")
    assert deliver(debian, archive=another)[f"apt mirror:{SOURCES}"].startswith("changed")
    # No longer delivered: a machine without any source would be worse.
    deliver(debian)
    assert "http://192.0.2.4/debian" in debian.text(SOURCES)


def test_an_archive_without_its_keys_or_for_another_system_is_an_error(debian: Machine) -> None:
    debian.put("/etc/os-release", RELEASE)
    (said,) = deliver(debian, archive=OWN).values()
    assert said.startswith("failed: apt.archive: no /usr/share/keyrings/debian-archive-keyring.gpg")
    debian.put("/etc/os-release", "ID=ubuntu\nVERSION_CODENAME=noble\n")
    (said,) = deliver(debian, archive=OWN).values()
    assert said.startswith("failed: apt.archive: this system is not Debian")
    assert not (debian.root / SOURCES[1:]).exists()


@pytest.mark.parametrize(
    ("url", "proxy", "login"),
    [
        ("http://me:s%40cret@192.0.2.2:3128/", "http://192.0.2.2:3128/", "me password s@cret"),
        ("https://me:x@192.0.2.2:3128", "https://192.0.2.2:3128", "me password x"),
        # What a word of apt_auth.conf(5) cannot have.
        ("http://me:%23x@192.0.2.2:3128/", "http://me:%23x@192.0.2.2:3128/", ""),
        ("http://me:a%20b@192.0.2.2:3128/", "http://me:a%20b@192.0.2.2:3128/", ""),
        ("socks5h://me:x@192.0.2.2:3128/", "socks5h://me:x@192.0.2.2:3128/", ""),
    ],
)
def test_a_proxys_password_is_readable_for_root_alone(
    debian: Machine, url: str, proxy: str, login: str
) -> None:
    found = deliver(debian, proxies=(("http", url), ("https", url)))
    assert set(found.values()) == {"changed"}
    conf = debian.root / "etc/apt/apt.conf.d/90gandi-proxy"
    auth = debian.root / "etc/apt/auth.conf.d/90gandi.conf"
    for scheme in ("http", "https"):
        assert f'Acquire::{scheme}::Proxy "{proxy}";\n' in conf.read_text()
    assert auth.exists() is bool(login)
    if login:
        assert auth.read_text().splitlines()[1:] == [f"machine {proxy.rstrip('/')} login {login}"]
        assert auth.stat().st_mode & 0o777 == 0o600
    assert conf.stat().st_mode & 0o777 == (0o644 if login else 0o600)
    debian.deliver(system=None)
    debian.run(apt.apply)
    assert not conf.exists()
    assert not auth.exists()


def test_a_system_without_apt(machine: Machine) -> None:
    with pytest.raises(ConfigError, match="apt: not installed"):
        deliver(machine, AptSource("one", LINE))
