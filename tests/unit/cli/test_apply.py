"""``apply`` on images: the steps run, what they may read, and what is left to the first boot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent import stages
from agent.__main__ import main
from agent.cli import apply
from agent.config.nics import Nic
from agent.context import Context, context
from agent.host import machine_uuid
from agent.host.host import Host
from agent.image import seed
from agent.lib.errors import ConfigError
from agent.network import interfaces
from agent.stages import Stage
from agent.steps.hostkeys import KEYGEN

CONFIG = {
    "vm_hostname": "vm1",
    "nameservers": ["203.0.113.3"],
    "vif": [
        {
            "vif_number": 0,
            "vif_mac": "52:54:00:00:00:10",
            "pna": [{"pna_address": "203.0.113.10", "pbn": {"pbn_network": "203.0.113.0/24"}}],
        }
    ],
}


@pytest.fixture
def image(tmp_path: Path) -> Context:
    """An image with networkd enabled, below a folder that also shows another machine's kernel."""
    root = tmp_path / "root"
    for name, text in {
        "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
        "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
        "etc/ssh/ssh_host_rsa_key": "secret",
        "etc/ssh/ssh_host_rsa_key.pub": "public",
        "etc/ssh/sshd_config": "",
        "etc/systemd/system/x.wants/systemd-networkd.service": "",
        f"etc/systemd/system/x.wants/{KEYGEN}": "",
        "usr/lib/systemd/systemd-networkd": "",
        "usr/share/zoneinfo/Europe/Paris": "TZif",
        "var/lib/dbus/machine-id": "0123456789abcdef0123456789abcdef\n",
        "sys/class/dmi/id/product_uuid": "4c4c4544-0000-1000-8000-000000000001\n",
        "sys/class/net/eth0/address": "52:54:00:00:00:99\n",
        "sys/class/net/eth0/type": "1\n",
        "sys/class/net/eth0/device/x": "",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.name.endswith(".wants"):
            path.symlink_to(f"/usr/lib/systemd/system/{path.name}")
        else:
            path.write_text(text)
    return context(Host(root, offline=True))


@pytest.fixture
def medium(tmp_path: Path) -> str:
    """A swap image."""
    out = str(tmp_path / "swap.img")
    seed.swap(Host(), out, seed.archive({"config": json.dumps(CONFIG).encode()}), size=4 << 20)
    return out


def outcomes(ctx: Context, medium: str, chosen: tuple[Stage, ...] = tuple(Stage)) -> dict[str, str]:
    return {report.step: str(report.outcome) for report in apply.steps(ctx, medium, chosen)}


def _offline(*names: Stage) -> set[str]:
    return {step.name for stage in names for step in stages.STAGES[stage] if step.offline and not step.rare}


def test_only_steps_that_need_no_running_system(image: Context, medium: str) -> None:
    result = outcomes(image, medium)
    assert result == {
        "source": "changed",
        "hostname": "changed",
        "network": "changed",
        "resolver": "changed",
        "users": "unchanged",
        "files": "unchanged",
        "timezone": "changed",
        "first boot": "changed",
        "scripts": "unchanged",
    }
    assert set(result) == {"source", "first boot"} | _offline(*Stage)
    assert (Path(image.host.root) / "etc/hostname").read_text() == "vm1\n"
    assert not (Path(image.host.root) / "run").exists()


def test_a_second_time_changes_nothing(image: Context, medium: str) -> None:
    outcomes(image, medium)
    assert set(outcomes(context(image.host), medium).values()) == {"unchanged"}


def test_only_the_stages_that_are_named(image: Context, medium: str) -> None:
    assert set(outcomes(image, medium, (Stage.CONFIG,))) == {"source", "first boot"} | _offline(Stage.CONFIG)
    assert _offline(Stage.CONFIG) < _offline(*Stage)


def test_the_machine_that_it_is_made_on_leaves_no_trace(image: Context, medium: str) -> None:
    outcomes(image, medium)
    assert machine_uuid.read_uuid(image.host) == machine_uuid.fallback_id(image.host) == ""
    stored = image.state.identity()
    assert stored is not None
    assert (stored.source, stored.id, image.state.dmi_uuid()) == ("gandi", "unnamed", "")
    files = list((Path(image.host.root) / "etc/systemd/network").iterdir())
    assert [path.name for path in files] == ["10-gandi-nic0.network"]
    assert "MACAddress=52:54:00:00:00:10" in files[0].read_text()


def test_what_two_machines_must_not_share_goes(image: Context, medium: str) -> None:
    outcomes(image, medium)
    names = {str(path.relative_to(image.host.root)) for path in Path(image.host.root).rglob("*")}
    assert (
        not {"etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_host_rsa_key.pub", "var/lib/dbus/machine-id"} & names
    )
    assert "etc/ssh/sshd_config" in names
    assert (Path(image.host.root) / "etc/machine-id").read_bytes() == b""


def test_a_delivery_that_cannot_be_read_changes_nothing(image: Context, tmp_path: Path) -> None:
    bad = str(tmp_path / "bad.img")
    seed.swap(Host(), bad, seed.archive({"config": b"{"}), size=4 << 20)
    before = {path: path.lstat().st_mtime_ns for path in Path(image.host.root).rglob("*")}
    assert outcomes(image, bad) == {"source": "failed"}
    assert {path: path.lstat().st_mtime_ns for path in Path(image.host.root).rglob("*")} == before


@pytest.mark.parametrize("source", ["/nonexistent", "/dev/null"])
def test_a_source_that_is_none(image: Context, source: str) -> None:
    (report,) = apply.steps(image, source, ())
    assert report.failed
    assert "folder laid out as a drive" in report.items[0].hint


def test_a_folder_without_a_configuration(image: Context, tmp_path: Path) -> None:
    (report,) = apply.steps(image, str(tmp_path), ())
    assert "contains no configuration" in report.items[0].detail


@pytest.mark.parametrize(
    ("by_name", "expected"),
    [(False, [("", "aa:00:00:00:00:01"), ("ens3", "")]), (True, [("ens3", "")])],
)
def test_nics_that_the_document_tells_apart(*, by_name: bool, expected: list[tuple[str, str]]) -> None:
    nics = (Nic(0, mac="aa:00:00:00:00:01"), Nic(1, name="ens3"), Nic(2))
    assert [
        (one.name, one.mac) for one in interfaces.identified_by_document(nics, by_name=by_name)
    ] == expected


def test_a_nic_that_only_the_running_machine_has_a_name_for_is_left_to_its_first_boot(
    image: Context, medium: str
) -> None:
    root = Path(image.host.root)
    (root / "etc/default").mkdir(parents=True, exist_ok=True)
    (root / "etc/default/gandi").write_text("CONFIG_RENDERER=ifupdown\n")
    reports = {report.step: report for report in apply.steps(image, medium, tuple(Stage))}
    (item,) = reports["network"].items
    assert (item.name, str(item.outcome)) == ("nic:0", "skipped")
    assert "first boot" in item.detail
    assert "on this machine" not in item.detail


def test_an_image_without_a_network_manager_fails_with_what_to_put_into_it(
    image: Context, medium: str
) -> None:
    (Path(image.host.root) / "etc/systemd/system/x.wants/systemd-networkd.service").unlink()
    reports = {report.step: report for report in apply.steps(image, medium, tuple(Stage))}
    assert reports["network"].failed
    (item,) = reports["network"].items
    assert "ifupdown" in item.hint
    assert "CONFIG_RENDERER" not in item.hint, "files that nobody reads would look like a success"
    assert not reports["hostname"].failed


def test_apply_needs_a_system(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no system"):
        apply.apply(tmp_path, "-", ())


def test_wrong_usage_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["apply", "--source", "-"])
    assert caught.value.code == 2
    assert "--root" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mode", "is_labelled"), [("enforcing", True), ("permissive", True), ("disabled", False)]
)
def test_an_image_with_selinux_is_labelled_at_its_first_boot(
    image: Context, medium: str, mode: str, is_labelled: bool
) -> None:
    image.host.write("/etc/selinux/config", f"# SELINUX=x\nSELINUX={mode}\nSELINUXTYPE=default\n")
    made = outcomes(image, medium).get("SELinux")
    assert (made, image.host.exists("/.autorelabel")) == (
        (None, False) if mode == "disabled" else ("changed", True)
    )
