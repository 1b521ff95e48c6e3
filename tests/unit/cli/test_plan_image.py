"""``plan`` of an image's first boot: each step once, in a copy, with what only the machine can know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.cli import plan_image
from agent.cli.plan import KNOWN_AT_BOOT
from agent.context import Context, context
from agent.disks.offline.scratch import ScratchHost
from agent.host.host import Host
from agent.image import delivery
from agent.lib.errors import NeedsProgram
from agent.report import Item, Outcome
from agent.stages import STAGES, Stage

DOCUMENT = {
    "version": 1,
    "id": "image-1",
    "hostname": "vm9.example.org",
    "timezone": "Europe/Paris",
    "files": [{"path": "/etc/injected", "content": "text\n"}],
    "nics": [{"number": 0, "mac": "52:54:00:00:00:10", "addresses": ["192.0.2.10/24"]}, {"number": 1}],
    "scripts": [{"name": "hello", "content": "#!/bin/sh\ntrue\n"}],
}


@pytest.fixture
def copy(tmp_path: Path) -> Context:
    """A copy of an image with networkd enabled and with another machine's identity."""
    for name, text in {
        "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
        "etc/group": "root:x:0:\n",
        "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
        "etc/ssh/ssh_host_rsa_key": "secret",
        "usr/lib/systemd/systemd-networkd": "",
        "usr/share/zoneinfo/Europe/Paris": "TZif",
        "etc/gandi/plugins.d/30-own": "#!/bin/sh\n",
    }.items():
        path = tmp_path / "copy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "copy/etc/gandi/plugins.d/30-own").chmod(0o755)
    wants = tmp_path / "copy/etc/systemd/system/x.wants"
    wants.mkdir(parents=True)
    (wants / "systemd-networkd.service").symlink_to("/usr/lib/systemd/system/systemd-networkd.service")
    return context(ScratchHost(tmp_path / "copy"))


@pytest.fixture
def document(tmp_path: Path) -> str:
    path = tmp_path / "document.json"
    path.write_text(json.dumps(DOCUMENT))
    return str(path)


def planned(ctx: Context, source: str, *stages: Stage) -> dict[str, tuple[Item, ...]]:
    parsed = delivery.read(Host(), source)
    found = plan_image.first_boot(ctx, source, parsed, stages or tuple(Stage))
    return {report.step: report.items for _, report, _ in found}


def test_what_only_the_machine_knows_names_steps_of_a_boot() -> None:
    assert set(plan_image.AT_BOOT) <= {step.name for steps in STAGES.values() for step in steps}


def test_each_step_finds_what_those_before_it_have_written(copy: Context, document: str) -> None:
    found = planned(copy, document)
    assert [(i.name, i.outcome) for i in found["source"]] == [("source", Outcome.CHANGED)]
    assert [(i.name, i.detail) for i in found["machine-id"]] == [("machine-id", "new")]
    assert [(i.name, i.detail) for i in found["host keys"]] == [("host keys", "new")]
    assert [(i.name, i.outcome) for i in found["files"]] == [("file:/etc/injected", Outcome.CHANGED)]
    assert [(i.name, i.outcome) for i in found["timezone"]] == [("timezone", Outcome.CHANGED)]


def test_what_is_known_at_the_boot_is_named(copy: Context, document: str) -> None:
    found = planned(copy, document)
    left = {
        (step, item.name)
        for step, items in found.items()
        for item in items
        if item.detail.startswith(KNOWN_AT_BOOT)
    }
    assert {("network", "nic:1"), ("network", "network"), ("plugins", "30-own")} < left
    assert {("scripts", "scripts"), ("swap", "swap"), ("root disk", "root disk")} < left
    assert ("network", "nic:0") not in left
    assert [item.name for item in found["network"] if item.outcome is Outcome.CHANGED] == ["nic:0"]
    # The document has neither.
    assert "mounts" not in found
    assert found["boot programs"] == ()


def test_one_stage_has_the_document_too(copy: Context, document: str) -> None:
    found = planned(copy, document, Stage.CONFIG)
    assert "source" not in found
    assert [item.outcome for item in found["timezone"]] == [Outcome.CHANGED]


def test_programs_are_recorded_and_not_run(tmp_path: Path) -> None:
    host = ScratchHost(tmp_path)
    host.run(("touch", "/made"))
    assert not host.allows("an effect on this machine")
    with pytest.raises(NeedsProgram):
        host.run(("sshd", "-T"), changes=False)
    host.write("/etc/name", "x")
    assert host.planned == [
        "run touch /made",
        "an effect on this machine",
        "write /etc/name (0644, 1 bytes)",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["etc"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--source", "x"], "plan: no image for that"),
        (["--root", "/nowhere"], "plan: --source is missing"),
        (["--root", "/nowhere", "--source", "x", "--partition", "1"], "plan: --partition needs the disk"),
    ],
)
def test_options_that_do_not_belong_together(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert main(["plan", *words]) == 1
    assert message in capsys.readouterr().err
