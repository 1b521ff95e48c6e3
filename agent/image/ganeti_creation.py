"""How the OS definition's ``create`` makes the disk of an instance, by its parameters.

What it prints is read by sh: each value is of an alphabet without blanks and quotes (``PARAMETERS``).
"""

from __future__ import annotations

from agent.config.system import Archive
from agent.image import debian_sources
from agent.image.debian_sources import Kept
from agent.image.ganeti_variables import Variables, image_kind
from agent.lib.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SUITE = "trixie"
#: What the agent needs, which would otherwise be fetched by a second run of apt, and a login by ssh.
_PACKAGES = (
    "openssh-server",
    "python3-psutil",
    "python3-pydantic-core",
    "python3-pyudev",
    "python3-systemd",
)
#: What a disk needs to boot by a BIOS and by UEFI; the kernel, unless one is among the parameter's packages.
#: grub-pc and grub-efi-amd64 exclude each other, and would look for the node's disks.
_LOADER, _KERNEL = ("grub-efi-amd64-bin", "grub-pc-bin", "grub2-common"), "linux-image-"
#: Locales that each system has.
_BUILTIN = ("c", "posix", "c.utf-8", "c.utf8")
#: Parameters that an image leaves no choice for: any image, and one of a whole disk.
_OF_A_RELEASE = ("suite",)
_OF_A_LAYOUT = ("partition", "swap", "filesystem")


def lines(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield ``name=value`` for each value that create needs. Raise ConfigError for parameters that exclude
    each other.
    """
    variables = Variables(environment)
    for error in conflicts(variables):
        raise error
    image, loader = variables.parameter("image") or "", variables.parameter("bootloader") or "none"
    yield f"image={image}"
    yield f"kind={image_kind(image) or 'release'}"
    yield f"suite={variables.parameter('suite') or _SUITE}"
    yield f"packages={','.join(dict.fromkeys(_packages(variables, loader)))}"
    yield f"bootloader={loader}"
    yield f"partition={variables.parameter('partition') or ('gpt' if loader == 'grub' else 'msdos')}"
    yield f"swap={variables.parameter('swap') or 0}"
    yield f"filesystem={variables.parameter('filesystem') or 'ext4'}"
    yield f"export={variables.parameter('export') or 'tar'}"


def _packages(variables: Variables, loader: str) -> tuple[str, ...]:
    chosen = wanted_packages(variables)
    if loader != "grub":
        return (*_PACKAGES, *chosen)
    kernel = () if any(name.startswith(_KERNEL) for name in chosen) else (f"{_KERNEL}amd64",)
    return (*_PACKAGES, *_LOADER, *kernel, *chosen)


def wanted_packages(variables: Variables) -> tuple[str, ...]:
    """Return the operator's packages, and the one that makes the locale."""
    locale = variables.parameter("locale") or ""
    needed = ("locales",) if locale and locale.lower() not in _BUILTIN else ()
    return tuple(dict.fromkeys((*variables.listed("packages"), *needed)))


def sources(environment: Mapping[str, str]) -> str:
    """Return the text of debian.sources of a release that is made here."""
    variables = Variables(environment)
    archive = Archive(
        variables.parameter("apt_mirror") or debian_sources.MIRROR, variables.parameter("apt_security") or ""
    )
    return debian_sources.text(archive, variables.parameter("suite") or _SUITE, Kept())


def conflicts(variables: Variables) -> Iterator[ConfigError]:
    """Yield an error for each parameter that another one makes impossible."""
    kind = image_kind(variables.parameter("image") or "")
    if kind:
        whole = _OF_A_LAYOUT if kind != "tar" else ()
        for name in (*_OF_A_RELEASE, *whole):
            if variables.parameter_is_set(name):
                what = f"OSP_{name.upper()}: OSP_IMAGE decides it: the image has its own"
                yield ConfigError(what, hint="leave one of them out: gnt-instance modify -O")
    if kind in ("", "tar") and variables.parameter("partition") == "none" and variables.parameter("swap"):
        what = "OSP_SWAP: OSP_PARTITION=none leaves no room for a partition"
        yield ConfigError(what, hint="write partition=gpt or msdos, or swap=0")
    if variables.parameter("bootloader") == "grub" and variables.parameter("partition") == "none":
        what = "OSP_BOOTLOADER: OSP_PARTITION=none: no BIOS boots a disk without a partition table"
        yield ConfigError(what, hint="write partition=gpt or msdos, or bootloader=none")
