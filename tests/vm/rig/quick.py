"""The quick boot: Debian's kernel unpacked, and an initrd of a few modules and one program.

An emulated machine spends a good part of a boot on what suits any hardware: unpacking the kernel, udev in
the initrd and again in the system, generators and mounts for what is not there, the signatures of modules,
the sandboxes of systemd's own services. The image is the same in both: what is left out is said in /run, by
the initrd, and on the kernel's command line.
`MachineSpec(debian_initrd=True)` boots the real thing, as does each machine of another architecture: the one
program would need a cross compiler.
"""

from __future__ import annotations

import lzma
import stat
import struct
import subprocess
import tempfile
from pathlib import Path

from .command import RigError, run
from .spec import Architecture, RootFs

SOURCE = Path(__file__).with_name("quick_init.c")
KERNEL, INITRD = "quick-kernel", "quick-initrd"
ARCHITECTURES = (Architecture.AMD64,)

# By what asks for them (see quick_init.c): what Debian's initrd of these images, and systemd, load in any
# case, classes of PCI devices, filesystems of the root, of which an initrd has its image's only. NVMe and
# ext4 are in the kernel; virtio_pci is since trixie.
MODULES = {
    "always": (
        *("virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "virtio_net", "crc32c_intel"),
        *("autofs4", "ip_tables", "nfnetlink"),
    ),
    "0106": ("ahci",),
    "xfs": ("xfs",),
    "btrfs": ("btrfs",),
}
IDLE_GENERATORS = (
    "systemd-hibernate-resume-generator",
    "systemd-rc-local-generator",
    "systemd-run-generator",
    "systemd-ssh-generator",
    "systemd-system-update-generator",
    "systemd-sysv-generator",
    "systemd-tpm2-generator",
)
IDLE_UNITS = (
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-fsck-root.service",
    "systemd-modules-load.service",
    "systemd-network-generator.service",
    "systemd-networkd-persistent-storage.service",
    "systemd-random-seed.service",
    "systemd-udev-load-credentials.service",
)
# Three of four devices of a machine are used by nothing, and udev takes 15 ms of an emulated CPU for each.
# Of the terminals only the serial ones count: gettys wait for them.
IDLE_SUBSYSTEMS = (
    "acpi ata_device ata_link ata_port bdi clockevents clocksource container event_source graphics leds "
    "machinecheck mem memory_tiering pci_bus pci_express platform pnp scsi_host serial-base thermal tty vc "
    "vtconsole wakeup workqueue"
)
TRIGGER = f"""[Service]
ExecStart=
ExecStart=-udevadm trigger --action=add --prioritized-subsystem=block,net {
    " ".join(f"--subsystem-nomatch={name}" for name in IDLE_SUBSYSTEMS.split())
}
ExecStart=-udevadm trigger --action=add --subsystem-match=tty --sysname-match=ttyS* --sysname-match=hvc*
"""

# Their sandboxes are not tested here, and take a twelfth of a boot: filters of calls that look at
# arguments (RestrictSUIDSGID) cost udevd a third of its time.
SANDBOXED = ("systemd-journald", "systemd-logind", "systemd-networkd", "systemd-udevd")
OPEN = """[Service]
IPAddressDeny=
LockPersonality=no
MemoryDenyWriteExecute=no
PrivateMounts=no
PrivateTmp=no
ProtectClock=no
ProtectControlGroups=no
ProtectHome=no
ProtectHostname=no
ProtectKernelLogs=no
ProtectKernelModules=no
ProtectProc=default
ProtectSystem=no
RestrictAddressFamilies=
RestrictNamespaces=no
RestrictRealtime=no
RestrictSUIDSGID=no
SystemCallArchitectures=
SystemCallFilter=
"""

# A library that PID 1 must not find (dlopen stops at an empty file; services do not inherit the variable):
# with it systemd tests, before the first unit, whether the kernel can filter ports and interfaces, which
# takes as long as the kernel's set-up of the disks.
NOT_HERE, HIDDEN = "/run/not-here", "libbpf.so.1"

# Switched off: security modules that nothing here uses (systemd compiles a program for BPF's), tests of
# ciphers, zeroing of memory when it is allocated, ports that do not exist, a check of a root that is new or
# has a journal. Switched on: events for a changed medium, as udev does it when modules are loaded. The
# blacklisted modules are those that any x86 and any QEMU load. Of the kernel's own start are left out: a
# source of randomness that measures itself, names in traces, and the keys for signatures that no module here
# has.
CMDLINE = (
    f"LD_LIBRARY_PATH={NOT_HERE}",
    "modprobe.blacklist=qemu_fw_cfg,sha1_ssse3,sha256_ssse3,sha512_ssse3,virtio_rng",
    "block.events_dfl_poll_msecs=2000",
    "lsm=landlock,yama",
    "cryptomgr.notests",
    "initcall_blacklist=jent_mod_init,trace_eval_init,load_system_certificate_list",
    "init_on_alloc=0",
    "8250.nr_uarts=2",
    "rcupdate.rcu_expedited=1",
    "fsck.mode=skip",
)

_FOLDER, _FILE, _LINK = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755, stat.S_IFLNK | 0o777
_CONSOLE = (stat.S_IFCHR | 0o600, (5, 1))
#: What unpacks a kernel, by its first bytes: trixie's and later; bookworm's (a frame of kernels only).
_PACKED = {b"\x28\xb5\x2f\xfd": "zstd", b"\x02\x21\x4c\x18": "lz4"}
_SIGNED, _SIGNATURE_INFO = b"~Module signature appended~\n", 12


def make(kernel: Path, modules: Path, folder: Path, root: RootFs) -> None:
    """Write both files into `folder`, from a kernel image and its folder of modules."""
    (folder / KERNEL).write_bytes(unpacked(kernel.read_bytes()))
    (folder / INITRD).write_bytes(_initrd(modules, root))


def unpacked(image: bytes) -> bytes:
    """The ELF image inside a compressed x86 kernel; QEMU starts it by its PVH entry."""
    setup = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup + 1) * 512 + offset
    # The last four bytes are the unpacked size.
    packed = image[start : start + length - 4]
    if packed[:4] not in _PACKED:
        raise RigError(f"a kernel packed in an unknown way: {packed[:4].hex()}")
    argv = [_PACKED[packed[:4]], "-dc"]
    return subprocess.run(argv, input=packed, stdout=subprocess.PIPE, check=True).stdout


