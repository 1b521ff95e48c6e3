"""NICs that are added and removed: the network step runs again over all, and hooks run for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from agent.context import Context, context
from agent.host.host import Host
from agent.hotplug import nic
from agent.network import interfaces, nic_inventory
from agent.programs import hooks
from agent.report import Item, changed, failed
from tests.unit.network.test_interfaces import add_nic
from tests.unit.steps.test_network import Booting


@pytest.fixture
def hook_runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record which hooks were run, and for which NIC."""
    found: list[str] = []

    def run(_ctx: Context, name: str, *args: str, environment: dict[str, str]) -> Iterator[Item]:
        assert not args
        found.append(f"{name} {environment['ACTION']} {environment['INTERFACE']}")
        yield changed(name)

    monkeypatch.setattr(hooks, "run", run)
    return found


def plug(root: Path, index: int, mac: str = "") -> Path:
    mac = mac or f"52:54:00:00:00:{index:02x}"
    place = f"pci0000:00/0000:00:{index:02x}.0"
    return add_nic(root, f"ens{index}", mac, device=place, index=index)


def unplug(root: Path, index: int) -> None:
    (root / f"sys/class/net/ens{index}").unlink()


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    """Make a machine with a physical NIC and that of a container."""
    plug(tmp_path, 2)
    add_nic(tmp_path, "veth0", "52:54:00:00:00:77", index=9)
    found = context(Host(tmp_path))
    nic.record_first_scan(found)
    return found


def handle(ctx: Context, *results: Item) -> bool:
    """Handle one event, as a daemon that has just started; return whether the network step was run."""
    ran: list[bool] = []

    def configure() -> Iterable[Item]:
        ran.append(True)
        return results

    list(nic.handle(context(ctx.host), configure))
    return bool(ran)


def test_nothing_is_done_where_nobody_came_or_went(
    ctx: Context, hook_runs: list[str], tmp_path: Path
) -> None:
    add_nic(tmp_path, "veth1", "52:54:00:00:00:78", index=10)
    assert not handle(ctx)
    assert hook_runs == []


def test_one_that_comes_and_one_that_goes(ctx: Context, hook_runs: list[str], tmp_path: Path) -> None:
    plug(tmp_path, 3)
    assert handle(ctx)
    assert not handle(ctx)
    unplug(tmp_path, 2)
    assert handle(ctx)
    assert not handle(ctx)
    assert hook_runs == ["post-iface-attach add ens3", "post-iface-detach remove ens2"]


def test_a_driver_that_is_loaded_again(ctx: Context, hook_runs: list[str], tmp_path: Path) -> None:
    """The same NIC gets another ifindex."""
    (tmp_path / "sys/class/net/ens2/ifindex").write_text("12\n")
    assert handle(ctx)
    assert hook_runs == ["post-iface-detach remove ens2", "post-iface-attach add ens2"]


def test_a_rename_is_no_other_nic(ctx: Context, hook_runs: list[str], tmp_path: Path) -> None:
    """No hook runs, but the network step writes the files of managers that match by name again."""
    classes = tmp_path / "sys/class/net"
    (classes / "ens2").rename(classes / "lan")
    assert handle(ctx)
    assert hook_runs == []


def test_one_that_goes_while_it_is_looked_at_is_not_there(ctx: Context, tmp_path: Path) -> None:
    folder = plug(tmp_path, 3)
    for file in ("ifindex", "address"):
        (folder / file).unlink()
    assert not handle(ctx)


def test_a_new_one_has_its_name_from_udev_first(
    ctx: Context, hook_runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event of another NIC may arrive while this one is still called eth0."""
    classes = tmp_path / "sys/class/net"
    plug(tmp_path, 3)
    (classes / "ens3").rename(classes / "eth0")
    record = tmp_path / "run/udev/data/n3"
    record.parent.mkdir(parents=True)
    record.write_text("E:ID_PROCESSING=1\n")

    def wait(_host: Host, ready: Callable[[], bool], _patience: float) -> bool:
        assert not ready()
        (classes / "eth0").rename(classes / "ens3")
        record.write_text("E:ID_NET_NAME_SLOT=ens3\n")
        return ready()

    monkeypatch.setattr(interfaces, "wait_for_change", wait)
    live = context(Booting(tmp_path))
    assert list(nic.handle(live, lambda: ()))
    assert hook_runs == ["post-iface-attach add ens3"]


def test_what_failed_is_done_again(ctx: Context, hook_runs: list[str], tmp_path: Path) -> None:
    plug(tmp_path, 3)
    assert handle(ctx, failed("nic:1", "no"))
    assert handle(ctx)
    assert not handle(ctx)


def test_a_changed_setting_is_a_reason(ctx: Context, hook_runs: list[str]) -> None:
    ctx.host.write("/etc/default/gandi", "CONFIG_NODHCP=ens2\n")
    assert handle(ctx)
    assert not handle(ctx)
    ctx.host.write("/etc/default/gandi", "CONFIG_NODHCP=ens2\nCONFIG_CRON=0\n")
    assert not handle(ctx)
    assert hook_runs == []


def test_one_that_came_before_the_first_look_is_no_news(tmp_path: Path, hook_runs: list[str]) -> None:
    plug(tmp_path, 2)
    found = context(Host(tmp_path))
    assert not nic.has_changes(found)
    assert not handle(found)
    assert nic_inventory.recorded(found.host) == {"2": ("ens2", "52:54:00:00:00:02")}


def test_the_answers(ctx: Context, tmp_path: Path) -> None:
    ctx.host.write("/etc/default/gandi", "CONFIG_NODHCP=ens3\n")
    plug(tmp_path, 3)
    rows = {name: (act, why) for name, _state, act, why in nic.survey(ctx)}
    assert rows["ens2"][0] == "DHCP"
    assert rows["ens3"] == ("leave", "in CONFIG_NODHCP; not handled yet")
