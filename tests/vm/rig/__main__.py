"""`python -m tests.vm.rig build|boot|shell`: the rig on the command line.

build  makes the image, finds the accelerator that boots it, and prints where it is
boot   boots it and gives a root shell; the machine ends with the shell
shell  attaches a terminal to the shell of a machine that runs (its socket is printed by what started it)
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .accel import accelerator
from .command import RigError
from .console import attach
from .image import Image, build, newest_deb
from .machine import Machine
from .spec import Architecture, Disk, ImageSpec, MachineSpec, Network, Release, RootFs, Table


def main() -> int:
    """Run the verb; exit 1 with one line when the rig fails."""
    options = _parser().parse_args()
    try:
        match options.verb:
            case "build":
                image = _image(options)
                print(f"accelerator: {accelerator(image.kernel, image.architecture)}", file=sys.stderr)
                print(image.folder)
            case "boot":
                _boot(options)
            case "shell":
                attach(options.socket)
    except RigError as error:
        print(f"rig: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.vm.rig", description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("build", "boot"):
        sub = verbs.add_parser(verb)
        sub.add_argument("--plain", action="store_true", help="without our package")
        sub.add_argument(
            "--deb", type=Path, action="append", help="install this instead of the newest in dist/"
        )
        sub.add_argument("--package", action="append", default=[], help="one more Debian package")
        sub.add_argument(
            "--architecture", type=Architecture, choices=list(Architecture), default=Architecture.AMD64
        )
        sub.add_argument("--release", type=Release, choices=list(Release), default=Release.TRIXIE)
        sub.add_argument("--network", type=Network, choices=list(Network), default=Network.NETWORKD)
        sub.add_argument("--root-fs", type=RootFs, choices=list(RootFs), default=RootFs.EXT4)
        sub.add_argument("--table", type=Table, choices=list(Table), default=Table.NONE)
        if verb == "boot":
            sub.add_argument("--disk", type=Path, action="append", default=[], help="attach this raw disk")
            sub.add_argument("--cmdline", action="append", default=[], help="one more kernel argument")
            sub.add_argument("--memory", type=int, default=512, help="MiB")
    verbs.add_parser("shell").add_argument("socket", type=Path)
    return parser


def _image(options: argparse.Namespace) -> Image:
    debs = () if options.plain else tuple(options.deb or [newest_deb()])
    spec = ImageSpec(
        release=options.release,
        debs=debs,
        extra=tuple(options.package),
        network=options.network,
        root_fs=options.root_fs,
        table=options.table,
        architecture=options.architecture,
    )
    return build(spec, lambda line: print(line, file=sys.stderr))


def _boot(options: argparse.Namespace) -> None:
    disks = [Disk(path=path, id=f"disk{number}") for number, path in enumerate(options.disk)]
    spec = MachineSpec(shell=True, memory=options.memory, cmdline=tuple(options.cmdline))
    with Machine(_image(options), spec, disks=disks, name="boot") as machine:
        boot = machine.start().wait_ready()
        print(f"up for {boot.uptime:.1f} s; serial log: {machine.logs}/serial.log", file=sys.stderr)
        attach(machine.console)


if __name__ == "__main__":
    sys.exit(main())