def _initrd(modules: Path, root: RootFs) -> bytes:
    archive = Archive()
    for name in ("dev", "proc", "sys", "run", "root", "modules", "overlay"):
        archive.add(name, _FOLDER)
    # What the first process says goes there.
    archive.add("dev/console", *_CONSOLE)
    archive.add("init", _FILE, content=_init())
    needs = _dependencies(modules)
    for group, names in MODULES.items():
        if group in tuple(RootFs) and group != root:
            continue
        archive.add(f"modules/{group}", _FOLDER)
        for number, path in enumerate(_in_order(names, needs)):
            content = (modules / path).read_bytes()
            content = _unsigned(lzma.decompress(content) if path.endswith(".xz") else content)
            archive.add(f"modules/{group}/{number:02}-{_name(path)}.ko", _FILE, content=content)
    _add_overlay(archive)
    return archive.end()


def _unsigned(module: bytes) -> bytes:
    """Return a module without its signature: to check that takes longer than the rest of loading
    (linux/module_signature.h: its length is the last number before the marker).
    """
    if not module.endswith(_SIGNED):
        return module
    (length,) = struct.unpack_from(">I", module, len(module) - len(_SIGNED) - 4)
    return module[: -(len(_SIGNED) + _SIGNATURE_INFO + length)]


def _add_overlay(archive: Archive) -> None:
    units = "overlay/systemd/system"
    dropins = {"systemd-udev-trigger": TRIGGER, **dict.fromkeys(SANDBOXED, OPEN)}
    for folder in ("overlay/systemd", "overlay/systemd/system-generators", units):
        archive.add(folder, _FOLDER)
    hidden = f"overlay/{NOT_HERE.removeprefix('/run/')}"
    archive.add(hidden, _FOLDER)
    archive.add(f"{hidden}/{HIDDEN}", _FILE)
    for name in IDLE_GENERATORS:
        archive.add(f"overlay/systemd/system-generators/{name}", _LINK, content=b"/dev/null")
    for name in IDLE_UNITS:
        archive.add(f"{units}/{name}", _LINK, content=b"/dev/null")
    for unit, text in dropins.items():
        archive.add(f"{units}/{unit}.service.d", _FOLDER)
        archive.add(f"{units}/{unit}.service.d/rig.conf", _FILE, content=text.encode())


def _init() -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "init"
        run(["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-Os", "-s", "-static", "-o", target, SOURCE])
        return target.read_bytes()


def _dependencies(modules: Path) -> dict[str, list[str]]:
    """Return each module's path below `modules`, and the paths it needs, by name."""
    lines = (modules / "modules.dep").read_text().splitlines()
    split = (line.partition(":") for line in lines)
    return {_name(path): [path, *needs.split()] for path, _, needs in split}


def _in_order(names: tuple[str, ...], needs: dict[str, list[str]]) -> list[str]:
    """Return the paths of `names` and of what they need, in the order of loading (reversed in
    modules.dep). Some are part of one release's kernel, and no module.
    """
    return list(dict.fromkeys(path for name in names for path in reversed(needs.get(name, []))))


def _name(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0].replace("-", "_")


class Archive:
    """A cpio archive as the kernel reads it ("newc"), uncompressed: an emulated CPU is best at copying."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._number = 0

    def add(self, name: str, mode: int, device: tuple[int, int] = (0, 0), *, content: bytes = b"") -> None:
        """Add a file, folder, link or device; its folder must have been added before."""
        self._number += 1
        path = name.encode() + b"\0"
        fields = (self._number, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + path
        self._parts += [head, bytes(-len(head) % 4), content, bytes(-len(content) % 4)]

    def end(self) -> bytes:
        """Return the whole archive."""
        self.add("TRAILER!!!", 0)
        return b"".join(self._parts)
