"""What cloud-config says of the system, in a real Debian tree and by Debian's own programs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import stages
from agent.cli import apply, comparison
from agent.config.model import Identity, InstanceConfig
from agent.config.system import CaCerts, Keyboard, Ntp, System
from agent.context import Context, context
from agent.host.host import Host
from tests.vm.rig import ImageSpec
from tests.vm.rig.tree import chroot, merged

IDENTITY = Identity("nocloud", "cloud-system")


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    """A writable tree with the programs that the steps use."""
    extra = ("locales", "ca-certificates", "keyboard-configuration", "systemd-timesyncd")
    with merged(ImageSpec(extra=extra)) as tree:
        yield tree


def deliver(tree: Path, system: System) -> Context:
    """Return the context of an image with this document."""
    ctx = context(Host(tree, offline=True))
    ctx.state.set_instance(IDENTITY)
    ctx.config = InstanceConfig(IDENTITY, system=system)
    ctx.state.store_config(ctx.config, {})
    return ctx


def run(ctx: Context, name: str) -> list[str]:
    """Run a step by its name, and return its items."""
    step = next(step for steps in stages.STAGES.values() for step in steps if step.name == name)
    assert step.offline
    return [str(item) for item in stages.run_step(ctx, step).items]


@pytest.mark.slow
def test_locale(tree: Path) -> None:
    ctx = deliver(tree, System(locale="fr_FR.UTF-8"))
    assert run(ctx, "locale") == ["changed: locale: fr_FR.UTF-8"]
    assert "fr_FR.utf8" in chroot(tree, ["locale", "-a"]).split()
    assert 'LANG="fr_FR.UTF-8"' in (tree / "etc/default/locale").read_text()
    assert run(ctx, "locale") == ["unchanged: locale: fr_FR.UTF-8"]


def test_keyboard(tree: Path) -> None:
    ctx = deliver(tree, System(keyboard=Keyboard("fr", variant="latin9")))
    assert run(ctx, "keyboard") == ["changed: keyboard: fr"]
    said = chroot(tree, ["sh", "-c", '. /etc/default/keyboard; echo "$XKBLAYOUT $XKBVARIANT"'])
    assert said == "fr latin9\n"


def test_time_servers(tree: Path) -> None:
    ctx = deliver(tree, System(ntp=Ntp(("192.0.2.1",), ("pool.example.org",))))
    assert run(ctx, "ntp") == ["changed: ntp: systemd-timesyncd: 192.0.2.1, pool.example.org"]
    said = chroot(tree, ["systemd-analyze", "cat-config", "systemd/timesyncd.conf"])
    assert "NTP=192.0.2.1 pool.example.org" in said


def test_certificates(tree: Path, tmp_path: Path) -> None:
    made = tmp_path / "ca.pem"
    options = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test"
    argv = ["openssl", "req", "-x509", *options.split(), "-keyout", f"{tmp_path}/key", "-out", str(made)]
    subprocess.run(argv, check=True, capture_output=True)
    bundle = tree / "etc/ssl/certs/ca-certificates.crt"
    ctx = deliver(tree, System(ca_certs=CaCerts((made.read_text(),))))
    many = bundle.read_text().count("BEGIN")
    assert run(ctx, "ca certificates") == ["changed: ca certificates: 1 trusted"]
    assert made.read_text() in bundle.read_text()
    assert bundle.read_text().count("BEGIN") == many + 1
    ctx = deliver(tree, System(ca_certs=CaCerts((made.read_text(),), remove_defaults=True)))
    assert run(ctx, "ca certificates") == ["changed: ca certificates: 1 trusted, none of the image"]
    assert bundle.read_text() == made.read_text()
    assert run(ctx, "ca certificates") == ["unchanged: ca certificates: 1 trusted, none of the image"]


SEED = """\
#cloud-config
locale: de_DE.UTF-8
keyboard: {layout: de}
packages: [nginx]
apt:
  sources:
    one: {source: "deb http://192.0.2.1/debian $RELEASE main"}
mounts:
  - [/dev/disk/by-label/data, /data, ext4]
swap: {size: 16M}
power_state: {mode: reboot}
"""


def test_an_image_gets_what_needs_no_running_system(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "user-data").write_text(SEED)
    (tmp_path / "meta-data").write_text("instance-id: image-2\n")
    # Without the last step, which needs the package in the tree (tests/system/test_offline.py).
    reports = list(apply.steps(context(Host(tree, offline=True)), str(tmp_path), tuple(stages.Stage)))[:-1]
    assert not [report.step for report in reports if report.failed]
    said = "\n".join(line for report in reports for line in report.lines())
    assert "locale: changed" in said
    assert "Suites: trixie\n" in (tree / "etc/apt/sources.list.d/gandi-one.sources").read_text()
    assert "\n/dev/disk/by-label/data /data ext4 defaults,nofail 0 0\n" in (tree / "etc/fstab").read_text()
    # The rest is left to the first boot, and reported.
    assert "skipped: swap file: it is made when this machine boots" in said
    assert "skipped: scripts: they run when this machine boots" in said
    ctx = context(Host(tree, offline=True))
    stored = ctx.state.config()
    assert stored is not None
    assert stored.system is not None
    assert stored.system.packages is not None
    assert stored.system.power is not None


def test_what_is_changed_of_it_by_hand_is_named(tree: Path, tmp_path: Path) -> None:
    """As ``status --drift`` finds it, by the system's own files; nothing is written by the comparison."""
    (tmp_path / "user-data").write_text(SEED)
    (tmp_path / "meta-data").write_text("instance-id: image-3\n")
    list(apply.steps(context(Host(tree, offline=True)), str(tmp_path), tuple(stages.Stage)))
    source = "/etc/apt/sources.list.d/gandi-one.sources"
    changes = {
        "locale": ("etc/default/locale", "de_DE", "fr_FR"),
        "keyboard": ("etc/default/keyboard", '"de"', '"fr"'),
        "mount:/data": ("etc/fstab", "/data ext4 defaults,nofail", "/data ext4 ro"),
        f"apt:{source}": (source[1:], "trixie", "sid"),
    }
    before = stamps(tree)
    compared = comparison.compare(Host(tree, offline=True))
    assert changes.keys() <= {one.name for one in compared.findings}
    assert not comparison.changes(compared.findings)
    assert stamps(tree) == before
    for file, old, new in changes.values():
        text = (tree / file).read_text()
        assert old in text, file
        (tree / file).write_text(text.replace(old, new))
    before = stamps(tree)
    compared = comparison.compare(Host(tree, offline=True))
    found = {one.name: one for one in comparison.changes(compared.findings)}
    assert {name: one.change for name, one in found.items()} == dict.fromkeys(changes, "changed")
    assert all(f"/{file}" in found[name].files for name, (file, *_) in changes.items())
    assert stamps(tree) == before


def stamps(tree: Path) -> dict[str, int]:
    """Return the time of the last change of each file of the tree's /etc and of the agent's state."""
    files = (path for folder in ("etc", "var/lib/gandi") for path in (tree / folder).rglob("*"))
    return {str(path): path.lstat().st_ctime_ns for path in files if not path.is_dir()}
