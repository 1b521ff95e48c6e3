"""Another provisioning tool in the image is detected from files alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import sources
from agent.context import context
from agent.host.host import Host
from agent.sources import provisioners


def _put(root: Path, name: str, text: str = "") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def _enable(root: Path, unit: str) -> None:
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / unit).symlink_to(f"/usr/lib/systemd/system/{unit}")


@pytest.mark.parametrize(
    ("config", "active"),
    [
        ("datasource_list: [ NoCloud, None ]\n", "cloud-init"),
        ("# by ds-identify\ndatasource_list: [ 'Azure' ]\n", "cloud-init"),
        ("datasource_list: [ None ]\n", ""),
        ('datasource_list: ["None"]\n', ""),
        ("", "cloud-init"),
    ],
)
def test_cloud_init_counts_with_a_data_source(tmp_path: Path, config: str, active: str) -> None:
    _put(tmp_path, "run/cloud-init/cloud.cfg", config)
    assert provisioners.active(Host(tmp_path)) == "", "installed, and not enabled at this boot"
    _put(tmp_path, "run/cloud-init/enabled")
    assert provisioners.active(Host(tmp_path)) == active


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        ("walinuxagent.service", "waagent"),
        ("waagent.service", "waagent"),
        ("google-guest-agent.service", "google-guest-agent"),
    ],
)
def test_an_agent_that_is_enabled(tmp_path: Path, unit: str, name: str) -> None:
    _put(tmp_path, f"usr/lib/systemd/system/{unit}")
    assert provisioners.active(Host(tmp_path)) == "", "installed only"
    _enable(tmp_path, unit)
    assert provisioners.active(Host(tmp_path)) == name
    (tmp_path / "etc/systemd/system" / unit).symlink_to("/dev/null")
    assert provisioners.active(Host(tmp_path)) == "", "masked"


def test_the_administrator_decides_which_of_the_two(tmp_path: Path) -> None:
    ctx = context(Host(tmp_path))
    assert sources.why_disabled(ctx) == ""
    _enable(tmp_path, "walinuxagent.service")
    assert "left to waagent" in sources.why_disabled(ctx)
    _put(tmp_path, "etc/default/gandi", "CONFIG_DATASOURCE=openstack\n")
    assert sources.why_disabled(ctx) == ""
    _put(tmp_path, "etc/default/gandi", "CONFIG_DATASOURCE=none\n")
    assert sources.why_disabled(ctx) == "CONFIG_DATASOURCE=none"
