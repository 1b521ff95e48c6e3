"""The signed repository of docs/baking.md, and what apt makes of one that was changed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.baking import recipe
from tests.vm.rig import ImageSpec, RigError, newest_deb
from tests.vm.rig.tree import chroot, merged

#: In the tree; apt's own user reads the repository.
PLACE = "/srv/signing"
SOURCES = "etc/apt/sources.list.d/gandi.sources"


@pytest.fixture
def tree() -> Iterator[Path]:
    """A tree with the repository as the only source of packages."""
    with merged(ImageSpec(extra=("apt-utils", "gnupg"))) as tree:
        place = tree / PLACE.lstrip("/")
        (place / "dist").mkdir(parents=True)
        shutil.copy(newest_deb(), place / "dist")
        (place / "key").mkdir(mode=0o700)
        (place / "key/gpg.conf").write_text("batch\npassphrase ''\npinentry-mode loopback\n")
        for path in [tree / "etc/apt/sources.list", *(tree / "etc/apt/sources.list.d").iterdir()]:
            path.unlink(missing_ok=True)
        run(tree, recipe("A signed repository"))
        yield tree


def run(tree: Path, commands: str) -> str:
    return chroot(tree, ["env", "-C", PLACE, f"GNUPGHOME={PLACE}/key", "sh", "-ec", commands])


def use(tree: Path) -> None:
    """Do what the page says for an image, with the repository's folder for the server that has it."""
    commands = recipe("From a signed repository")
    address = "https://packages.example.org/gandi/"
    assert address in commands
    run(tree, commands.replace(address, f"file:{PLACE}/repository/"))


def test_apt_takes_the_package_from_it(tree: Path) -> None:
    use(tree)
    assert "trusted" not in (tree / SOURCES).read_text()
    run(tree, "apt-get -q download gandi-agent")
    (taken,) = (tree / PLACE.lstrip("/")).glob("gandi-agent_*_all.deb")
    assert taken.read_bytes() == newest_deb().read_bytes()


def test_apt_refuses_a_package_that_was_changed(tree: Path) -> None:
    use(tree)
    (package,) = (tree / PLACE.lstrip("/") / "repository").glob("*.deb")
    content = bytearray(package.read_bytes())
    content[-1] ^= 1
    package.write_bytes(content)
    with pytest.raises(RigError, match="Hash Sum mismatch"):
        run(tree, "apt-get -q download gandi-agent")


def test_apt_refuses_a_list_that_was_signed_by_another_key(tree: Path) -> None:
    sign = "gpg -u other@example.org --yes --clearsign -o repository/InRelease repository/Release"
    run(tree, f"gpg --quick-generate-key other@example.org ed25519 sign && {sign}")
    with pytest.raises(RigError, match=r"(?i)not signed|NO_PUBKEY|missing key"):
        use(tree)
