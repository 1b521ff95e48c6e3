"""The QEMU command line of a machine, as pure functions of its spec."""

from __future__ import annotations

import shutil
from pathlib import Path

from . import quick, restless
from .command import RigError
from .guest_channel import PORT_NAME
from .hardware import HARDWARE
from .image import Image
from .spec import Architecture, Bus, Disk, Firmware, MachineSpec, Nic, Release

ROOT_ID = "root"
# Boot messages go to the serial log; the console must not slow an emulated boot with the kernel's own.
# Units that nothing here needs, and that cost an emulated boot seconds.
IDLE_UNITS = ("modprobe@configfs", "modprobe@drm", "modprobe@efi_pstore", "modprobe@fuse", "e2scrub_reap")
CMDLINE = (
    *(f"systemd.mask={unit}.service" for unit in IDLE_UNITS),
    "ro",
    "loglevel=4",
    "systemd.show_status=1",
    "mitigations=off",
    "TERM=dumb",
)

# Features that make emulated guests slower: string instructions that are emulated byte by byte, vectors
# that C libraries then choose, a fifth level of page tables, more state of each process to save, guards
# that end a block of translated code; and those for which udev loads KVM and ciphers.
SLOW_FEATURES = "-erms,-avx,-avx2,-la57,-xsave,-pku,-smap,-svm,-aes,-pclmulqdq"
# Linux 6.1 hangs at its start on a CPU that has fast short string instructions only.
SLOW_ON = {Release.BOOKWORM: ",-fsrm"}
# No SMBus; and no SATA controller unless a disk needs it, no keyboard and mouse unless VMware's port does.
MACHINE = "q35,smbus=off"
# The fastest of those that have large atomic instructions, which TCG makes one of the host's each.
VIRT, VIRT_CPU = "virt,gic-version=3", "cortex-a76"

# An instruction is 2 to the third nanoseconds.
COUNTED = ("-icount", "shift=3,sleep=on")
# The same, and the clock is set forward to the next timer when the guest idles. Its HPET would have one each
# two milliseconds, which Linux leaves running.
SKIPPING = ("-icount", "shift=3,sleep=off", "-machine", "hpet=off")


def arguments(
    spec: MachineSpec, image: Image, accel: str, sockets: Path, serial: Path, *, sata: bool
) -> list[str]:
    """The argv of QEMU without disks: machine, CPUs, memory, buses, NICs, kernel, monitor, serial log,
    channel.
    """
    accel, hardware = (
        "tcg,thread=single" if spec.counted or spec.skips else accel,
        HARDWARE[image.architecture],
    )
    argv = [hardware.program, "-nodefaults", "-no-user-config", "-display", "none", "-accel", accel]
    argv += SKIPPING if spec.skips else COUNTED if spec.counted else ()
    if image.architecture is Architecture.ARM64:
        argv += virt_arguments(spec)
    else:
        cpu = cpu_arguments(spec, kvm=accel.startswith("kvm"), sata=sata)
        argv += [word.replace("-erms", f"-erms{SLOW_ON.get(image.release, '')}") for word in cpu]
    argv += ["-m", f"{spec.memory}M,slots={spec.memory_slots},maxmem={spec.max_memory}M", "-uuid", spec.uuid]
    argv += ["-qmp", f"unix:{sockets}/qmp,server=on,wait=off"]
    argv += ["-chardev", f"file,id=console,path={serial},append=on", "-serial", "chardev:console"]
    argv += ["-device", "virtio-serial-pci,id=serial0"]
    argv += ["-chardev", f"socket,id=channel,path={sockets}/channel,server=on,wait=off"]
    argv += ["-device", f"virtserialport,chardev=channel,name={PORT_NAME}"]
    for number, name in enumerate(spec.ports):
        argv += ["-chardev", f"socket,id=port-{number},path={sockets}/{name},server=on,wait=off"]
        argv += ["-device", f"virtserialport,chardev=port-{number},name={name},id=serial-port-{number}"]
    argv += ["-device", "virtio-scsi-pci,id=scsi0", "-device", "virtio-rng-pci"]
    for number in range(spec.root_ports):
        place = f"addr={0x10 + number // 8:#x}.{number % 8},multifunction=on"
        argv += ["-device", f"pcie-root-port,id=port{number},chassis={number + 1},{place}"]
    if spec.generation:
        argv += ["-device", f"vmgenid,guid={spec.generation}"]
    for nic in spec.nics:
        argv += nic_arguments(nic)
    extra: tuple[str, ...] = restless.CMDLINE if spec.skips else ()
    if spec.shell:
        argv += [
            "-chardev",
            f"socket,id=shell,path={sockets}/shell,server=on,wait=off",
            "-serial",
            "chardev:shell",
        ]
        extra += (f"systemd.debug_shell={hardware.shell}",)
    if any(nic.tap for nic in spec.nics):
        # The tap ends with the process, and no other network is changed.
        argv = ["unshare", "--net", "--", *argv]
    is_quick = image.architecture in quick.ARCHITECTURES
    # arm64's firmware starts the kernel that QEMU is given.
    if spec.firmware and image.architecture is Architecture.AMD64:
        return argv
    kernel, initrd = image.quick_kernel, image.quick_initrd
    if spec.debian_initrd or not is_quick:
        kernel, initrd = image.kernel, image.initrd
    else:
        # PID 1 loads this module only to read items, so that most machines do without.
        extra += tuple(word.replace("qemu_fw_cfg,", "") if spec.fw_cfg else word for word in quick.CMDLINE)
    console = f"console={hardware.console}"
    append = " ".join((f"root=UUID={image.root_uuid}", *CMDLINE, console, *extra, *spec.cmdline))
    return [*argv, "-kernel", str(kernel), "-initrd", str(initrd), "-append", append]


