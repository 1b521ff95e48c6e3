"""The OS definition below ganeti/os has what Ganeti requires, and its list is the table of parameters."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from agent.config.system import Archive
from agent.image import debian_sources, ganeti, ganeti_creation, ganeti_variables
from agent.image.ganeti_variables import PARAMETERS, Variables
from agent.lib.errors import ConfigError
from tests.unit.image.test_ganeti import BASE, HASH, KEY

DEFINITION = Path(__file__).parents[3] / "ganeti/os/gandi"
#: _TryOSFromDisk and OSFromDisk of ganeti.backend (Ganeti 3.0, Debian's package ganeti-3.0).
SCRIPTS = ("create", "export", "import", "rename", "verify")
LISTS = ("ganeti_api_version", "parameters.list", "variants.list")
#: A value that is right, by parameter.
RIGHT = {
    "ipv4": "203.0.113.10/24 198.51.100.7/32",
    "ipv6": "2001:db8::10/64",
    "gateway": "203.0.113.1",
    "gateway6": "fe80::1",
    "dns": "203.0.113.3\n2001:db8::3",
    "sshkey": f"{KEY}\n\n{KEY}\n",
    "password_hash": HASH,
    "user": "me",
    "timezone": "Europe/Paris",
    "hostkeys": "renew",
    "image": "debian-13.tar.zst",
    "suite": "trixie",
    "locale": "fr_FR.UTF-8",
    "apt_mirror": "https://deb.debian.org/debian",
    "apt_security": "https://deb.debian.org/debian-security/",
    "apt_proxy": "http://me:s%40cret@[2001:db8::1]:3128/",
    "packages": "openssh-server g++",
    "partition": "gpt",
    "swap": "512",
    "filesystem": "ext4",
    "bootloader": "none",
    "export": "raw",
}
#: One that is wrong, and what the remedy has.
WRONG = {
    "ipv4": ("203.0.113.10/24 2001:db8::10/64", "203.0.113.10/24"),
    "ipv6": ("2001:db8::99", "2001:db8::10/64"),
    "gateway": ("fe80::1", "gateway6"),
    "gateway6": ("203.0.113.1", "gateway6"),
    "dns": ("203.0.113.3,resolver", "203.0.113.10"),
    "sshkey": ("-----BEGIN OPENSSH PRIVATE KEY-----", ".pub"),
    "password_hash": ("plain secret", "crypt"),
    "user": ("$(reboot)", "letters"),
    "timezone": ("../../etc/shadow", "Europe/Paris"),
    "hostkeys": ("yes", "renew"),
    "image": ("../../etc/shadow.tar", ".qcow2"),
    "suite": ("$(reboot)", "trixie"),
    "locale": ("../fr_FR", "fr_FR.UTF-8"),
    "apt_mirror": ("http://x/ -oProxy='`id`'", "https://deb.debian.org/debian"),
    "apt_security": ("https://me:s3cret@192.0.2.1/debian", "/etc/apt/auth.conf.d"),
    "apt_proxy": ('http://me:s3cret@192.0.2.1/";', "http://192.0.2.1:3128"),
    "packages": ("openssh-server curl-", "openssh-server"),
    "partition": ("mbr", "msdos"),
    "swap": ("-1", "1048576"),
    "filesystem": ("-O ^journal", "ext4"),
    "bootloader": ("lilo", "grub"),
    "export": ("dump", "tar"),
}


#: Right values of a creation without an image.
OWN = RIGHT | {"image": ""}


def _environment(**parameters: str) -> dict[str, str]:
    return {f"OSP_{name.upper()}": value for name, value in parameters.items()}


def wrong(**parameters: str) -> list[str]:
    variables = Variables(_environment(**parameters))
    return [f"{error.message}; {error.hint}" for error in variables.wrong_parameters()]


@pytest.mark.parametrize("name", [*SCRIPTS, *LISTS])
def test_every_file_that_ganeti_requires_is_a_regular_one(name: str) -> None:
    info = (DEFINITION / name).lstat()
    assert stat.S_ISREG(info.st_mode)
    assert name in LISTS or os.access(DEFINITION / name, os.X_OK)


def test_the_version_of_the_interface_is_a_number_on_its_line() -> None:
    assert [int(line) for line in (DEFINITION / "ganeti_api_version").read_text().splitlines()] == [20]


def test_each_variant_and_parameter_is_on_a_line_with_its_name_first() -> None:
    assert (DEFINITION / "variants.list").read_text() == "default\n"
    text = (DEFINITION / "parameters.list").read_text()
    assert text == ganeti_variables.parameters_list(), "write what parameters_list() returns"
    of_the_hook = (DEFINITION.parent.parent / "hooks/parameters.list").read_text()
    assert of_the_hook == ganeti_variables.parameters_list(of_the_hook=True)
    assert "swap" not in of_the_hook, "instance-debootstrap would take it and do nothing"
    for line in text.splitlines():
        name, description = line.split(None, 1)
        assert re.fullmatch("[a-z0-9_]+", name)
        assert description


def test_each_value_that_is_right_is_taken_and_one_that_is_missing_too() -> None:
    assert set(RIGHT) == set(WRONG) == set(PARAMETERS)
    assert wrong(**RIGHT) == []
    assert wrong(**dict.fromkeys(PARAMETERS, "")) == wrong() == []


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_value_is_one_error_with_its_remedy_and_without_the_value(name: str) -> None:
    value, remedy = WRONG[name]
    (said,) = wrong(**RIGHT | {name: value})
    assert said.startswith(f"OSP_{name.upper()}: ")
    assert remedy in said.partition("; ")[2]
    assert value not in said


def test_all_of_them_are_named_at_once() -> None:
    found = wrong(**{name: value for name, (value, _) in WRONG.items()})
    assert [one.partition(":")[0] for one in found] == sorted(f"OSP_{name.upper()}" for name in WRONG)


def test_what_is_no_parameter_and_what_is_no_text_are_named() -> None:
    (said,) = wrong(colour="red")
    assert said == "OSP_COLOUR: no parameter of this OS; see its parameters.list"
    (said,) = wrong(sshkey=f"{KEY} \udcff")
    assert said.startswith("OSP_SSHKEY: ")


def test_what_the_scripts_read_has_no_character_of_a_shell() -> None:
    """Each value is read from a line, and is a word."""
    found = dict(line.split("=", 1) for line in ganeti_creation.lines(_environment(**OWN)))
    assert found == {
        "image": "",
        "kind": "release",
        "suite": "trixie",
        "packages": "openssh-server,python3-psutil,python3-pydantic-core,python3-pyudev,python3-systemd,"
        "g++,locales",
        "bootloader": "none",
        "partition": "gpt",
        "swap": "512",
        "filesystem": "ext4",
        "export": "raw",
    }
    plain = dict(line.split("=", 1) for line in ganeti_creation.lines({}))
    assert (plain["suite"], plain["partition"], plain["swap"]) == ("trixie", "msdos", "0")
    for value in (*found.values(), *plain.values()):
        assert re.fullmatch(r"[A-Za-z0-9.,:/_~%+\[\]-]*", value)


@pytest.mark.parametrize(
    ("image", "kind", "wrong"),
    [
        ("a.raw", "raw", ["suite", "partition", "swap", "filesystem"]),
        ("a.img", "raw", ["suite", "partition", "swap", "filesystem"]),
        ("a.qcow2", "qcow2", ["suite", "partition", "swap", "filesystem"]),
        ("a.tar", "tar", ["suite"]),
        ("a.tar.zst", "tar", ["suite"]),
        ("", "", []),
    ],
)
def test_what_an_image_decides_is_named(image: str, kind: str, wrong: list[str]) -> None:
    assert ganeti_variables.image_kind(image) == kind
    variables = Variables(_environment(**OWN | {"image": image}))
    found = [error.message.partition(":")[0] for error in ganeti_creation.conflicts(variables)]
    assert found == [f"OSP_{name.upper()}" for name in wrong]
    if wrong:
        with pytest.raises(ConfigError, match="OSP_SUITE: "):
            list(ganeti_creation.lines(_environment(**OWN | {"image": image})))


def test_the_sources_of_a_release_are_those_that_its_document_writes() -> None:
    more = {"apt_mirror": "https://192.0.2.3/debian", "apt_security": "https://192.0.2.3/debian-security"}
    for parameters in ({}, {"suite": "sid"}, more):
        made = ganeti_creation.sources(_environment(**parameters))
        suite = parameters.get("suite", "trixie")
        mirror = parameters.get("apt_mirror", debian_sources.MIRROR)
        apt = ganeti.document(BASE | _environment(**parameters | {"apt_mirror": mirror}))["apt"]
        assert made == debian_sources.text(Archive(**apt["archive"]), suite, debian_sources.Kept())
    assert "apt" not in ganeti.document(BASE | _environment(suite="trixie")), "an image has its own"


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX", ""])
def test_a_locale_that_each_system_has_needs_no_package(locale: str) -> None:
    assert ganeti_creation.wanted_packages(Variables(_environment(locale=locale))) == ()


def test_a_release_is_made_with_all_that_the_agent_needs() -> None:
    """Else apt would run a second time, with the network."""
    control = (DEFINITION.parents[2] / "debian/control").read_text()
    (needed,) = re.findall(r"(?ms)^Depends:(.*?)^[A-Z]", control)
    found = dict(line.split("=", 1) for line in ganeti_creation.lines({}))
    assert set(re.findall(r"python3-[\w-]+", needed)) <= set(found["packages"].split(","))


def test_a_boot_loader_brings_its_packages_a_kernel_and_a_table() -> None:
    own = {"bootloader": "grub", "packages": "g++"}
    found = dict(line.split("=", 1) for line in ganeti_creation.lines(_environment(**own)))
    assert (found["bootloader"], found["partition"]) == ("grub", "gpt")
    assert {"grub-pc-bin", "grub-efi-amd64-bin", "grub2-common", "linux-image-amd64", "g++"} <= set(
        found["packages"].split(",")
    )
    own |= {"packages": "linux-image-cloud-amd64", "partition": "msdos"}
    found = dict(line.split("=", 1) for line in ganeti_creation.lines(_environment(**own)))
    assert found["partition"] == "msdos"
    assert "linux-image-amd64" not in found["packages"].split(",")
    (error,) = ganeti_creation.conflicts(Variables(_environment(**own | {"partition": "none"})))
    assert error.message.startswith("OSP_BOOTLOADER: OSP_PARTITION=none: no BIOS boots a disk without")
    assert "partition=gpt or msdos" in error.hint
