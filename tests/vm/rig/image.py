"""Images: a finished root disk with its kernel and initrd, cached by the content of its sources.

An image is never written to: machines run on overlays of it. A whole run of the tests makes sixty of them,
25 GB: one that was not used lately is deleted, unless a machine or a saved state lies on it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from . import guest_channel, quick
from .command import RigError
from .paths import (
    IMAGES,
    KERNELS,
    PROJECT,
    STATES,
    UNFINISHED,
    discard,
    discard_unheld,
    keep_newest,
    locked,
    mark_used,
)
from .rootdisk import write_disk
from .spec import Architecture, ImageSpec, Network, Release, RootFs, digest
from .tree import VERSION, chroot, merged

KEPT_IMAGES = 12
KEPT_KERNELS = 6
#: Seconds between `build` and the machine that holds the image: as long as a test may take.
LATELY = 600

CHANNEL_UNIT = b"""[Unit]
Description=Test rig: command channel
DefaultDependencies=no
IgnoreOnIsolate=yes
StartLimitIntervalSec=0

[Service]
ExecStart=/usr/bin/python3 -I -S /usr/lib/rig/channel.pyc
Restart=always
RestartSec=100ms
OOMScoreAdjust=-900
Nice=-15
"""
# A fallback as distributions ship it; the agent's files sort before it.
DHCP_NETWORK = "[Match]\nType=ether\nName=en* eth*\n\n[Network]\nDHCP=yes\n"
NETPLAN_DHCP = """network:
  version: 2
  ethernets:
    all-en: {match: {name: "en*"}, dhcp4: true}
    all-eth: {match: {name: "eth*"}, dhcp4: true}
"""
INTERFACES = "source /etc/network/interfaces.d/*\n\nauto lo\niface lo inet loopback\n"


@dataclass(frozen=True, slots=True)
class Image:
    """A bootable image: a raw disk (never written), its kernel and initrd, the UUID of its root
    filesystem, and the architecture of its programs.
    """

    folder: Path
    root_uuid: str
    architecture: Architecture = Architecture.AMD64
    release: Release = Release.TRIXIE

    @property
    def disk(self) -> Path:
        """The raw disk."""
        return self.folder / "root.img"

    @property
    def kernel(self) -> Path:
        """The kernel of the tree."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """The initrd of the tree."""
        return self.folder / "initrd.img"

    @property
    def quick_kernel(self) -> Path:
        """The same kernel, unpacked."""
        return self.folder / quick.KERNEL

    @property
    def quick_initrd(self) -> Path:
        """The rig's own initrd."""
        return self.folder / quick.INITRD

    @property
    def tree_size(self) -> int:
        """Return the size in bytes of the tree's files, for comparing images."""
        return int(json.loads((self.folder / "image.json").read_text())["tree_size"])


def build(spec: ImageSpec, say: Callable[[str], None] = lambda _: None) -> Image:
    """Return the image of `spec`, from the cache or made now; `say` is called with a line on what
    took time.
    """
    sources = (Path(guest_channel.__file__), Path(quick.__file__), quick.SOURCE)
    key = digest(VERSION, spec, sources, CHANNEL_UNIT, DHCP_NETWORK, NETPLAN_DHCP)
    folder = IMAGES / key
    with locked(f"image-{key}"):
        if not (folder / "image.json").is_file():
            began = time.monotonic()
            _make(spec, folder)
            say(f"image {key}: made in {time.monotonic() - began:.1f} s")
        else:
            say(f"image {key}: cached")
        mark_used(folder)
    meta = json.loads((folder / "image.json").read_text())
    return Image(folder, meta["root_uuid"], spec.architecture, spec.release)


def _make(spec: ImageSpec, folder: Path) -> None:
    with merged(spec) as tree:
        for line in spec.commands:
            chroot(tree, ["sh", "-ec", line])
        settle(tree, spec)
        _label(tree)
        IMAGES.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=IMAGES))
        try:
            copy_kernel(tree, new, spec.root_fs, spec.architecture)
            root_uuid = write_disk(tree, spec, new / "root.img")
            meta = {"root_uuid": root_uuid, "tree_size": _size(tree), "spec": _describe(spec)}
            (new / "image.json").write_text(json.dumps(meta, indent=1))
            discard(states(folder))  # of an image of this name that was deleted
            new.rename(folder)
        except BaseException:
            shutil.rmtree(new)
            raise
    discard_old()


def discard_old() -> None:
    """Delete images that were not used lately, but for those that a machine or a saved state lies on."""
    old = keep_newest(IMAGES, KEPT_IMAGES, LATELY)
    discard_unheld(entry for entry in old if not states(entry))


def states(image: Path) -> list[Path]:
    """Return the saved states that lie on the image of this folder."""
    return sorted(STATES.glob(f"{image.name}-*"))


