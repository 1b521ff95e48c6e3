"""Mount mode autofs: the map, the program that reads it, and the file that names the folder."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.context import context
from agent.disks import mode_autofs
from agent.disks.base.record import DiskState, Record, Records
from agent.disks.base.system import SYSTEMD
from agent.host.host import Host
from agent.lib.errors import HostError

if TYPE_CHECKING:
    from agent.context import Context

ROOT = Path(__file__).parents[3]
PROGRAM = ROOT / "autofs/auto.gandi"


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    host = Host(tmp_path)
    host.write("/proc/self/mountinfo", "")
    host.write(mode_autofs.SHIPPED, (ROOT / "autofs/gandi.autofs").read_text())
    return context(host)


def offered(name: str, at: str, fstype: str = "ext4") -> Record:
    return Record(name, "7", "u", "", "254:16", at, state=DiskState.OFFERED, fstype=fstype)


def looked_up(ctx: Context, *words: str) -> tuple[int, str]:
    environment = os.environ | {"GANDI_AUTOFS_MAP": ctx.host.path(mode_autofs.MAP)}
    done = subprocess.run((PROGRAM, *words), env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_the_program_finds_what_the_daemon_wrote_and_nothing_else(ctx: Context) -> None:
    ctx.host.write("/run/gandi/autofs", "on")
    records = Records(ctx.host)
    records.put("vdb", offered("vdb", "/srv/data"))
    records.put("vdc1", offered("vdc", "/srv/dépôt_2", "xfs"))
    records.put("vdd", Record("vdd", "9", "u", "", "254:48", "/srv/other"))
    mode_autofs.write_map(ctx)
    entry = f"-fstype=ext4,{mode_autofs.OPTIONS}\t:/dev/vdb\n"
    assert looked_up(ctx, "data") == (0, entry)
    assert looked_up(ctx, "dépôt_2") == (0, f"-fstype=xfs,{mode_autofs.OPTIONS}\t:/dev/vdc1\n")
    for words in (("other",), ("dat",), ("*",), ("",), (), ("data", "more")):
        assert looked_up(ctx, *words) == (1, ""), words
    records.put("vdb", None)
    mode_autofs.write_map(ctx)
    assert looked_up(ctx, "data") == (1, "")


def test_without_a_map_there_is_nothing(ctx: Context) -> None:
    mode_autofs.write_map(ctx)
    assert not ctx.host.exists(mode_autofs.MAP)
    assert looked_up(ctx, "data") == (1, "")


@pytest.mark.parametrize(
    ("own", "where"),
    [
        (None, "/srv"),
        ("# mine\n/data /usr/lib/gandi-agent/auto.gandi --timeout=60\n", "/data"),
        ("/- /etc/auto.direct\n/volumes/ program:/usr/lib/gandi-agent/auto.gandi\n", "/volumes"),
        ("", "/srv"),
    ],
)
def test_a_file_of_the_administrators_own_says_where(ctx: Context, own: str | None, where: str) -> None:
    if own is not None:
        ctx.host.write(mode_autofs.LINK, own)
    assert mode_autofs.root(ctx.host) == where


def test_a_mode_whose_program_is_missing_says_what_to_install(ctx: Context) -> None:
    ctx.host.write("/etc/default/gandi", "CONFIG_MOUNT_MODE=autofs\n")
    with pytest.raises(HostError, match="not installed") as caught:
        list(mode_autofs.switch(ctx, SYSTEMD))
    assert "apt install autofs" in caught.value.hint
    assert not os.path.lexists(ctx.host.path("/etc/auto.master.d/gandi.autofs"))


@pytest.mark.parametrize("settings", ["", "CONFIG_MOUNT_MODE=autofs\nCONFIG_ALLOW_MOUNT=0\n"])
def test_the_link_of_a_former_boot_goes_when_the_mode_has_changed(ctx: Context, settings: str) -> None:
    ctx.host.write("/etc/default/gandi", settings)
    ctx.host.symlink(mode_autofs.LINK, mode_autofs.SHIPPED)
    assert [item.name for item in mode_autofs.switch(ctx, SYSTEMD)] == ["autofs"]
    assert not os.path.lexists(ctx.host.path("/etc/auto.master.d") + "/gandi.autofs")
    assert list(mode_autofs.switch(ctx, SYSTEMD)) == []
    assert not ctx.host.exists("/run/gandi/autofs")


def test_a_file_of_the_administrators_own_stays_in_every_mode(ctx: Context) -> None:
    ctx.host.write(mode_autofs.LINK, "/data /etc/auto.mine\n")
    assert list(mode_autofs.switch(ctx, SYSTEMD)) == []
    assert ctx.host.read(mode_autofs.LINK) == "/data /etc/auto.mine\n"


def test_a_plan_does_not_wait_for_what_it_does_not_change(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("")
    begun = time.monotonic()
    assert mode_autofs._wait(Host(tmp_path, dry_run=True), lambda: False, 60.0)
    assert time.monotonic() - begun < 30
