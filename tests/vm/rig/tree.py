"""Debian trees: an unpacked base made once by mmdebstrap, layers of packages on it, and the .debs on top.

The base and the package layers are cached below `.cache/vm/trees` and never change; what is put on top is an overlay
that lives as long as the building of one image.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .command import RigError, need_root, run
from .paths import TREES, locked
from .spec import ImageSpec, Network, digest

# Raise it when the way a tree is made changes: every cached tree and image is then made anew.
VERSION = 3

SUITE = "trixie"
BASE_PACKAGES = (
    "btrfs-progs",
    "dbus",
    "dosfstools",
    "e2fsprogs",
    "ethtool",
    "fdisk",
    "initramfs-tools",
    "iproute2",
    "iputils-ping",
    "kmod",
    "less",
    "libpam-systemd",
    "linux-image-cloud-amd64",
    "openssh-server",
    "procps",
    "python3-psutil",
    "python3-pydantic",
    "python3-pyudev",
    "python3-systemd",
    "sudo",
    "systemd-sysv",
    "udev",
    "xfsprogs",
)
NETWORK_PACKAGES: dict[Network, tuple[str, ...]] = {
    Network.NETWORKD: (),
    Network.IFUPDOWN: ("ifupdown", "dhcpcd-base"),
}
# The channel's driver has to be there before udev runs; the rest is what a root disk may sit on.
INITRD_MODULES = "virtio_pci\nvirtio_console\nvirtio_blk\nvirtio_scsi\nsd_mod\nnvme\nahci\next4\nxfs\nbtrfs\n"
APT = ("apt-get", "-q", "-y", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0")
NETWORK_WAIT = 900  # seconds for what downloads


def base_tree() -> Path:
    """The cached Debian tree that every image starts from; ~35 s when it has to be made."""
    need_root("building a guest image")
    tree = TREES / f"base-{digest(VERSION, SUITE, BASE_PACKAGES, INITRD_MODULES)}"
    with locked("base"):
        if not tree.is_dir():
            TREES.mkdir(parents=True, exist_ok=True)
            with _scratch() as scratch:
                new = scratch / "tree"
                _bootstrap(new)
                new.rename(tree)
    return tree


def _bootstrap(target: Path) -> None:
    modules = target.parent / "modules"
    modules.write_text(INITRD_MODULES)
    run(
        [
            "mmdebstrap",
            "--mode=root",
            "--variant=apt",
            f"--include={','.join(BASE_PACKAGES)}",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            '--essential-hook=mkdir -p "$1/etc/initramfs-tools"',
            f"--essential-hook=copy-in {modules} /etc/initramfs-tools",
            SUITE,
            target,
        ],
        timeout=NETWORK_WAIT,
    )


def package_layer(spec: ImageSpec) -> list[Path]:
    """The cached trees, topmost first, that have the packages of `spec` (without its .debs)."""
    base = base_tree()
    wanted = (*NETWORK_PACKAGES[spec.network], *spec.extra)
    if not wanted and not spec.without:
        return [base]
    layer = TREES / f"layer-{digest(base.name, wanted, spec.without)}"
    with locked(layer.name):
        if not layer.is_dir():
            with _scratch() as scratch, overlay([base], scratch) as tree:
                if wanted:
                    chroot(tree, ["apt-get", "-q", "update"])
                    chroot(tree, [*APT, "install", *wanted])
                if spec.without:
                    chroot(tree, [*APT, "purge", "--autoremove", *spec.without])
                chroot(tree, ["apt-get", "clean"])
                # Renamed inside the context: an upper directory may move while it is mounted, its data is the same.
                (scratch / "upper").rename(layer)
    return [layer, base]


def install_debs(tree: Path, debs: tuple[Path, ...]) -> None:
    """Install `debs` by apt in `tree`; asks a mirror only when the tree lacks a dependency."""
    if not debs:
        return
    inside = tree / "var/cache/apt/debs"
    inside.mkdir()
    for deb in debs:
        if not deb.is_file():
            raise RigError(f"{deb} does not exist; build it first (make deb)")
        shutil.copy(deb, inside)
    names = [f"/var/cache/apt/debs/{deb.name}" for deb in debs]
    try:
        chroot(tree, [*APT, "install", *names])
    except RigError:
        chroot(tree, ["apt-get", "-q", "update"])
        chroot(tree, [*APT, "install", *names])
        chroot(tree, ["apt-get", "clean"])
    shutil.rmtree(inside)


def chroot(tree: Path, argv: list[str]) -> str:
    """Run a command inside `tree` with /proc, /sys and /dev, and with no service being started."""
    policy = tree / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    # A mount namespace of its own: nothing is left mounted, whatever happens.
    script = (
        'mount -t proc proc "$0/proc" && mount --rbind /sys "$0/sys" && mount --rbind /dev "$0/dev" && '
        'exec chroot "$0" "$@"'
    )
    try:
        return run(["unshare", "--mount", "sh", "-c", script, tree, *argv], timeout=NETWORK_WAIT)
    finally:
        policy.unlink()


@contextmanager
def overlay(lower: list[Path], scratch: Path) -> Iterator[Path]:
    """Mount a writable view of `lower` (topmost first); its changes go to `scratch`/upper."""
    upper, work, tree = scratch / "upper", scratch / "work", scratch / "tree"
    for folder in (upper, work, tree):
        folder.mkdir()
    layers = ":".join(str(path) for path in lower)
    run(["mount", "-t", "overlay", "-o", f"lowerdir={layers},upperdir={upper},workdir={work}", "overlay", tree])
    try:
        yield tree
    finally:
        run(["umount", tree])


@contextmanager
def merged(spec: ImageSpec) -> Iterator[Path]:
    """A writable tree with the packages of `spec` that is gone when the context ends."""
    layers = package_layer(spec)
    with _scratch() as scratch, overlay(layers, scratch) as tree:
        yield tree


@contextmanager
def _scratch() -> Iterator[Path]:
    TREES.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="tmp-", dir=TREES))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
