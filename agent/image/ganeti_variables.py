"""The environment of Ganeti's OS scripts: the parameters of the OS definition, and the readers of values.

ganeti-os-interface(7): OSP_* are the parameters, by their names in capitals. An error names the variable,
and never its value, which may be a secret.
"""

from __future__ import annotations

import ipaddress
import re

from agent.lib.errors import ConfigError
from agent.lib.records import dataclass
from agent.lib.text import WHITE, delivered_lines, words
from agent.reader.common import fields, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, TypeVar

    Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
    T = TypeVar("T")

_PREFIX = "OSP_"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the OS definition. ``parts`` are what a value has: one, words, or lines."""

    reader: Callable[[Any], Any]
    description: str
    parts: str = "one"


def _cidr(version: int) -> Callable[[str], Interface]:
    def read(word: str) -> Interface:
        address, slash, _ = word.partition("/")
        example = "203.0.113.10/24" if version == 4 else "2001:db8::10/64"
        try:
            found = ipaddress.ip_interface(word)
            if not slash or found.version != version or not fields.address(address):
                raise ValueError
        except ValueError:
            raise ValueError(
                f"not an IPv{version} address with its prefix; write for example {example}"
            ) from None
        return found

    return read


def _gateway(version: int) -> Callable[[str], fields.IP]:
    def read(value: str) -> fields.IP:
        found = fields.address(value)
        if found.version != version:
            raise ValueError(f"not an IPv{version} address; write the other one as gateway and gateway6")
        return found

    return read


def _key(line: str) -> str:
    return fields.key(line)[1]


#: The kinds of images, by the end of the name.
IMAGES = {
    ".raw": "raw",
    ".img": "raw",
    ".qcow2": "qcow2",
    **dict.fromkeys((".tar", ".tar.gz", ".tar.xz", ".tar.zst"), "tar"),
}


def _image(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,200}", name) or not image_kind(name):
        raise ValueError(
            f"not the name of an image; write one that ends with {', '.join(IMAGES)}, without a folder"
        )
    return name


def image_kind(name: str) -> str:
    """Return raw, qcow2 or tar by the name of an image; "" for another name."""
    return next((kind for end, kind in IMAGES.items() if name.endswith(end)), "")


def _package(name: str) -> str:
    # With a dash at its end apt would remove it.
    if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]{0,99}[a-z0-9+.]", name):
        raise ValueError("not the name of a package; write for example openssh-server, separated by spaces")
    return name


#: By name, in the order of ganeti/os/gandi/parameters.list.
PARAMETERS = {
    "ipv4": Parameter(
        _cidr(4), "IPv4 addresses of the first NIC with their prefix, separated by spaces", "words"
    ),
    "ipv6": Parameter(
        _cidr(6), "IPv6 addresses of the first NIC with their prefix, separated by spaces", "words"
    ),
    "gateway": Parameter(_gateway(4), "IPv4 gateway of the first NIC"),
    "gateway6": Parameter(_gateway(6), "IPv6 gateway of the first NIC"),
    "dns": Parameter(fields.address, "Addresses of the resolvers, separated by spaces", "words"),
    "sshkey": Parameter(_key, "Public SSH keys, one on each line", "lines"),
    "password_hash": Parameter(
        fields.password, "crypt(3) hash of the password, from mkpasswd --method=yescrypt"
    ),
    "user": Parameter(
        fields.user, "Account that gets keys and password, and administers the machine; by default root"
    ),
    "timezone": Parameter(values.timezone, "Such as Europe/Paris"),
    "locale": Parameter(values.locale, "Such as fr_FR.UTF-8; it is made"),
    "apt_mirror": Parameter(
        values.archive_url, "Mirror of Debian's archive for apt; by default http://deb.debian.org/debian"
    ),
    "apt_security": Parameter(
        values.archive_url, "The same of its security updates; by default that of security.debian.org"
    ),
    "apt_proxy": Parameter(values.proxy_url, "Proxy for apt, such as http://192.0.2.1:3128"),
    "hostkeys": Parameter(
        values.Choice(("keep", "renew")),
        "Whether a renamed instance keeps its SSH host keys, or makes new ones: keep (default) or renew",
    ),
    "image": Parameter(
        _image,
        "Image of the operator's to create from: .raw, .img, .qcow2, .tar, .tar.gz, .tar.xz, .tar.zst",
    ),
    "suite": Parameter(values.suite, "Release of Debian to create without an image; by default trixie"),
    "packages": Parameter(
        _package, "Packages beside those of the release or image, separated by spaces", "words"
    ),
    "partition": Parameter(
        values.Choice(("none", "msdos", "gpt")), "Partition table of the first disk; by default msdos"
    ),
    "swap": Parameter(
        values.Whole(0, 1 << 20), "MiB of a partition for swap on the first disk; by default none"
    ),
    "filesystem": Parameter(
        values.Choice(("ext2", "ext3", "ext4")), "Type of the root filesystem; by default ext4"
    ),
    "bootloader": Parameter(
        values.Choice(("none", "grub")),
        "What its firmware finds on the first disk: grub; or none (default), for a kernel of the node",
    ),
    "export": Parameter(
        values.Choice(("tar", "raw")),
        "What a backup of the first disk is: tar (default), its files; raw, its bytes",
    ),
}

#: The parameters that only the OS definition's own create, export and import read.
_OF_CREATE = ("image", "suite", "partition", "swap", "export")


class Variables:
    """The environment and the readers of its values; each error names the variable."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def get(self, name: str) -> str:
        """Return the value, "" if it is empty or missing."""
        return self._environment.get(name, "").strip(WHITE)

    def read(self, name: str, reader: Callable[[str], T]) -> T | None:
        """Return the value parsed by the reader, None without a value."""
        value = self.get(name)
        return _parsed(name, reader, value) if value else None

    def required(self, name: str, reader: Callable[[str], T | None]) -> T:
        """Return the value parsed by the reader. Raise ConfigError without a value."""
        found = self.read(name, reader)
        if found is None:
            raise ConfigError(f"{name}: missing", hint="Ganeti or the operator must set it")
        return found

    def parameter(self, name: str) -> Any:
        """Return the parameter's value, parsed; None without one."""
        return self.read(f"{_PREFIX}{name.upper()}", PARAMETERS[name].reader)

    def listed(self, name: str) -> list[Any]:
        """Return each word or line of the parameter's value, parsed."""
        variable, of = f"{_PREFIX}{name.upper()}", PARAMETERS[name]
        value = self.get(variable)
        if of.parts == "words":
            found = words(value.replace("\n", " "))
        else:
            found = [line for line in delivered_lines(value) if line.strip(WHITE)]
        return [_parsed(variable, of.reader, one) for one in found]

    def parameter_is_set(self, name: str) -> bool:
        """Return whether the parameter has a value."""
        return bool(self.get(f"{_PREFIX}{name.upper()}"))

    def wrong_parameters(self) -> Iterator[ConfigError]:
        """Yield what is wrong with each OSP_* that is set, in their order. One that is missing may be
        delivered later: Ganeti verifies also the defaults of a cluster.
        """
        for variable in sorted(one for one in self._environment if one.startswith(_PREFIX)):
            name = variable.removeprefix(_PREFIX).lower()
            try:
                if name not in PARAMETERS:
                    raise ConfigError(f"{variable}: no parameter of this OS", hint="see its parameters.list")
                _parsed(variable, fields.text, self._environment[variable])
                (self.parameter if PARAMETERS[name].parts == "one" else self.listed)(name)
            except ConfigError as error:
                yield error


def _parsed(name: str, reader: Callable[[str], T], value: str) -> T:
    try:
        return reader(value)
    except ValueError as error:
        what, _, hint = str(error).partition("; ")
        raise ConfigError(f"{name}: {what}", hint=hint) from error


def parameters_list(*, of_the_hook: bool = False) -> str:
    """Return the text of parameters.list; ``of_the_hook``: for instance-debootstrap with its own create."""
    left_out = _OF_CREATE if of_the_hook else ()
    listed = ((name, one) for name, one in PARAMETERS.items() if name not in left_out)
    return "".join(f"{name} {one.description}\n" for name, one in listed)
