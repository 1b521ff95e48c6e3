"""Packages of cloud-config, installed by Debian's apt-get from a repository in the tree."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.config.model import Identity, InstanceConfig
from agent.config.system import Apt, AptSource, Package, Packages, System
from agent.context import context
from agent.host.host import Host
from agent.programs import system_programs
from agent.steps import apt
from tests.vm.rig import ImageSpec
from tests.vm.rig.tree import merged

IDENTITY = Identity("nocloud", "packages")
#: In the tree.
REPOSITORY = "/srv/repository"


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    """A writable tree of which the only source of packages is a delivered one."""
    with merged(ImageSpec()) as tree:
        for path in [tree / "etc/apt/sources.list", *(tree / "etc/apt/sources.list.d").iterdir()]:
            path.unlink(missing_ok=True)
        (tree / REPOSITORY[1:]).mkdir(parents=True)
        ctx = context(Host(tree, offline=True))
        ctx.state.set_instance(IDENTITY)
        source = AptSource("local", f"deb [trusted=yes] file:{REPOSITORY} ./")
        ctx.config = InstanceConfig(IDENTITY, system=System(apt=Apt((source,))))
        (item,) = apt.apply(ctx)
        assert str(item) == "changed: apt:/etc/apt/sources.list.d/gandi-local.sources"
        yield tree


def publish(tree: Path, name: str, version: str, *, script: str = "") -> None:
    """Build an empty package and add it to the repository."""
    repository = tree / REPOSITORY[1:]
    source = repository / f"build-{name}-{version}"
    (source / "DEBIAN").mkdir(parents=True)
    control = (
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: none\nDescription: empty\n"
    )
    (source / "DEBIAN/control").write_text(control)
    if script:
        (source / "DEBIAN/postinst").write_text(script)
        (source / "DEBIAN/postinst").chmod(0o755)
    deb = repository / f"{name}_{version}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", source, deb], check=True, capture_output=True
    )
    data = deb.read_bytes()
    with (repository / "Packages").open("a") as listing:
        digest = hashlib.sha256(data).hexdigest()
        listing.write(f"{control}Filename: ./{deb.name}\nSize: {len(data)}\nSHA256: {digest}\n\n")


def run(tree: Path, packages: Packages) -> subprocess.CompletedProcess[str]:
    """Run the program that the agent writes for the packages, in the tree."""
    host = Host(tree, offline=True)
    (program,) = system_programs.before(host, InstanceConfig(IDENTITY, system=System(packages=packages)))
    host.write("/root/packages", program.text, mode=0o700)
    host.mkdir("/run/gandi")
    argv = ["chroot", str(tree), "/bin/sh", "/root/packages"]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)


def installed(tree: Path, name: str) -> str:
    """Return status and version of a package."""
    argv = ["chroot", str(tree), "dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", name]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


def test_packages_of_a_delivered_source(tree: Path) -> None:
    for name, version in (("one", "1"), ("two", "1"), ("two", "2")):
        publish(tree, name, version)
    done = run(tree, Packages((Package("one"), Package("two", "1"))))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (installed(tree, "one"), installed(tree, "two")) == ("installed 1", "installed 1")
    done = run(tree, Packages(upgrade=True))
    assert done.returncode == 0, done.stdout + done.stderr
    assert installed(tree, "two") == "installed 2"


def test_a_package_that_does_not_exist_costs_itself(tree: Path) -> None:
    publish(tree, "three", "1")
    done = run(tree, Packages((Package("missing"), Package("three"))))
    assert done.returncode == 100
    assert "Unable to locate package missing" in done.stderr
    assert installed(tree, "three") == "installed 1"


def test_a_cut_while_a_package_is_configured(tree: Path) -> None:
    # Its script ends its own dpkg the first time, as a power cut would.
    script = (
        "#!/bin/sh\n[ -e /root/once ] && exit 0\ntouch /root/once\nkill -9 $(pidof apt-get) $PPID\nsleep 9\n"
    )
    publish(tree, "four", "1", script=script)
    publish(tree, "five", "1")
    done = run(tree, Packages((Package("four"),)))
    assert done.returncode != 0
    assert not installed(tree, "four").startswith("installed")
    done = run(tree, Packages((Package("five"),)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert installed(tree, "four") == installed(tree, "five") == "installed 1"


def test_a_reboot_that_a_package_asks_for(tree: Path) -> None:
    flag = tree / system_programs.REBOOT[1:]
    publish(tree, "six", "1", script="#!/bin/sh\ntouch /run/reboot-required\n")
    assert run(tree, Packages((Package("six"),))).returncode == 0
    assert not flag.exists(), "it was not asked for"
    assert run(tree, Packages((Package("six"),), reboot=True)).returncode == 0
    assert flag.exists()
