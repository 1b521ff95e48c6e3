"""Debian trees: an unpacked base made once by mmdebstrap, a layer of packages on it, one of .debs on top.

They are cached below `.cache/vm/trees` and never change; what is mounted over them is an overlay that is
removed when the image has been made.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .command import RigError, need_root, run
from .hardware import host_architecture, run_foreign
from .paths import TREES, UNFINISHED, discard, keep_newest, locked, mark_used
from .spec import Architecture, ImageSpec, Network, Release, digest

# To be raised when the way an image is made changes: every cached image is then made again.
VERSION = 7

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
    "lz4",
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
#: What a release has not, or in no version that is of use: bookworm's pydantic has no compiled core.
LACKING: dict[Release, tuple[str, ...]] = {Release.BOOKWORM: ("python3-pydantic",)}
#: What systemd itself needs and no longer depends on.
APART: dict[Release, tuple[str, ...]] = {Release.TESTING: ("mount",)}
NETWORK_PACKAGES: dict[Network, tuple[str, ...]] = {
    Network.NETWORKD: (),
    Network.IFUPDOWN: ("ifupdown", "dhcpcd-base"),
    Network.NETPLAN: ("netplan.io",),
    Network.NETWORKMANAGER: ("network-manager",),
}
# Emulated boots are CPU-bound: only what a root disk may sit on and the NIC's driver, which Debian's initrd
# loads too (MODULES=most), in the format that unpacks fastest, and nothing loaded that the disk at hand does
# not need (btrfs alone measures RAID algorithms for a second).
INITRD_CONFIG = "MODULES=list\nCOMPRESS=lz4\n"
INITRD_MODULES = "virtio_blk\nvirtio_scsi\nsd_mod\nvirtio_net\n"
INITRD_HOOK = """#!/bin/sh
[ "$1" = prereqs ] && exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules nvme ahci xfs btrfs
"""
# Debian makes the initrd when the kernel is set up and again after all packages, which takes a minute where
# programs are emulated. A program of this name in /usr/local comes first.
ONE_INITRD = "#!/bin/sh\nexit 0\n"
MAKE_INITRD = """rm /usr/local/sbin/update-initramfs
for kernel in /boot/vmlinuz-*; do update-initramfs -c -k "${kernel#/boot/vmlinuz-}"; done"""
# Without waiting for the host's disk: a tree that is not complete is never used.
UNSAFE = ("-o", "Dpkg::Options::=--force-unsafe-io")
APT = ("apt-get", "-q", "-y", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0", *UNSAFE)
UPDATE = ("apt-get", "-q", "update", "-o", "Acquire::Languages=none")
KEPT_TREES = 32
# Seconds for what downloads; programs of another architecture are emulated, and may share the host.
NETWORK_WAIT, EMULATED_WAIT = 900, 3600


def base_tree(release: Release = Release.TRIXIE, architecture: Architecture = Architecture.AMD64) -> Path:
    """Return the cached Debian tree that a release's images start from; to make it takes about 35 s, and
    minutes for another architecture than the host's.
    """
    need_root("building a guest image")
    packages = {*BASE_PACKAGES, f"linux-image-cloud-{architecture}", *APART.get(release, ())}
    packages -= {*LACKING.get(release, ())}
    settings = (INITRD_CONFIG, INITRD_MODULES, INITRD_HOOK, MAKE_INITRD)
    tree = TREES / f"base-{digest(release, sorted(packages), *settings)}"
    is_foreign = architecture != host_architecture()
    if is_foreign:
        run_foreign(architecture)  # for what is run in a cached tree too
    wait = EMULATED_WAIT if is_foreign else NETWORK_WAIT
    with locked(tree.name, wait):
        if not tree.is_dir():
            TREES.mkdir(parents=True, exist_ok=True)
            with _scratch() as scratch:
                new = scratch / "tree"
                _bootstrap(new, release, sorted(packages), architecture, wait)
                new.rename(tree)
        mark_used(tree)
        discard(keep_newest(TREES, KEPT_TREES))
    return tree


def _bootstrap(
    target: Path, release: Release, packages: Sequence[str], architecture: Architecture, wait: float
) -> None:
    settings = target.parent / "initramfs-tools"
    (settings / "conf.d").mkdir(parents=True)
    (settings / "hooks").mkdir()
    (settings / "conf.d/rig").write_text(INITRD_CONFIG)
    (settings / "modules").write_text(INITRD_MODULES)
    (settings / "hooks/rig").write_text(INITRD_HOOK)
    (settings / "hooks/rig").chmod(0o755)
    (program := target.parent / "update-initramfs").write_text(ONE_INITRD)
    program.chmod(0o755)
    run(
        [
            "mmdebstrap",
            "--mode=root",
            "--variant=apt",
            f"--architectures={architecture}",
            f"--include={','.join(packages)}",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            f"--essential-hook=copy-in {settings} /etc",
            f"--essential-hook=copy-in {program} /usr/local/sbin",
            f"--customize-hook=chroot \"$1\" sh -ec '{MAKE_INITRD}'",
            # A mirror's copy of a suite that changes daily may be past its date.
            "--aptopt=Acquire::Check-Valid-Until false",
            release,
            target,
        ],
        timeout=wait,
    )


def layers(spec: ImageSpec) -> list[Path]:
    """Return the cached trees, topmost first, with the packages and the .debs of `spec`."""
    below = _package_layers(spec)
    if not spec.debs:
        return below
    layer = TREES / f"debs-{digest(VERSION, below[0].name, spec.debs)}"
    with locked(layer.name):
        if not layer.is_dir():
            with _scratch() as scratch, overlay(below, scratch) as tree:
                install_debs(tree, spec.debs)
                (scratch / "upper").rename(layer)
        mark_used(layer)
    return [layer, *below]


def _package_layers(spec: ImageSpec) -> list[Path]:
    base = base_tree(spec.release, spec.architecture)
    wanted = (*NETWORK_PACKAGES[spec.network], *spec.extra)
    if not wanted and not spec.without:
        return [base]
    lower = [_lists(base), base] if wanted else [base]
    layer = TREES / f"layer-{digest(VERSION, base.name, wanted, spec.without)}"
    with locked(layer.name):
        if not layer.is_dir():
            with _scratch() as scratch, overlay(lower, scratch) as tree:
                if wanted:
                    _install(tree, wanted)
                if spec.without:
                    chroot(tree, [*APT, "purge", "--autoremove", *spec.without])
                chroot(tree, ["apt-get", "clean"])
                # Renamed inside the context: an upper directory may move while it is mounted, its data
                # is the same.
                (scratch / "upper").rename(layer)
        mark_used(layer)
    return [layer, base]


def _lists(base: Path) -> Path:
    """Return the cached layer on the base with apt's lists of packages. No image has it: the layers of
    packages are made over it, and used without it.
    """
    lists = TREES / f"lists-{digest(VERSION, base.name)}"
    with locked(lists.name):
        if not lists.is_dir():
            with _scratch() as scratch, overlay([base], scratch) as tree:
                chroot(tree, UPDATE)
                (scratch / "upper").rename(lists)
        mark_used(lists)
    return lists


def _install(tree: Path, names: Sequence[str]) -> None:
    """Install packages; with new lists if what the tree's lists name is not there (any more)."""
    try:
        chroot(tree, [*APT, "install", *names])
    except RigError:
        chroot(tree, UPDATE)
        chroot(tree, [*APT, "install", *names])


