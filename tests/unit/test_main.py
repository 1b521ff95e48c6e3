"""The command: verbs, exit statuses, errors with their remedy, and no secret on the screen."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent import stages
from agent.__main__ import main
from agent.cli import clean, status
from agent.config import model
from agent.config.settings import FIELDS
from agent.context import Context, context, report_progress
from agent.host import processes
from agent.host.host import Completed, Host
from agent.report import Item, StageReport, StepReport, changed, failed
from agent.stages import Stage, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

TREE = Path(__file__).parents[2]
HASH, KEY = "$6$salt$hunter2", "ssh-ed25519 AAAA me"
CONFIG = model.InstanceConfig(
    model.Identity("gandi", "1234"),
    hostname="vm1",
    users=(model.User("root", HASH, (KEY,)), model.User("bob")),
    scripts=(model.Script("script", "d1gest", ("--token=hunter2",)),),
    files=(model.File("/etc/banner", "file0", "d1gest"),),
    metadata=(("admin_pass", "hunter2"),),
)

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class NoSystemd(Host):
    """A folder; whatever asks systemd gets no answer."""

    __slots__ = ()

    def run(self, argv: object, **_kwargs: object) -> Completed:
        return Completed(("systemctl",), 1, "", "")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return NoSystemd(tmp_path)


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "STAGES", dict.fromkeys(Stage, ()))


def write(ctx: Context) -> Iterator[Item]:
    ctx.host.write("/etc/motd", "hi")
    yield changed("motd", "written")


def broken(ctx: Context) -> Iterator[Item]:
    yield failed("motd", "no", "yes")


def end_all(host: Host) -> None:
    for stage in Stage:
        context(host).status.stage_ended(StageReport(stage, (), 0.1))


def test_run_stage_prints_each_step_and_ends_with_its_result(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(stages.STAGES, Stage.BOOTSTRAP, (Step("motd", f"{__name__}:write"),))
    assert main(["run-stage", "bootstrap"], host) == 0
    assert capsys.readouterr().out.startswith("motd: changed (motd written)")
    monkeypatch.setitem(stages.STAGES, Stage.BOOTSTRAP, (Step("motd", f"{__name__}:broken"),))
    assert main(["run-stage", "bootstrap"], host) == 1
    assert "failed: motd: no (yes)" in capsys.readouterr().out


@pytest.mark.usefixtures("empty")
def test_run_stage_says_that_an_empty_stage_is_empty(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run-stage", "config"], host) == 0
    assert capsys.readouterr().out == "nothing to do\n"


def test_run_stage_held_up_is_75_on_stderr(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(stages.run.__kwdefaults__ or {}, "lock_timeout", 0.0)
    with stages.stage_lock(host, "the test"):
        assert main(["run-stage", "config"], host) == 75
    error = capsys.readouterr().err
    assert error.startswith("gandi-agent: stage config: not run: process ")
    assert "\n  try: wait for that process" in error


@pytest.mark.parametrize(
    "words", [[], ["dance"], ["run-stage", "dance"], ["plan", "dance"], ["config"], ["status", "--wait=x"]]
)
def test_wrong_usage_is_2(words: list[str], host: Host) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words, host)
    assert ended.value.code == 2


@pytest.mark.parametrize("verb", ["daemon", "run-stage", "run-step", "adopt", "succeed", "ganeti"])
def test_a_verb_for_programs_is_not_listed_and_works(
    verb: str, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for words in (["--help"], [verb, "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(words, host)
        assert ended.value.code == 0
        said.append(capsys.readouterr().out)
    assert verb not in said[0]
    assert "decompress-kernel" in said[0]
    assert said[1].startswith(f"usage: gandi-agent {verb} ")


def test_status_of_a_machine_without_a_daemon(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"], host) == 2
    shown = capsys.readouterr().out
    assert "daemon: not running" in shown
    assert "bootstrap: not begun" in shown
    context(host).status.merge("daemon", "process", {"left": 1700000000})
    main(["status"], host)
    assert "daemon: at rest (systemd starts it" in capsys.readouterr().out
    end_all(host)
    assert main(["status", "--json"], host) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["state"], document["version"]) == ("ready", 1)
    assert document["verdict"].startswith("ready: boot took ")
    assert document["states"] == dict.fromkeys(map(str, Stage), "done")


def test_status_begins_with_its_verdict_in_each_form(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    mounted = "30 1 254:16 / /srv/{} rw - ext4 /dev/vdb rw\n"
    root = "20 1 254:1 / / rw - ext4 /dev/vda1 rw\n31 1 254:1 /x /srv/x rw - ext4 /dev/vda1 rw\n"
    host.write("/proc/self/mountinfo", root + mounted.format("data") + mounted.format("again"))
    end_all(host)
    said = {}
    for words in ("", "--format=text", "--format=short", "--format=json", "--json"):
        assert main(["status", *words.split()], host) == 0
        said[words] = capsys.readouterr().out
    line, _, rest = said[""].partition("\n")
    assert re.fullmatch(r"ready: boot took [0-9]+\.[0-9] s, 1 data disk mounted, nothing failed", line)
    assert rest.startswith("instance: ")
    assert said["--format=text"] == said[""]
    assert said["--format=short"] == f"{line}\n"
    assert json.loads(said["--json"])["verdict"] == line
    assert json.loads(said["--format=json"]) | {"now": 0} == json.loads(said["--json"]) | {"now": 0}


def test_a_wait_that_is_over_adds_nothing_to_json(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json", "--wait=0.1"], host) == 2
    assert json.loads(capsys.readouterr().out)["verdict"] == "starting: stage bootstrap has not begun"


def test_status_knows_a_daemon_by_its_process(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    mine = processes.this_process()
    context(host).status.merge("daemon", "process", {"since": 1} | mine)
    main(["status"], host)
    assert f"running (process {os.getpid()}), but it does not answer" in capsys.readouterr().out
    context(host).status.merge("daemon", "process", {"since": 1, "pid": mine["pid"], "started": 1})
    main(["status"], host)
    assert "daemon: not running" in capsys.readouterr().out, "another process that has its number now"


def test_status_shows_what_is_wrong_with_the_settings_now(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.write("/etc/default/gandi", "CONFIG_NETWROK=1\n")
    main(["status"], host)
    assert "/etc/default/gandi:1: unknown setting CONFIG_NETWROK (did you mean CONFIG_NETWORK?)" in (
        capsys.readouterr().out
    )


def test_wait_ends_with_the_last_stage(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    timer = threading.Timer(0.3, end_all, [host])
    timer.start()
    begun = time.monotonic()
    assert main(["status", "--wait=20"], host) == 0
    assert 0.2 < time.monotonic() - begun < 5
    timer.join()


def test_wait_always_ends_and_names_the_blocker(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    ctx = context(host)
    ctx.status.stage_started("bootstrap")
    report_progress(ctx, "bootstrap", "source", "a configuration medium")
    assert main(["status", "--wait=0.4"], host) == 2
    assert (
        "still running after 0.4 s: stage bootstrap: running, at source, waiting for a configuration medium"
        in (capsys.readouterr().out)
    )


def test_wait_reports_a_failure(host: Host) -> None:
    end_all(host)
    context(host).status.stage_ended(
        StageReport("config", (StepReport("a", (failed("a", "b"),), 0.1),), 0.1)
    )
    assert status.status(host, form="text", wait=5) == 1


def _names(value: object) -> Iterator[str]:
    """What --json names: each setting, and each field of the document."""
    match value:
        case {"settings": dict(settings), "document": document, **_rest}:
            yield from (*settings, *_names(document))
        case dict():
            for name, part in value.items():
                yield from (name, *_names(part))
        case list():
            for part in value:
                yield from _names(part)


@root_only
def test_config_show_says_where_each_setting_is_from_and_no_secret(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.write("/etc/default/gandi", "#\nexport CONFIG_DISK_ROOT=/data\nCONFIG_NETWORK=maybe\n")
    ctx = context(host)
    ctx.state.set_instance(CONFIG.identity)
    ctx.state.store_config(CONFIG, {})
    assert main(["config", "show"], host) == 0
    shown = capsys.readouterr().out
    assert "CONFIG_DISK_ROOT=/data  (/etc/default/gandi:2)" in shown
    assert "CONFIG_NETWORK=1  (default)" in shown
    assert "/etc/default/gandi:3: CONFIG_NETWORK:" in shown
    assert "\ndocument:\n" in shown
    assert (
        f"\n  users:\n    -\n      name: root\n      password: (set)\n      keys:\n        - {KEY}\n"
        in shown
    )
    assert "\n  nameservers: none\n" in shown
    assert "\n      path: /etc/banner\n" in shown
    assert main(["config", "show", "--json"], host) == 0
    document = capsys.readouterr().out
    found = json.loads(document)
    assert found["settings"]["CONFIG_DISK_ROOT"] == {"value": "/data", "origin": "/etc/default/gandi:2"}
    assert [problem["line"] for problem in found["problems"]] == [3]
    assert found["document"]["hostname"] == "vm1"
    for name in _names(found):
        assert re.search(rf"^ *{re.escape(name)}[:=]", shown, re.MULTILINE), f"{name} is in --json alone"
    for text in (shown, document):
        assert "hunter2" not in text
        assert "d1gest" not in text


def test_config_show_for_a_shell_has_every_setting_in_force(
    host: Host, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    host.write("/etc/default/gandi", "CONFIG_DISK_ROOT=/data\nCONFIG_NETWORK=maybe\n")
    assert main(["config", "show", "--sh"], host) == 0
    shown = capfdbinary.readouterr().out.decode()
    assert "CONFIG_DISK_ROOT='/data'\n" in shown
    assert "CONFIG_NETWORK='1'\n" in shown
    assert len(shown.splitlines()) == len(FIELDS)


@root_only
def test_plan_changes_nothing_and_names_each_effect(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        stages, "STAGES", dict.fromkeys(Stage, ()) | {Stage.CONFIG: (Step("motd", f"{__name__}:write"),)}
    )
    assert main(["plan"], host) == 0
    shown = capsys.readouterr().out
    assert "config:\n  motd: would change\n    motd: would change: written\n      write /etc/motd" in shown
    assert "mount: nothing to do" in shown
    assert list(tmp_path.iterdir()) == []


@root_only
def test_clean_forgets_the_instance_and_its_disks(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    ctx = context(host)
    ctx.state.set_instance(CONFIG.identity)
    ctx.state.store_config(CONFIG, {"script": b"#!/bin/sh\n"})
    ctx.state.mark_done("script")
    ctx.state.remember_disk("u-u-i-d", at="/srv/x")
    assert main(["clean"], host) == 0
    assert "changed: /var/lib/gandi/instance.json: removed" in capsys.readouterr().out
    assert context(host).state.identity() is None
    assert os.listdir(host.path("/var/lib/gandi")) == []
    assert main(["clean"], host) == 0
    assert "unchanged: state: nothing to remove" in capsys.readouterr().out


@root_only
def test_clean_follows_no_link_out_of_its_folder(host: Host, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    host.mkdir("/var/lib/gandi/instances/x")
    (tmp_path / "var/lib/gandi/instances/x/link").symlink_to("/kept")
    assert clean.clean(host) == 0
    assert (kept / "file").exists()
    assert not (tmp_path / "var/lib/gandi/instances").exists()


@pytest.mark.parametrize(
    "line",
    [
        "plan",
        "apply --root / --source -",
        "disks",
        "resources --json",
        "collect-logs",
        "detach vdb",
        "mount vdb",
        "rerun script",
        "clean --dry-run",
        "decompress-kernel --force",
        "adopt",
        "succeed",
        "daemon",
        "run-stage mount",
    ],
)
def test_a_verb_that_needs_root_says_so_before_anything_else(
    line: str, host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(line.split(), host) == 1
    verb = line.split()[0]
    said = capsys.readouterr()
    assert said.err == f"gandi-agent: {verb}: must be run as root\n  try: sudo gandi-agent {verb}\n"
    assert said.out == ""
    assert os.listdir(host.root) == []


def test_a_verb_that_needs_no_root_does_not_ask_for_it(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for words in (["status"], ["config", "show"], ["config", "schema"], ["get"], ["decompress-kernel", "x"]):
        main(words, host)
        assert "run as root" not in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["daemon", "run-stage"])
def test_the_verbs_of_the_boot_do_not_pay_for_argparse(verb: str, tmp_path: Path) -> None:
    line = (
        "import sys; from pathlib import Path; from agent.__main__ import main;"
        "from agent.host.host import Host;"
        "import agent.daemon.loop; agent.daemon.loop.Daemon.run = lambda self: None;"
        f"import agent.stages as s; s.STAGES[s.Stage.CONFIG] = ();"
        f"main({[verb, 'config'][: 2 if verb == 'run-stage' else 1]!r}, Host(Path({str(tmp_path)!r})));"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", line], cwd=TREE, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = {"argparse", "pydantic", "logging", "asyncio", "systemd.journal", "concurrent.futures", "pyudev"}
    assert not loaded & (heavy | {"ctypes", "dataclasses"})


@root_only
def test_plan_with_the_real_steps_leaves_an_empty_tree_empty(host: Host, tmp_path: Path) -> None:
    main(["plan"], host)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_has_seen_enough_gets_no_traceback(tmp_path: Path) -> None:
    line = "from agent.__main__ import main; from agent.host.host import Host;"
    line += "from pathlib import Path; import sys;"
    line += f"sys.stdin.read(); sys.exit(main(['config', 'show'], Host(Path({str(tmp_path)!r}))))"
    with subprocess.Popen(
        [sys.executable, "-c", line],
        cwd=TREE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as verb:
        assert verb.stdout
        verb.stdout.close()
        verb.stdout = None
        _, said = verb.communicate(timeout=20)
    assert (verb.returncode, said) == (1, b"")


def test_a_name_that_the_terminal_cannot_show_ends_no_verb(tmp_path: Path) -> None:
    (tmp_path / "run/gandi").mkdir(parents=True)
    item = {"name": "vdb", "outcome": "skipped", "detail": "a copy of /srv/d\xe9p\xf4t and /mnt/\udcff"}
    entry = {"outcome": "skipped", "items": [item]}
    document = {"version": 1, "stages": {}, "devices": {"vdb": entry}, "work": {}, "notes": {}}
    (tmp_path / "run/gandi/status.json").write_text(json.dumps(document))
    line = "from agent.__main__ import main; from agent.host.host import Host; from pathlib import Path;"
    line += f"main(['status'], Host(Path({str(tmp_path)!r})))"
    environment = {"PYTHONIOENCODING": "ascii", "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", line], cwd=TREE, env=environment, capture_output=True)
    assert b"/srv/d\\xe9p\\xf4t and /mnt/\\xff" in done.stdout
