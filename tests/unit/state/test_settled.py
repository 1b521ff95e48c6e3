"""When the mark of a settled machine is written, and its content."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.config.model import Identity, InstanceConfig
from agent.config.nics import Nic, NicOptions
from agent.context import Context, Medium, context
from agent.daemon import boot_mark
from agent.disks.base.record import Record, Records
from agent.host.host import Completed, Host
from agent.stages import Stage
from agent.state import boot_cache, settled
from tests.unit.network.test_interfaces import add_nic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

CHECK = Path(__file__).parents[3] / "bin/gandi-check"
FACTS = "uuid 1\ndisk vda 1 0\n"


class Checked(Host):
    """Stand in for gandi-check; everything else is real."""

    facts = FACTS

    def run(self, argv: Sequence[str], **_more: Any) -> Completed:
        asked = tuple(argv)
        return Completed(asked, 0, self.facts if asked[0] == settled.CHECK else "", "")


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    made = context(Checked(tmp_path))
    made.state.set_instance(Identity("gandi", "one"))
    for stage in Stage:
        made.status.merge("stages", stage, {"state": "done", "steps": []})
    return made


def test_after_a_complete_boot_it_has_the_orders_and_the_facts(ctx: Context) -> None:
    items = [{"name": "swap", "outcome": "unchanged", "detail": "/dev/vdb, switched on"}]
    ctx.status.merge("stages", "bootstrap", {"state": "done", "steps": [{"step": "swap", "items": items}]})
    assert boot_mark.write(ctx) == ""
    text = ctx.host.read(settled.MARK) or ""
    orders, facts = text.split("\nfacts\n")
    assert "swap vdb" in orders.splitlines()
    assert "watch /etc/gandi/plugins.d" in orders.splitlines()
    assert facts == FACTS


def test_a_nic_that_gets_another_mac_is_known_by_its_own(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, given = "52:54:00:00:00:01", "02:00:00:00:00:09"
    add_nic(Path(ctx.host.root), "ens3", own, device="pci0000:00/0000:00:03.0", index=2)
    nic = Nic(0, own, dhcp4=True, options=NicOptions(set_mac=given))
    ctx.config = InstanceConfig(Identity("gandi", "one"), nics=(nic,))
    ctx.state.store_nic_pairs({0: own})
    monkeypatch.setattr(Checked, "facts", f"{FACTS}nic ens3 2 {given} 1\n")
    assert boot_mark.write(ctx) == ""
    orders, facts = (ctx.host.read(settled.MARK) or "").split("\nfacts\n")
    assert f"mac ens3 {given} {own}" in orders.splitlines()
    assert facts == f"{FACTS}nic ens3 2 {own} 1\n"


def test_the_check_compares_a_nics_own_mac(tmp_path: Path) -> None:
    """The script's functions, on a tree in place of /sys."""
    own, given = "52:54:00:00:00:01", "02:00:00:00:00:09"
    folder = add_nic(tmp_path, "ens3", own, device="pci0000:00/0000:00:03.0", index=2)
    (folder / "queues/tx-0").mkdir(parents=True)
    script = CHECK.read_text().replace("/sys/class/net", f"{tmp_path}/sys/class/net")
    mark = tmp_path / "mark"
    mark.write_text(f"mac ens4 {own} x\nmac ens3 {given} {own}\nfacts\nuuid 1\n")
    script = (
        script.partition("length='' paths=''")[0]
        + f"mark={mark} facts=''\nrecall\nnics\nprintf %s \"$facts\""
    )
    found = []
    for address in (own, given, "02:00:00:00:00:07"):
        (folder / "address").write_text(f"{address}\n")
        run = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, timeout=30)
        found.append(run.stdout)
    assert found == [f"nic ens3 2 {mac} 1\n" for mac in (own, own, "02:00:00:00:00:07")]


@pytest.mark.parametrize("state", ["failed", "running"])
@pytest.mark.parametrize("stage", Stage)
def test_none_unless_every_stage_has_ended_well(ctx: Context, stage: Stage, state: str) -> None:
    assert boot_mark.write(ctx) == ""
    ctx.status.merge("stages", stage, {"state": state, "steps": []})
    assert boot_mark.write(ctx) == f"stage {stage}: {state}"
    assert not ctx.host.exists(settled.MARK)


def _failed_device(ctx: Context) -> None:
    ctx.status.merge("devices", "vdc", {"role": "disk", "outcome": "failed", "items": []})


def _cut(ctx: Context) -> None:
    ctx.host.write(f"{settled.FOLDER}/.unfinished.gandi-1-2-3-4", b"")


def _begun(ctx: Context) -> None:
    ctx.host.write(ctx.state.path_for_writing("begun.json"), b"{}")