def install_debs(tree: Path, debs: tuple[Path, ...]) -> None:
    """Install `debs` with apt in `tree`; a mirror is used only when the tree lacks a dependency."""
    if not debs:
        return
    inside = tree / "var/cache/apt/debs"
    inside.mkdir()
    for deb in debs:
        if not deb.is_file():
            raise RigError(f"{deb} does not exist; build it first (make deb)")
        shutil.copy(deb, inside)
    names = [f"/var/cache/apt/debs/{deb.name}" for deb in debs]
    _install(tree, names)
    shutil.rmtree(inside)
    chroot(tree, ["apt-get", "clean"])


def chroot(tree: Path, argv: Sequence[str]) -> str:
    """Run a command inside `tree` with /proc, /sys and /dev; no service is started."""
    policy = tree / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    # Namespaces of its own: no mount and no process is ever left.
    script = (
        'mount -t proc proc "$0/proc" && mount --rbind /sys "$0/sys" && mount --rbind /dev "$0/dev" && '
        'exec chroot "$0" "$@"'
    )
    try:
        apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        return run([*apart, "sh", "-c", script, tree, *argv], timeout=NETWORK_WAIT)
    finally:
        policy.unlink()


@contextmanager
def overlay(lower: list[Path], scratch: Path) -> Iterator[Path]:
    """Mount a writable view of `lower` (topmost first); its changes go to `scratch`/upper."""
    upper, work, tree = scratch / "upper", scratch / "work", scratch / "tree"
    for folder in (upper, work, tree):
        folder.mkdir()
    layers = ":".join(str(path) for path in lower)
    run(
        [
            "mount",
            "-t",
            "overlay",
            "-o",
            f"lowerdir={layers},upperdir={upper},workdir={work}",
            "overlay",
            tree,
        ]
    )
    try:
        yield tree
    finally:
        run(["umount", tree])


@contextmanager
def merged(spec: ImageSpec) -> Iterator[Path]:
    """Make a writable tree with the packages and .debs of `spec`; it is removed when the context ends."""
    lower = layers(spec)
    with _scratch() as scratch, overlay(lower, scratch) as tree:
        yield tree


@contextmanager
def _scratch() -> Iterator[Path]:
    TREES.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=TREES))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