def settle(tree: Path, spec: ImageSpec) -> None:
    """Turn a tree into an image: no name, no identity, a network, the channel, and the caller's files."""
    (tree / "etc/hostname").write_text("debian\n")
    (tree / "etc/hosts").write_text("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
    (tree / "etc/machine-id").write_text("")
    resolvers = tree / "etc/resolv.conf"
    if not resolvers.is_symlink():  # a package's link stays: it shows which program manages the resolvers
        resolvers.unlink(missing_ok=True)
    match spec.network:
        case Network.NETWORKD:
            (tree / "etc/systemd/network/90-dhcp.network").write_text(DHCP_NETWORK)
            chroot(tree, ["systemctl", "-q", "enable", "systemd-networkd.service"])
        case Network.IFUPDOWN:
            (tree / "etc/network/interfaces").write_text(INTERFACES)
        case Network.NETPLAN:
            # As in cloud images; netplan itself starts networkd.
            _add(tree, "/etc/netplan/50-image.yaml", NETPLAN_DHCP.encode(), 0o600)
        case Network.NETWORKMANAGER:
            chroot(tree, ["systemctl", "-q", "enable", "NetworkManager.service"])
    add_channel(tree)
    updated = (tree / "usr").stat().st_mtime
    for file in spec.files:
        _add(tree, file.path, file.content, file.mode)
        # An image must be older than its first boot. Here that may come two seconds later, and the guest's
        # clock may be behind by as much.
        os.utime(tree / file.path.lstrip("/"), (updated, updated))
    # Nothing of /usr is newer than what the packages set up: no ldconfig, sysusers and so on at boot.
    for mark in (tree / "etc/.updated", tree / "var/.updated"):
        mark.touch()
        os.utime(mark, (updated, updated))


def _label(tree: Path) -> None:
    """Label the files for SELinux, where the tree has a policy: as an image for it is made."""
    for labels in tree.glob("etc/selinux/*/contexts/files/file_contexts"):
        apart = ("-e", "/proc", "-e", "/sys", "-e", "/dev")
        chroot(tree, ["setfiles", "-F", *apart, str(Path("/", labels.relative_to(tree))), "/"])


def add_channel(tree: Path) -> None:
    """Add what the rig speaks to in a guest: its program, and the unit that runs it."""
    channel = Path(guest_channel.__file__).read_bytes()
    _add(tree, "/usr/lib/rig/channel.py", channel, 0o644)
    # Python compiles a program that is given by name at each start, unless it is compiled already.
    chroot(tree, ["python3", "-m", "compileall", "-q", "-b", "/usr/lib/rig"])
    _add(tree, "/usr/lib/systemd/system/rig-channel.service", CHANNEL_UNIT, 0o644)
    wants = tree / "usr/lib/systemd/system/sysinit.target.wants/rig-channel.service"
    wants.symlink_to("../rig-channel.service")


def _add(tree: Path, path: str, content: bytes, mode: int) -> None:
    target = tree / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    target.chmod(mode)


def copy_kernel(
    tree: Path, folder: Path, root: RootFs, architecture: Architecture = Architecture.AMD64
) -> None:
    """Copy the tree's newest kernel and initrd, and the rig's, to where machines are started from."""
    for name in ("vmlinuz", "initrd.img"):
        shutil.copy(_newest(tree / "boot", name), folder / name)
    if architecture in quick.ARCHITECTURES:
        modules = _newest(tree / "usr/lib/modules", "")
        made = _quick_files(folder / "vmlinuz", modules, root)
        for name in (quick.KERNEL, quick.INITRD):
            shutil.copy(made / name, folder / name)


def _quick_files(kernel: Path, modules: Path, root: RootFs) -> Path:
    """Return the cached folder of the rig's kernel and initrd: they are the same in each image."""
    folder = KERNELS / digest(kernel, Path(quick.__file__), quick.SOURCE, root)
    with locked(f"kernel-{folder.name}"):
        if not folder.is_dir():
            KERNELS.mkdir(parents=True, exist_ok=True)
            new = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=KERNELS))
            quick.make(kernel, modules, new, root)
            new.rename(folder)
        mark_used(folder)
        discard(keep_newest(KERNELS, KEPT_KERNELS))
    return folder


def _newest(boot: Path, name: str) -> Path:
    found = sorted(boot.glob(f"{name}*-*"))
    if not found:
        raise RigError(f"the tree has no {boot}/{name}*-*")
    return found[-1]


def _size(tree: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in tree.rglob("*"))


def _describe(spec: ImageSpec) -> dict[str, object]:
    plain = asdict(spec)
    plain["debs"] = [str(deb) for deb in spec.debs]
    plain["files"] = [file.path for file in spec.files]
    return plain


def newest_deb() -> Path:
    """Return the package that `make deb` made last. Raise RigError when there is none: a test must not pass
    without it.
    """
    debs = sorted((PROJECT / "dist").glob("gandi-agent_*_all.deb"), key=lambda deb: deb.stat().st_mtime)
    if not debs:
        raise RigError(f"no gandi-agent_*_all.deb in {PROJECT / 'dist'}; run: make deb")
    return debs[-1]