def firmware_arguments(spec: MachineSpec, architecture: Architecture, folder: Path) -> list[str]:
    """Write what the firmware passes to the guest to files of `folder`, and return the arguments that name
    them: other processes can read an argument.
    """
    argv = ["-smbios", f"type=1,serial={spec.serial.replace(',', ',,')}"] if spec.serial else []
    if spec.firmware is Firmware.UEFI:
        hardware = HARDWARE[architecture]
        shutil.copy(hardware.variables, folder / "variables")
        for flash in (f"{hardware.code},readonly=on", f"{folder}/variables"):
            argv += ["-drive", f"if=pflash,format=raw,file={flash}"]
    for number, text in enumerate(spec.smbios):
        (path := folder / f"smbios-{number}").write_text(text)
        argv += ["-smbios", f"type=11,path={path}"]
    for number, (name, content) in enumerate(spec.fw_cfg):
        (path := folder / f"fw_cfg-{number}").write_bytes(content)
        argv += ["-fw_cfg", f"name={name},file={path}"]
    return argv


def cpu_arguments(spec: MachineSpec, *, kvm: bool, sata: bool) -> list[str]:
    """Machine type and CPUs.

    Linux since 6.9 takes hot-added CPUs only below a hypervisor that it knows, and it does not know TCG:
    there the machine poses as VMware's, which needs the backdoor port and the serial number, and an unset
    hypervisor bit.
    """
    smp = ["-smp", f"{spec.cpus},maxcpus={spec.max_cpus}"]
    machine = MACHINE if sata else f"{MACHINE},sata=off"
    if kvm:
        return ["-machine", f"{machine},i8042=off", "-cpu", "max", *smp]
    if spec.max_cpus == spec.cpus:
        return ["-machine", f"{machine},i8042=off", "-cpu", f"max,{SLOW_FEATURES}", *smp]
    known = ["-smbios", "type=1,serial=VMware-42"]
    return ["-machine", f"{machine},vmport=on", "-cpu", f"max,-hypervisor,{SLOW_FEATURES}", *known, *smp]


def virt_arguments(spec: MachineSpec) -> list[str]:
    """Machine type and CPUs for arm64. Raise RigError for CPUs to be added: QEMU has no hot-plug of them."""
    if spec.max_cpus != spec.cpus:
        raise RigError("QEMU's virt machine takes no CPU while it runs")
    return ["-machine", VIRT, "-cpu", VIRT_CPU, "-smp", f"{spec.cpus}"]


def nic_arguments(nic: Nic) -> list[str]:
    """A NIC that is there from the start."""
    options = f",{nic.options}" if nic.options else ""
    # No boot ROM: the firmware would start it.
    device = f"virtio-net-pci,netdev={nic.id}-net,id={nic.id},mac={nic.mac},romfile={options}"
    return ["-netdev", f"{nic.backend},id={nic.id}-net", "-device", device]


def disk_arguments(disk: Disk) -> list[str]:
    """A disk that is there from the start."""
    device = ",".join(f"{key}={value}" for key, value in device_options(disk, port="").items())
    return ["-blockdev", _flat(blockdev(disk)), "-device", device]


def blockdev(disk: Disk) -> dict[str, object]:
    """The block node of a disk, as QMP's blockdev-add takes it. Host tools may read the file as well.

    A flush of the guest ends when the host's kernel has the data, which a power cut (the end of QEMU) leaves
    there: to wait for the host's own disk would show nothing.
    """
    file = {"driver": "file", "filename": str(disk.path), "locking": "off", "cache": {"no-flush": True}}
    return {
        "cache": {"no-flush": True},
        "driver": disk.format,
        "node-name": disk.id,
        "file": file,
        "read-only": disk.read_only or disk.bus is Bus.CDROM,
    }


def device_options(disk: Disk, *, port: str) -> dict[str, str]:
    """The device of a disk, as QMP's device_add takes it; `port` is the root port it is plugged into, if
    any.
    """
    options = {"drive": disk.id, "id": f"{disk.id}-dev"}
    if disk.serial:
        options["serial"] = disk.serial
    if port:
        options["bus"] = port
    match disk.bus:
        case Bus.VIRTIO:
            return {"driver": "virtio-blk-pci"} | options
        case Bus.NVME:
            return {"driver": "nvme"} | options | {"serial": disk.serial or disk.id}
        case Bus.SATA:
            return {"driver": "ide-hd"} | options
        case Bus.CDROM:
            return {"driver": "scsi-cd", "bus": "scsi0.0"} | options
        case Bus.SCSI:
            named = {"vendor": disk.vendor, "product": disk.product}
            return {"driver": "scsi-hd", "bus": "scsi0.0"} | options | {k: v for k, v in named.items() if v}


def _flat(tree: dict[str, object], prefix: str = "") -> str:
    parts = []
    for key, value in tree.items():
        match value:
            case dict():
                parts.append(_flat(value, f"{prefix}{key}."))
            case bool():
                parts.append(f"{prefix}{key}={'on' if value else 'off'}")
            case _:
                parts.append(f"{prefix}{key}={str(value).replace(',', ',,')}")
    return ",".join(parts)
