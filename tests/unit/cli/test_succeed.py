"""The old package's files, one by one: as shipped, changed, the customer's; and links of each kind."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

import pytest

from agent.cli import succeed
from agent.host.host import Host

PREINST = Path(__file__).parents[3] / "debian/preinst"
SHIPPED = "as shipped\n"
FILES = {
    "etc/default/gandi": "CONFIG_FSCK=0",
    "etc/gandi/manage_data_disk.py": SHIPPED,
    "etc/gandi/manage_iface.sh": "changed\n",
    "etc/gandi/sysctl.conf": "changed\n",
    "etc/gandi/plugins-lib": SHIPPED,
    "etc/gandi/plugins.d/10-shipped": SHIPPED,
    "etc/gandi/plugins.d/20-changed": "changed\n",
    "etc/gandi/hooks/post-disk-attach": SHIPPED,
    "etc/gandi/hooks/pre-disk-detach": "changed\n",
    "etc/udev/rules.d/86-gandi.rules": SHIPPED,
    "etc/init.d/gandi-bootstrap": SHIPPED,
}
OWN = {
    "etc/gandi/plugins.d/50-mine": "mine\n",
    "etc/gandi/hooks/post-iface-attach": "mine\n",
    "usr/share/gandi/bootstrap.d/60-mine": "mine\n",
    "etc/init.d/cron": "another's\n",
}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A machine with the old package's files and the record of preinst."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("agent.host.atomic_write.can_chown", lambda: False)
    md5 = hashlib.md5(SHIPPED.encode()).hexdigest()
    record = "".join(f"{md5} /{name}\n" for name in FILES)
    for name, text in {**FILES, **OWN, "var/lib/gandi/succession/shipped": record}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "var/lib/gandi/succession/mode").write_text("direct\n")
    return Host(tmp_path)


def below(root: Path, *folders: str) -> set[str]:
    found = (path for folder in folders for path in (root / folder).rglob("*"))
    return {str(path.relative_to(root)) for path in found if path.is_symlink() or path.is_file()}


def test_each_file(host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert succeed.succeed(host) == 0
    assert below(tmp_path, "etc", "usr") == {
        *OWN,
        "etc/default/gandi",
        "etc/gandi/hooks/pre-disk-detach",
        "etc/gandi/old/20-changed",
        "etc/gandi/old/manage_iface.sh",
        "etc/gandi/sysctl.conf",
    }
    said = capsys.readouterr().out
    assert "warning: /etc/gandi/plugins.d/20-changed was changed" in said
    assert "in /etc/gandi/old/20-changed now" in said
    assert (tmp_path / "etc/default/gandi").read_text() == "CONFIG_FSCK=0\nCONFIG_MOUNT_MODE=direct\n"
    assert succeed.succeed(host) == 0
    assert "no old package" in capsys.readouterr().out


def test_without_dpkgs_record_nothing_is_lost(host: Host, tmp_path: Path) -> None:
    (tmp_path / "var/lib/gandi/succession/shipped").write_text("")
    (tmp_path / "usr/share/gandi/run").write_text("old\n")
    assert succeed.succeed(host) == 0
    left = below(tmp_path, "etc", "usr")
    old = {"86-gandi.rules", "gandi-bootstrap", "manage_data_disk.py", "manage_iface.sh", "run", "60-mine"}
    assert {name.rpartition("/")[2] for name in left if "/old/" in name} == old
    assert {"etc/gandi/plugins.d/10-shipped", "etc/gandi/hooks/pre-disk-detach"} <= left, "may be anybody's"


LINKS = {
    "etc/rc2.d/S01gandi-bootstrap": "../init.d/gandi-bootstrap",
    "etc/rc2.d/S01cron": "../init.d/cron",
    "etc/systemd/system/gandi-bootstrap.service": "/usr/share/gandi/systemd/gandi-bootstrap.service",
    "etc/systemd/system/gandi-mount.service": "/dev/null",
    "etc/systemd/system/sysinit.target.wants/gandi-config.service": "../gandi-config.service",
    "etc/systemd/system/multi-user.target.wants/cron.service": "/lib/systemd/system/cron.service",
    "usr/lib/systemd/system/gandi-kernel.service": "/usr/share/gandi/systemd/gandi-kernel.service",
    "usr/lib/systemd/system/gandi-agent.service": "gandi-other.service",
}


def test_links_that_start_or_shadow(host: Host, tmp_path: Path) -> None:
    for name, target in LINKS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(target)
    helper = tmp_path / "var/lib/systemd/deb-systemd-helper-enabled"
    (helper / "sysinit.target.wants").mkdir(parents=True)
    for name in (
        "gandi-config.service.dsh-also",
        "sysinit.target.wants/gandi-config.service",
        "cron.dsh-also",
    ):
        (helper / name).touch()
    assert succeed.succeed(host) == 0
    assert {name for name in LINKS if (tmp_path / name).is_symlink()} == {
        "etc/rc2.d/S01cron",
        "etc/systemd/system/gandi-mount.service",
        "etc/systemd/system/multi-user.target.wants/cron.service",
        "usr/lib/systemd/system/gandi-agent.service",
    }
    assert [path.name for path in helper.rglob("*") if path.is_file()] == ["cron.dsh-also"]


@pytest.mark.parametrize("text", ["CONFIG_MOUNT_MODE=off\n", "  export CONFIG_MOUNT_MODE=notify\n"])
def test_a_mode_that_is_set_stays(host: Host, tmp_path: Path, text: str) -> None:
    (tmp_path / "etc/default/gandi").write_text(text)
    succeed.keep_mode(host, "direct")
    assert (tmp_path / "etc/default/gandi").read_text() == text


RULE = 'SUBSYSTEM=="block", RUN+="/etc/gandi/manage_data_disk.py"\n'
MAP = "/srv /etc/auto.gandi --timeout=60\n"


@pytest.mark.parametrize(
    ("rules", "autofs", "mode"),
    [
        (RULE, "", "direct"),
        (RULE, MAP, "autofs"),
        ("", MAP, "autofs"),
        (RULE, f"#{MAP}", "direct"),
        (f"# {RULE}", "", "off"),
        (RULE.replace(".py", ".sh"), "", "notify"),
        ("", "/home /etc/auto.home\n", "off"),
        ("", "", "off"),
    ],
)
def test_the_mode_that_is_in_force(tmp_path: Path, rules: str, autofs: str, mode: str) -> None:
    """Runs the function of preinst itself, on other files."""
    (tmp_path / "rules").write_text(rules)
    (tmp_path / "autofs").write_text(autofs)
    found = re.search(r"^mode\(\) \{.*?^\}", PREINST.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    script = found[0].replace("/etc/auto.master.d/gandi.autofs", f"{tmp_path}/autofs")
    done = subprocess.run(
        ["sh", "-c", f"rules={tmp_path}/rules\n{script}\nmode"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{mode}\n"


@pytest.mark.parametrize("is_there", [True, False])
def test_settings_behind_a_link_get_the_line_once_and_stay_behind_it(
    host: Host, tmp_path: Path, *, is_there: bool
) -> None:
    settings, real = tmp_path / "etc/default/gandi", tmp_path / "etc/site/gandi"
    real.parent.mkdir()
    text = settings.read_text() if is_there else ""
    settings.unlink()
    settings.symlink_to("/etc/site/gandi")
    if is_there:
        real.write_text(text)
    for _ in range(2):
        succeed.keep_mode(host, "direct")
    assert settings.is_symlink()
    assert real.read_text() == f"{text}\nCONFIG_MOUNT_MODE=direct\n".lstrip()


def test_a_takeover_that_was_cut_short_puts_nothing_away_twice(host: Host, tmp_path: Path) -> None:
    (tmp_path / "etc/gandi/old").mkdir()
    (tmp_path / "etc/gandi/old/manage_iface.sh").write_text("changed\n")
    (tmp_path / "etc/gandi/old/20-changed").symlink_to("/etc/elsewhere")
    assert succeed.succeed(host) == 0
    assert below(tmp_path, "etc/gandi/old") == {
        "etc/gandi/old/manage_iface.sh",
        "etc/gandi/old/20-changed",
        "etc/gandi/old/20-changed.1",
    }
    assert not (tmp_path / "etc/elsewhere").exists(), "through a link that stood at the name"


def test_a_folder_that_leads_to_itself_is_not_followed(host: Host, tmp_path: Path) -> None:
    (tmp_path / "var/lib/gandi/succession/shipped").write_text("")
    (tmp_path / "usr/share/gandi/self").symlink_to(".")
    assert succeed.succeed(host) == 0
    assert (tmp_path / "usr/share/gandi/self").is_symlink()
