"""The arguments of the command ``gandi-agent``."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser
from pathlib import Path

from agent import __version__
from agent.lib.text import printable
from agent.stages import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import _SubParsersAction
    from typing import NoReturn


class _Parser(ArgumentParser):
    """Escapes what was typed before it is printed in an error."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def make_parser() -> ArgumentParser:
    """Return the parser of all verbs; tools/completions.py generates the shell completions from it."""
    names = [str(stage) for stage in Stage]
    parser: ArgumentParser = _Parser(
        prog="gandi-agent",
        description="Configure this machine from the platform's document; see gandi-agent(1)",
        epilog="exit status: 0 done; 1 failed; 2 not ended, or wrong usage; 75 another process runs a stage",
    )
    parser.add_argument("--version", action="version", version=f"gandi-agent {__version__}")
    parser.add_argument(
        "--debug", action="store_true", help="print each decision and its facts on standard error"
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    status = verbs.add_parser("status", help="how the boot went, and what the agent is doing")
    status.add_argument(
        "--format",
        choices=["short", "text", "json"],
        default="text",
        help="short: the verdict alone; json: for programs (text)",
    )
    status.add_argument(
        "--json", action="store_const", const="json", dest="format", help="the same as --format=json"
    )
    status.add_argument(
        "--wait",
        nargs="?",
        type=_seconds,
        const=300.0,
        metavar="S",
        help="wait until all stages have ended (300 s)",
    )
    status.add_argument("--drift", action="store_true", help="what is no longer as the agent left it")
    timeline = verbs.add_parser("timeline", help="where this boot's time went, until ssh and after")
    form = timeline.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON, for programs")
    form.add_argument("--svg", metavar="FILE", help="write a drawing for a browser to FILE")
    why = verbs.add_parser("why", help="where a thing comes from, and whether it was changed since")
    why.add_argument("what", metavar="WHAT", help="a path, address, NIC, user, key, disk, setting, ...")
    why.add_argument("--json", action="store_true", help="print JSON, for programs")
    plan = verbs.add_parser("plan", help="what each stage would do now; changes nothing")
    plan.add_argument("stage", nargs="?", choices=names)
    first = plan.add_argument_group("what the first boot of an image would do")
    where = first.add_mutually_exclusive_group()
    where.add_argument("--root", type=Path, metavar="DIR", help="the mountpoint of the image")
    where.add_argument("--image", metavar="FILE", help="a raw image or a disk")
    first.add_argument("--source", metavar="PATH", help="the document; as for config validate")
    first.add_argument("--partition", metavar="N", help="as for apply --image")
    logs = verbs.add_parser("collect-logs", help="pack the data for a fault report, without secrets")
    logs.add_argument(
        "-o", dest="out", metavar="FILE", help="the archive (gandi-logs-HOST-TIME.tar in the current folder)"
    )
    _document_verbs(verbs, names)
    _disk_verbs(verbs)
    rerun = verbs.add_parser("rerun", help="run the customer's script once more")
    rerun.add_argument("what", choices=["script"])
    _image_verbs(verbs)
    _internal_verbs(verbs, names)
    for verb in verbs.choices.values():  # --debug is also accepted after the verb
        verb.add_argument("--debug", action="store_true", default=SUPPRESS, help=SUPPRESS)
    return parser


def _disk_verbs(verbs: _SubParsersAction[ArgumentParser]) -> None:
    """Add the verbs about attached disks and other resources."""
    disks = verbs.add_parser("disks", help="each disk, what is done with it, and why")
    resources = verbs.add_parser("resources", help="the same for disks, CPUs, memory and NICs")
    for parser in (disks, resources):
        parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    detach = verbs.add_parser("detach", help="release a disk, so that the platform may detach it")
    detach.add_argument("disk", metavar="DISK|MOUNTPOINT", help="its name, path, label or serial number")
    mount = verbs.add_parser("mount", help="mount a disk that was detached or unmounted")
    mount.add_argument("disk", metavar="DISK", help="its name, path, label or serial number")


def _document_verbs(verbs: _SubParsersAction[ArgumentParser], stages: list[str]) -> None:
    """Add the verbs about documents and media."""
    config = verbs.add_parser("config", help="show what is in force, or check a document")
    about = config.add_subparsers(dest="what", required=True, metavar="show|validate|schema")
    show = about.add_parser("show", help="the settings and the document in force, without secrets")
    form = show.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON, for programs")
    form.add_argument("--sh", action="store_true", help="print the settings as assignments, for sh")
    validate = about.add_parser("validate", help="the errors of a document, a drive or an image")
    validate.add_argument(
        "path", metavar="PATH", help="a file, a folder laid out as a drive, a device; - is stdin"
    )
    validate.add_argument("--json", action="store_true", help="print JSON, for programs")
    about.add_parser("schema", help="the JSON Schema of the native document")
    get = verbs.add_parser("get", help="the platform's metadata of this machine")
    get.add_argument("key", nargs="?", metavar="KEY", help="default: every key")
    apply = verbs.add_parser(
        "apply",
        help="configure an image without booting it",
        epilog="The document is trusted, the image is not: its programs are run by bubblewrap, without"
        " access to this machine, and with --no-programs not at all. They may use CPU, memory and the"
        " image's disk; the kernel's driver reads its filesystem. See gandi-agent(1).",
    )
    where = apply.add_mutually_exclusive_group(required=True)
    where.add_argument("--root", type=Path, metavar="DIR", help="the mountpoint of the image")
    where.add_argument("--image", metavar="FILE", help="a raw image or a disk, which grows before that")
    _disk_options(apply)
    apply.add_argument(
        "--source", metavar="PATH", help="as for config validate; not needed with --bootloader or --repair"
    )
    apply.add_argument("--stage", action="append", choices=stages, help="only the steps of this stage")
    apply.add_argument(
        "--bootloader",
        choices=["grub", "none"],
        default="none",
        help="the image's own GRUB on its disk, for a BIOS and UEFI (none)",
    )
    apply.add_argument(
        "--repair",
        action="store_true",
        help="mend what leads to the image's filesystems: after an import, on another bus, with new UUIDs",
    )
    apply.add_argument(
        "--no-programs",
        action="store_true",
        help="run no program of the image: edit its files, leave what needs one to the first boot",
    )
    seed = verbs.add_parser("seed", help="make a medium that the agent reads")
    seed.add_argument("kind", choices=["swap", "iso", "dir"])
    seed.add_argument("--config", required=True, metavar="FILE", help="the document")
    seed.add_argument("--script", metavar="FILE", help="the customer's script")
    seed.add_argument("--sign", metavar="KEY", help="sign the document of a drive with this ssh key")
    seed.add_argument("-o", "--out", required=True, metavar="OUT")
    seed.add_argument("--size", type=int, default=512, metavar="MIB", help="size of a swap image (512)")


def _disk_options(apply: ArgumentParser) -> None:
    """Add the options of apply that change the disk of an image."""
    options = apply.add_argument_group("with --image")
    options.add_argument("--partition", metavar="N", help="the root filesystem: a number, or GROUP/VOLUME")
    options.add_argument("--grow", choices=["auto", "none"], help="none: leave the sizes as they are (auto)")
    options.add_argument(
        "--swap", metavar="SIZE[:KIND]", help="add swap: 1G, 1G:file, 1G:partition; or none"
    )


def _image_verbs(verbs: _SubParsersAction[ArgumentParser]) -> None:
    """Add the verbs for image builds and for the package."""
    clean = verbs.add_parser("clean", help="remove what identifies this machine, to make an image of it")
    clean.add_argument("--root", type=Path, metavar="DIR", help="the system that is mounted there")
    clean.add_argument("--dry-run", action="store_true", help="show what would be done")
    clean.add_argument(
        "--logs", action="store_true", help="logs, histories, lists of packages, leases, seeds"
    )
    clean.add_argument("--ssh-keys", action="store_true", help="the keys that the agent gave to accounts")
    clean.add_argument(
        "--users", action="store_true", help="the accounts that the agent made, with their homes"
    )
    clean.add_argument("--zero", action="store_true", help="at last, zeros in the free blocks, or fstrim")
    kernel = verbs.add_parser("decompress-kernel", help="unpack kernels for the loader of a Xen PV machine")
    kernel.add_argument("file", nargs="*", metavar="FILE", help="default: those in /boot")
    kernel.add_argument("--force", action="store_true", help="also on a machine that does not need it")
    kernel.add_argument("--quiet", action="store_true", help="print only changes and failures")


def _internal_verbs(verbs: _SubParsersAction[ArgumentParser], stages: list[str]) -> None:
    """Add the verbs run by units, the package and the Ganeti hook; --help omits them without help texts."""
    verbs.add_parser("daemon", description="For gandi-agent.service.")
    run_stage = verbs.add_parser(
        "run-stage", description="For the stage units, when the daemon does not answer."
    )
    run_stage.add_argument("stage", choices=stages)
    run_step = verbs.add_parser("run-step", description="For the programs that the agent writes.")
    run_step.add_argument("step", choices=["deferred files"])
    verbs.add_parser("adopt", description="For the package: record a running machine as it is.")
    verbs.add_parser("succeed", description="For the package: take over from gandi-hosting-vm2.")
    verbs.add_parser("withdraw", description="For the RPM: remove what the agent wrote on its own account.")
    ganeti = verbs.add_parser("ganeti", description="For the OS scripts of Ganeti, by their variables.")
    ganeti.add_argument(
        "what",
        nargs="?",
        default="document",
        choices=[
            "document",
            "verify",
            "creation",
            "sources",
            "packages",
            "rename",
            "fstab",
            "bootloader",
            "repair",
        ],
    )
    ganeti.add_argument("values", nargs="*")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < 1e9:
        raise ValueError(text)
    return seconds