def _renewed(ctx: Context) -> None:
    ctx.host.write(ctx.state.path_for_writing("renew/machine-id"), b"")


def _plugin(ctx: Context) -> None:
    ctx.host.write("/etc/gandi/plugins.d/one", b"", mode=0o755)


def _hook(ctx: Context) -> None:
    ctx.host.write("/etc/gandi/hooks/post-vm-config", b"", mode=0o755)


def _bootstrap(ctx: Context) -> None:
    ctx.host.write("/usr/share/gandi/bootstrap.d/one", b"", mode=0o755)


def _odd_settings(ctx: Context) -> None:
    ctx.host.write("/etc/default/gandi", "CONFIG_MOTD=maybe\n")
    ctx.settings_file.current()


def _drive(ctx: Context) -> None:
    ctx.state.set_instance(Identity("openstack", "two"))


def _unknown_disk(ctx: Context) -> None:
    Checked.facts = "unknown vdb\n"


def _disk(ctx: Context) -> None:
    Records(ctx.host).put("vdb", Record("vdb", "7", "uuid", "data", "254:16", "/srv/data"))


def _mount_of_pid_1s(ctx: Context) -> None:
    ctx.state.remember_disk("uuid", at="/srv/data")
    ctx.host.write("/proc/self/mountinfo", "9 1 254:16 / /srv/data rw - ext4 /dev/vdb rw\n")


WHYS = (
    (_mount_of_pid_1s, "/srv/data was mounted without the daemon"),
    (_failed_device, "vdc has failed"),
    (_cut, "not written to its end"),
    (_begun, "was begun"),
    (_renewed, "was begun"),
    (_plugin, "runs at each boot"),
    (_bootstrap, "runs at each boot"),
    (_hook, "hook post-vm-config"),
    (_odd_settings, "settings"),
    (_drive, "drive (openstack)"),
    (_unknown_disk, "unknown vdb"),
    (_disk, "vdb is mounted"),
)


@pytest.mark.parametrize(("make", "why"), WHYS, ids=lambda value: getattr(value, "__name__", value))
def test_none_where_the_next_boot_has_something_to_do(
    ctx: Context, make: Any, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Checked, "facts", FACTS)
    assert boot_mark.write(ctx) == ""
    make(ctx)
    assert why in boot_mark.write(ctx)
    assert not ctx.host.exists(settled.MARK)


def test_a_machine_without_a_configuration_is_never_settled(tmp_path: Path) -> None:
    made = context(Checked(tmp_path))
    for stage in Stage:
        made.status.merge("stages", stage, {"state": "done", "steps": []})
    assert boot_mark.write(made) == "no configuration yet"
    made.host.write("/etc/default/gandi", "CONFIG_DATASOURCE=none\n")
    assert boot_mark.write(made) == ""


def test_in_a_boot_without_stages_it_keeps_its_orders(ctx: Context) -> None:
    for stage in Stage:
        ctx.status.merge("stages", stage, None)
    assert boot_mark.write(ctx) == "stage bootstrap: not run"
    ctx.host.write(settled.FLAG, 'swap vdb\nseen nics {"here": {}, "were": []}\nconsume \nfolder cpu0 7\n')
    assert boot_mark.write(ctx) == ""
    text = ctx.host.read(settled.MARK) or ""
    assert text.startswith("swap vdb\n")
    assert 'seen nics {"here": {}, "were": []}' in text
    assert boot_cache.load(ctx.host, boot_cache.CPUS) == {"cpu0": 7}
    assert boot_cache.load(ctx.host, boot_cache.MEMORY) is None
    boot_cache.store(ctx.host, boot_cache.CPUS, {"cpu1": 8})
    assert boot_cache.load(ctx.host, boot_cache.CPUS) == {"cpu1": 8}


@pytest.mark.parametrize(
    ("size", "delivered", "kept"), [(1024, True, True), (1024, False, False), (0, True, False)]
)
def test_an_archive_is_kept_that_was_understood_and_has_no_secret(
    ctx: Context, tmp_path: Path, size: int, delivered: bool, kept: bool
) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(512 << 10) + b"a" * 1024 + bytes(64 << 10))
    if delivered:
        ctx.host.write(ctx.state.path_for_writing("delivered"), "digest", mode=0o600)
    medium = Medium("gandi", "vdb", "1:2", "vdb", 512 << 10, size)
    with disk.open("rb") as file:
        settled.keep_archive(ctx, medium, file.fileno())
    assert ctx.host.exists(settled.ARCHIVE) == kept
    if kept:
        assert (tmp_path / "var/lib/gandi/archive").stat().st_mode & 0o777 == 0o600
        assert boot_mark.write(ctx) == ""
        assert "archive 1024\n" in (ctx.host.read(settled.MARK) or "")
