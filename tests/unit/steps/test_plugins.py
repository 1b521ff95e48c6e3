"""Which programs are plugins, and their order; that systemd runs them is tested in the guest."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.config import settings_text
from agent.config.settings import SettingsFile
from agent.host.host import Host
from agent.programs import hooks
from agent.report import Item, changed
from agent.steps import plugins
from tests.unit.steps.conftest import Machine

FOLDER = "/etc/gandi/plugins.d"
LIB = Path(__file__).parents[3] / "etc-gandi/plugins-lib"


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, dict[str, str], float]]:
    """Unit, path, environment and time limit of each program that was run."""
    done = []

    def execute(
        _ctx: Any, unit: str, path: str, args: Any, environment: dict[str, str], timeout: float
    ) -> Iterator[Item]:
        assert args == ()
        done.append((unit, path, environment, timeout))
        yield changed(os.path.basename(path))

    monkeypatch.setattr(hooks, "execute", execute)
    return done


def put(machine: Machine, name: str, folder: str = FOLDER, mode: int = 0o755) -> None:
    machine.put(f"{folder}/{name}", "#!/bin/sh\n").chmod(mode)


def test_which_and_in_which_order(machine: Machine, ran: list[Any]) -> None:
    wanted = ["10-a", "20-x.sh", "20.x", "B", "a", "pre-first.sh", "é"]
    others = [".hidden", "x~", "x.dpkg-old", "x.dpkg-new", "x.rpmsave", "x.rpmnew", "pre-first"]
    for name in wanted + others:
        put(machine, name)
    put(machine, "not-executable", mode=0o644)
    (machine.root / FOLDER[1:] / "folder").mkdir()
    assert list(machine.run(plugins.plugins)) == wanted
    assert ran[1][:3] == ("gandi-plugin-20-x-sh", f"{FOLDER}/20-x.sh", {"GANDI_STAGE": "config"})
    assert all(0 < bound <= plugins.TIMEOUT for *_, bound in ran)
    assert os.readlink(machine.root / plugins.LIB[1:]) == plugins.SHIPPED_LIB


def test_a_library_of_the_customers_stays(machine: Machine, ran: list[Any]) -> None:
    put(machine, "a")
    machine.put(plugins.LIB, "mine")
    machine.run(plugins.plugins)
    assert machine.text(plugins.LIB) == "mine"
    assert len(ran) == 1


def test_another_folder_and_none(machine: Machine, ran: list[Any]) -> None:
    assert machine.run(plugins.plugins) == {}
    assert machine.run(plugins.bootstrap) == {}
    machine.put("/etc/default/gandi", "GANDI_PLUGIN_DIR=/opt/plugins/\n")
    put(machine, "a", "/opt/plugins")
    assert list(machine.run(plugins.plugins)) == ["a"]
    assert ran[0][1] == "/opt/plugins/a"


def test_foreign_programs_of_the_first_stage(machine: Machine, ran: list[Any]) -> None:
    put(machine, "50-other", plugins.BOOTSTRAP)
    put(machine, "pre-first", plugins.BOOTSTRAP)
    assert list(machine.run(plugins.bootstrap)) == ["50-other"]
    assert ran[0][2] == {"GANDI_STAGE": "bootstrap"}


def test_all_of_them_together_are_bounded(
    machine: Machine, ran: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        put(machine, name)
    clock = iter([0.0, 0.0, 170.0, plugins.TOTAL_TIMEOUT - 0.5])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    found = machine.run(plugins.plugins)
    assert [bound for *_, bound in ran] == [plugins.TIMEOUT, 70.0]
    assert found["c"].startswith("failed: not run")


# -- the library ---------------------------------------------------------------------------


def sh(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line after the library, in a shell that ends at an unset variable."""
    (folder / "lib").write_text(LIB.read_text().replace("/etc/", f"{folder}/"))
    return subprocess.run(
        ["sh", "-uc", f". ./lib; {line}"],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_settings_that_the_agent_passes_as_variables(tmp_path: Path) -> None:
    file = SettingsFile(Host(tmp_path))
    file.host.write(file.name, 'CONFIG_NODHCP="eth0 eth1"\nexport MINE=\'a "$b"\'\n')
    (tmp_path / "settings").write_text(settings_text.shell_text(file))
    line = (
        'load_config; echo "$CONFIG_NODHCP,$CONFIG_DISK_ROOT,$GANDI_HOOK_DIR,$CONFIG_SSHD"; env | grep ^MINE'
    )
    done = sh(line, tmp_path, GANDI_SETTINGS=f"{tmp_path}/settings")
    assert (done.stdout, done.stderr) == ('eth0 eth1,/srv,/etc/gandi/hooks/,1\nMINE=a "$b"\n', "")


def test_run_by_hand_the_command_is_asked_for_them(tmp_path: Path) -> None:
    command = tmp_path / "gandi-agent"
    command.write_text("#!/bin/sh\n[ \"$*\" = 'config show --sh' ] && echo \"CONFIG_DISK_ROOT='/a b'\"\n")
    command.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    # Also where what the agent passed cannot be read.
    for passed in ({}, {"GANDI_SETTINGS": "/nothing"}):
        done = sh('load_config; echo "$CONFIG_DISK_ROOT"', tmp_path, PATH=path, **passed)
        assert (done.stdout, done.stderr) == ("/a b\n", "")
    command.write_text("#!/bin/sh\nexit 3\n")
    assert sh("load_config", tmp_path, PATH=path).returncode == 3


def test_options_and_values(tmp_path: Path) -> None:
    (tmp_path / "conf").write_text("  #Root yes\n# Rooted\nA=1\n")
    done = sh("activate_option conf 'Root '; store_conf conf A 'x&|\\y'; store_conf conf B 'a b'", tmp_path)
    assert done.stderr == ""
    assert (tmp_path / "conf").read_text() == 'Root yes\n# Rooted\nA="x&|\\y"\nB="a b"\n'


def test_a_file_behind_a_link_is_changed_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("#Root yes\nA=1")
    (tmp_path / "conf").symlink_to("real")
    for _ in range(2):
        sh("activate_option conf 'Root '; store_conf conf A 2; store_conf conf B 3", tmp_path)
    assert (tmp_path / "conf").is_symlink()
    assert (tmp_path / "real").read_text() == 'Root yes\nA="2"\nB="3"\n'


def test_what_a_file_and_a_system_are(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xfd7zXZ\x00rest")
    (tmp_path / "b").write_bytes(b"text")
    (tmp_path / "debian_version").touch()
    assert sh("is_xz a && ! is_xz b && is_deb && ! is_rpm", tmp_path).returncode == 0
