"""The maintainer scripts, run on a tree in which something else stands where a file of theirs is to be."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.host.host import Host
from agent.systemd import boot_mounts

DEBIAN = Path(__file__).parents[2] / "debian"
UNITS = DEBIAN.parent / "units"
TEMPLATE = "# as shipped\n"
SETTINGS = "etc/default/gandi"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with what the package has just unpacked."""
    for folder in ("etc/default", "etc/kernel/postinst.d", "run/gandi", "var/lib/gandi/instances"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "usr/share/gandi-agent").mkdir(parents=True)
    (tmp_path / "usr/share/gandi-agent/gandi").write_text(TEMPLATE)
    return tmp_path


def play(tree: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script with each path of its own below the tree."""
    return play_text(tree, (DEBIAN / name).read_text(), name, *arguments)


def play_text(tree: Path, text: str, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The same with a script's text. Debian's programs for such scripts know the tree from dpkg's
    variables.
    """
    script = re.sub(r"(?<![\w}/.])/(?=etc/|run/|var/|usr/share/)", f"{tree}/", text)
    return subprocess.run(
        ["sh", "-c", script, name, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"DPKG_ROOT": str(tree), "DPKG_MAINTSCRIPT_PACKAGE": "gandi-agent"},
    )


def content(place: Path) -> object:
    """What is there: a text, a list of names, or nothing."""
    if place.is_dir():
        return sorted(entry.name for entry in place.iterdir())
    return place.read_text() if place.exists() else None


ENABLED = sorted(unit.name for unit in UNITS.iterdir() if "\n[Install]\n" in unit.read_text())


def _links(tree: Path) -> list[str]:
    """Return the units that are enabled in the tree."""
    return sorted({link.name for link in (tree / "etc/systemd/system").glob("*.wants/*")})


def test_units_are_enabled_once_and_those_that_were_disabled_stay_so(tree: Path) -> None:
    """By Debian's deb-systemd-helper, which keeps what it enabled in the tree."""
    shutil.copytree(UNITS, tree / "usr/lib/systemd/system")
    assert play(tree, "postinst", "configure").returncode == 0
    assert _links(tree) == ENABLED
    others = [name for name in ENABLED if name != "gandi-watch.service"]
    wants = tree / "etc/systemd/system/multi-user.target.wants"
    (wants / "gandi-watch.service").unlink()
    for action in (("configure", "0.1.0"), ("abort-upgrade", "9.0.0")):
        assert play(tree, "postinst", *action).returncode == 0
        assert _links(tree) == others

    # Of another target in the next version: what is enabled gets its link, what is disabled none.
    for name in ("gandi-watch.service", "gandi-check.service"):
        unit = tree / "usr/lib/systemd/system" / name
        unit.write_text(unit.read_text().replace("WantedBy=multi-user", "WantedBy=basic"))
    assert play(tree, "postinst", "configure", "0.1.0").returncode == 0
    assert _links(tree) == others
    assert (tree / "etc/systemd/system/basic.target.wants/gandi-check.service").is_symlink()

    assert play(tree, "postrm", "purge").returncode == 0
    assert _links(tree) == []
    assert not list((tree / "var/lib/systemd").rglob("*.dsh-also"))


def test_the_settings_are_made_once(tree: Path) -> None:
    assert play(tree, "postinst", "configure").returncode == 0
    assert (tree / SETTINGS).read_text() == TEMPLATE
    assert (tree / SETTINGS).stat().st_mode & 0o777 == 0o644
    (tree / SETTINGS).write_text("mine\n")
    assert play(tree, "postinst", "configure", "0.1.0").returncode == 0
    assert (tree / SETTINGS).read_text() == "mine\n"
    assert content(tree / "etc/default") == ["gandi"]


@pytest.mark.parametrize("there", ["link", "dangling link", "folder", "link to a folder", "file"])
def test_what_stands_at_the_temporary_name_is_not_written_through(tree: Path, there: str) -> None:
    temporary, victim = tree / f"{SETTINGS}.dpkg-new", tree / "etc/victim"
    match there:
        case "link":
            victim.write_text("another's\n")
            temporary.symlink_to(victim)
        case "dangling link":
            temporary.symlink_to(victim)
        case "folder":
            (temporary / "below").mkdir(parents=True)
        case "link to a folder":
            victim.mkdir()
            temporary.symlink_to(victim)
        case _:
            temporary.write_text("cut sho")
            temporary.chmod(0o666)
    before = content(victim)
    assert play(tree, "postinst", "configure").returncode == 0
    assert (tree / SETTINGS).read_text() == TEMPLATE
    assert not (tree / SETTINGS).is_symlink()
    assert (tree / SETTINGS).stat().st_mode & 0o777 == 0o644
    assert content(victim) == before
    assert content(tree / "etc/default") == ["gandi"]


def test_a_file_in_the_place_of_the_kernel_hooks_folder_stops_nothing(tree: Path) -> None:
    (tree / "etc/kernel/postinst.d").rmdir()
    (tree / "etc/kernel/postinst.d").write_text("mine\n")
    done = play(tree, "postinst", "configure")
    assert done.returncode == 0
    assert "etc/kernel/postinst.d/gandi-agent: not made" in done.stderr
    assert content(tree / "etc/kernel/postinst.d") == "mine\n"


@pytest.mark.parametrize("there", ["link", "dangling link", "folder"])
def test_settings_of_another_kind_are_left(tree: Path, there: str) -> None:
    target = tree / "etc/mine"
    if there == "folder":
        (tree / SETTINGS).mkdir()
    else:
        (tree / SETTINGS).symlink_to(target)
    if there == "link":
        target.write_text("mine\n")
    assert play(tree, "postinst", "configure").returncode == 0
    assert (tree / SETTINGS).is_dir() == (there == "folder")
    assert target.exists() == (there == "link")


@pytest.mark.parametrize("name", [SETTINGS, f"{SETTINGS}.dpkg-new", "etc/ssh/.gandi-host-keys"])
def test_a_purge_leaves_a_folder_and_does_the_rest(tree: Path, name: str) -> None:
    (tree / name / "mine").mkdir(parents=True)
    others = {SETTINGS, "etc/ssh/.gandi-host-keys"} - {name}
    for other in others:
        (tree / other).parent.mkdir(exist_ok=True)
        (tree / other).write_text("")
    done = play(tree, "postrm", "purge")
    assert done.returncode == 0, done.stderr
    assert f"{tree}/{name} is a directory: left" in done.stderr
    assert (tree / name / "mine").is_dir()
    assert not any((tree / other).exists() for other in others)
    assert not (tree / "var/lib/gandi").exists()


def test_a_purge_follows_no_link(tree: Path) -> None:
    mine = tree / "srv/mine"
    mine.mkdir(parents=True)
    (mine / "file").write_text("")
    (tree / "run/gandi").rmdir()
    (tree / "run/gandi").symlink_to(mine)
    (tree / SETTINGS).symlink_to(mine)
    assert play(tree, "postrm", "purge").returncode == 0
    assert (mine / "file").exists()
    assert not (tree / "run/gandi").is_symlink()
    assert not (tree / SETTINGS).is_symlink()


@pytest.mark.parametrize(
    ("action", "is_left"), [("upgrade", True), ("abort-upgrade", True), ("remove", False)]
)
def test_the_automounters_link_goes_with_the_package_only(tree: Path, action: str, *, is_left: bool) -> None:
    link = tree / "etc/auto.master.d/gandi.autofs"
    link.parent.mkdir()
    link.symlink_to(f"{tree}/usr/share/gandi-agent/gandi.autofs")
    assert play(tree, "postrm", action).returncode == 0
    assert link.is_symlink() == is_left


@pytest.mark.parametrize("there", ["folder", "link"])
def test_the_record_of_the_old_package_is_made_from_nothing(tree: Path, there: str) -> None:
    record, victim = tree / "var/lib/gandi/succession", tree / "etc/victim"
    (tree / "etc/gandi").mkdir()
    (tree / "etc/gandi/manage_iface.sh").write_text("")
    if there == "folder":
        (record / "mode").mkdir(parents=True)
    else:
        victim.mkdir()
        record.symlink_to(victim)
    done = play(tree, "preinst", "install")
    assert done.returncode == 0, done.stderr
    assert (record / "mode").read_text() == "off\n"
    assert content(victim) in (None, [])


def test_the_units_that_were_left_for_pid_1_go_with_the_package(tree: Path) -> None:
    folder = tree / "etc/systemd/system"
    wants = folder / "gandi-disks.target.wants"
    host = Host(tree)
    for name in ("srv-data", "srv-changed"):
        assert boot_mounts.write_unit(host, f"{name}.mount", f"[Mount]\nWhere=/{name}\n")
    with (folder / "srv-changed.mount").open("a") as unit:
        unit.write("Options=ro\n")
    (folder / "srv-his.mount").write_text("[Mount]\nWhere=/srv/his\n")
    done = play(tree, "postrm", "remove")
    assert (done.returncode, done.stderr) == (0, "")
    assert content(folder) == ["gandi-disks.target.wants", "srv-changed.mount", "srv-his.mount"]
    assert content(wants) == ["srv-changed.mount"]
