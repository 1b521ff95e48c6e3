"""``--debug`` and CONFIG_DEBUG: each decision with its facts, no secret, and nothing where it is off."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent import stages
from agent.__main__ import main
from agent.config import model
from agent.config.nics import Nic
from agent.config.settings import SettingsFile
from agent.context import Context, context
from agent.disks import decide, policy
from agent.host import terminal
from agent.host.host import Host
from agent.network.interfaces import Interface
from agent.sources import SearchRequest, config_drives, swap_archive
from agent.stages import Stage, Step
from agent.state.store import State
from agent.steps import network
from tests.unit.disks.facts import facts, whole
from tests.unit.modules import MODULES, PROJECT, inside, tree
from tests.unit.sysfs import Sysfs, virtio

SETTINGS = "/etc/default/gandi"

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def host(tmp_path: Path, said: list[str]) -> Host:
    return Host(tmp_path, debug=said.append)


def nothing(_ctx: Context) -> tuple[()]:
    return ()


# -- the switch -----------------------------------------------------------------------------------


@root_only
@pytest.mark.parametrize(
    ("words", "is_on"), [("plan", False), ("--debug plan", True), ("plan --debug", True)]
)
def test_a_verb_prints_on_standard_error(
    words: str,
    is_on: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(stages.STAGES, Stage.CONFIG, (Step("nothing", f"{__name__}:nothing"),))
    for stage in set(Stage) - {Stage.CONFIG}:
        monkeypatch.setitem(stages.STAGES, stage, ())
    assert main(words.split(), Host(tmp_path)) == 0
    captured = capsys.readouterr()
    assert captured.err == ("step nothing: run\n" if is_on else "")
    assert "  nothing: unchanged" in captured.out


def test_the_setting_is_obeyed_at_once_in_both_directions(tmp_path: Path) -> None:
    host = Host(tmp_path)
    file = SettingsFile(host)
    for text, sink in (
        ("", None),
        ("CONFIG_DEBUG=1\n", terminal.debug),
        ("CONFIG_DEBUG=1\nCONFIG_FSCK=0\n", terminal.debug),
        ("CONFIG_DEBUG=0\n", None),
    ):
        host.write(SETTINGS, text)
        file.current()
        assert host.debug is sink, text
    host.write(SETTINGS, "CONFIG_DEBUG=1\n")
    file.current()
    host.remove(SETTINGS)
    file.current()
    assert host.debug is None


def test_the_setting_of_an_empty_file_does_not_undo_the_option(host: Host) -> None:
    before = host.debug
    host.write(SETTINGS, "CONFIG_FSCK=0\n")
    assert not SettingsFile(host).current().debug
    assert host.debug is before


@pytest.mark.parametrize("is_journal", [True, False])
def test_the_journal_gets_the_priority_of_debugging(tmp_path: Path, is_journal: bool) -> None:
    line = "from agent.host import terminal; terminal.debug('a\\nb\\x1b')"
    with (tmp_path / "stream").open("wb") as stream:
        info = os.fstat(stream.fileno())
        named = f"{info.st_dev}:{info.st_ino if is_journal else info.st_ino + 1}"
        environment = {"JOURNAL_STREAM": named}
        subprocess.run([sys.executable, "-c", line], cwd=PROJECT, env=environment, stderr=stream, check=True)
    assert (tmp_path / "stream").read_text() == ("<7>" if is_journal else "") + "a\\x0ab\\x1b\n"


def _unguarded(module: ast.Module) -> list[int]:
    """The lines of calls to ``….debug(…)`` that are not the body of ``if ….debug:`` of the same name."""
    calls = {
        node
        for node in ast.walk(module)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func).endswith("host.debug")
    }
    for node in ast.walk(module):
        if isinstance(node, ast.If):
            inside = {call for part in node.body for call in ast.walk(part) if isinstance(call, ast.Call)}
            calls -= {call for call in calls & inside if ast.unparse(call.func) == ast.unparse(node.test)}
    return sorted(call.lineno for call in calls)


def test_it_costs_one_attribute_where_it_is_off() -> None:
    unguarded = {inside(module): _unguarded(tree(module)) for module in MODULES}
    assert not {name: lines for name, lines in unguarded.items() if lines}


@pytest.mark.parametrize(
    "source", ["host.debug(f'{x}')", "if host.debug or x:\n  ctx.host.debug(x)", "if x:\n  host.debug(x)"]
)
def test_a_line_that_is_always_made_would_be_seen(source: str) -> None:
    assert _unguarded(ast.parse(source))


# -- the decisions --------------------------------------------------------------------------------


def test_a_disk_with_its_facts_and_the_reason() -> None:
    given = facts(whole())
    said = decide._explained(given, policy.decide(given))
    assert said.startswith("disk vdb: mount it at /srv/data with rw,nosuid,nodev,noatime; ")
    given = facts(whole(ID_FS_TYPE="swap"))
    line = decide._explained(given, policy.decide(given))
    assert line.startswith("disk vdb: leave it: a swap disk; ")
    for fact in ("content swap", "label b'data'", "UUID aaaa-1", "mount mode direct", "released False"):
        assert fact in line


def test_the_three_values_of_an_item_and_never_what_they_are(host: Host, said: list[str]) -> None:
    state = State(host)
    state.set_instance(model.Identity("gandi", "1"))
    live: list[str | None] = [None]

    def reconcile(value: str) -> None:
        def apply() -> None:
            live[0] = value

        state.reconcile("password:root", delivered=value, wanted=value, live=live[0], apply=apply)

    reconcile("secret-1")
    reconcile("secret-1")
    live[0] = "secret-of-the-administrator"
    reconcile("secret-1")
    reconcile("secret-2")
    head = "item password:root: delivered when last applied:"
    assert said == [
        f"{head} never; live: missing; live as last left: unknown",
        f"{head} same; live: as wanted; live as last left: same",
        f"{head} same; live: differs; live as last left: differs",
        f"{head} differs; live: differs; live as last left: differs",
    ]


def test_each_medium_that_was_looked_at_and_why_it_is_none(
    host: Host, said: list[str], tmp_path: Path
) -> None:
    (tmp_path / "sys/class/block").mkdir(parents=True)
    sysfs = Sysfs(tmp_path)
    virtio(sysfs, "vda", "254:0", slot="04.0")
    sysfs.disk("virtual/block/loop0", "7:0")
    config_drives.search(SearchRequest(host, ("nocloud",)))
    swap_archive.search(SearchRequest(host, ("gandi",)))
    assert said == [
        "source drives: vda: may be a drive",
        "source drives: loop0: a virtual device (loop)",
        "source drives: vda: not read: no filesystem with a drive's label",
        "source archive: vda: not searched: no tar header where an archive would begin",
    ]


def test_which_nic_is_which_interface(host: Host, said: list[str]) -> None:
    nics = (Nic(0), Nic(1, mac="52:54:00:00:00:09"))
    there = [Interface("ens3", "52:54:00:00:00:03")]
    network._pair(context(host), nics, there, {0: "52:54:00:00:00:03"})
    (line,) = said
    assert "[(0, None, None, 'ens3', '52:54:00:00:00:03')]" in line
    assert "without an interface: [1]" in line
