"""Readers of the values of ``agent.reader.formats.cloud_system``."""

from __future__ import annotations

import ipaddress
import re

from agent.config import system
from agent.lib.text import HTTP_URL, WHITE, words
from agent.reader.common import fields, values
from agent.reader.common.values import Choice

#: Maximum characters of one text: a certificate, a key, a configuration.
_TEXT = 256 << 10
_PACKAGE = re.compile(r"[A-Za-z0-9@][A-Za-z0-9@+._:~^=/-]{0,200}(?<![-=])")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._:~^*-]{0,200}")
#: A part of xkeyboard-config(7); several are separated by commas.
_XKB = re.compile(r"[A-Za-z0-9_,:()+-]{0,200}")
_CERTIFICATE = re.compile(
    r"-----BEGIN (?:TRUSTED )?CERTIFICATE-----[ \t\r\nA-Za-z0-9+/=]+-----END (?:TRUSTED )?CERTIFICATE-----"
)
_ARMOR = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
_SOURCE = re.compile(r"deb(?:-src)?[ \t]+(?:\[[^\]\n]*\][ \t]*)?[^ \t\n\[]+[ \t]+[^ \t\n]+[^\n]*")
#: Names of mounts() for which cloud-init asks a metadata service.
_ALIASES = re.compile(r"(?:ephemeral|ebs|root|swap|ami)[0-9]*(?:\.[0-9]+)?")
#: Names of disks and partitions without /dev/.
KERNELS_NAME = re.compile(r"(?:[hsv]d[a-z]+|xvd[a-z]+|nvme[0-9]+n[0-9]+p?|mmcblk[0-9]+p?|md|dm-)[0-9]*")
#: What phone_home may send.
POSTED = ("pub_key_rsa", "pub_key_ecdsa", "pub_key_ed25519", "instance_id", "hostname", "fqdn")
_WORD = re.compile(r"[^\x00-\x20\x7f#]{1,500}")


def bounded_text(written: object) -> str:
    """Return text of at most 256 Ki characters."""
    found = fields.text(written)
    if len(found) > _TEXT:
        raise ValueError(f"longer than {_TEXT} characters; write less")
    return found


def _is_boolean(written: object) -> bool:
    """Return whether a value is true or false, also as YAML's words, which are read as text."""
    words = ("true", "false", "yes", "no", "on", "off")
    return isinstance(written, bool) or (isinstance(written, str) and written.strip(WHITE).lower() in words)


def locale(written: object) -> str:
    """Return a locale's name; "" for null and false, which leave the image's."""
    return "" if _is_boolean(written) else values.locale(written)


def xkb(written: object) -> str:
    """Return a name of xkeyboard-config(7)."""
    found = fields.stripped(written)
    if not _XKB.fullmatch(found):
        raise ValueError("not a name of xkeyboard-config(7); write for example fr")
    return found


def layout(written: object) -> str:
    """Return the name of a keyboard layout."""
    if not (found := xkb(written)):
        raise ValueError("empty; write for example fr")
    return found


def time_host(written: object) -> str:
    """Return a time server: a host name or an address."""
    found = fields.stripped(written)
    try:
        return str(ipaddress.ip_address(found))
    except ValueError:
        if not fields.hostname(found):
            raise ValueError("empty; write a host name or an address") from None
    return fields.hostname(found)


def certificate(written: object) -> str:
    """Return a certificate in PEM, with a line end."""
    found = bounded_text(written).strip(WHITE)
    if not _CERTIFICATE.fullmatch(found):
        raise ValueError("not one certificate in PEM; write it with its BEGIN and END lines")
    return f"{found}\n"


def certificates(written: object) -> list[object]:
    """Return the certificates of a text of several, which may have comments between them; else the value."""
    if not isinstance(written, str) or len(written) > _TEXT:
        return [written]
    rest = _CERTIFICATE.sub("", written).replace("\r\n", "\n").split("\n")
    found = _CERTIFICATE.findall(written)
    is_all = all(not line.strip(WHITE) or line.lstrip(WHITE).startswith("#") for line in rest)
    return list(found) if found and is_all else [written]


def package(written: object) -> system.Package:
    """Return a package: a name, a list of name and version, or either below ``apt``."""
    match written:
        case {"apt": one, **rest} if not rest:
            below = package(one)
            return system.Package(below.name, below.version, "apt")
        case {}:
            raise ValueError("of a package manager other than apt: not supported; install it by runcmd")
        case [name] | [name, None | ""]:
            return package(name)
        case [str(name), str() | int() | float() as number]:
            version = fields.stripped(values.word(number))
            if not _VERSION.fullmatch(version):
                raise ValueError("not a version; write it in quotes, for example '1.2-3'")
            return system.Package(package(name).name, version)
        case str() if _PACKAGE.fullmatch(fields.stripped(written)):
            return system.Package(fields.stripped(written))
    raise ValueError("not a package; write a name, or [name, version]")


def source(written: object) -> str:
    """Return a source of packages: a line of sources.list(5), or paragraphs in deb822 format."""
    found = bounded_text(written).strip(WHITE)
    if re.search(r"(?im)^types:", found) and re.search(r"(?im)^uris:", found):
        return found
    if found.startswith("ppa:"):
        raise ValueError("a PPA needs the network to be read; write its deb line and its key")
    if re.search(r"\$(?:MIRROR|PRIMARY|SECURITY)", found):
        raise ValueError("the image's mirror is not known here; write its URI")
    if found and not _SOURCE.fullmatch(found):
        raise ValueError("not a line of sources.list(5); write: deb URI SUITE COMPONENT")
    return found


def armored(written: object) -> str:
    """Return an OpenPGP key in ASCII armor."""
    found = bounded_text(written).strip(WHITE)
    if found and not found.startswith(_ARMOR):
        raise ValueError(f"not an armored OpenPGP key; write its lines, from {_ARMOR} on")
    return f"{found}\n" if found else ""


def architectures(written: object) -> bool:
    """Return True for a mirror of each architecture: ``default``, alone or in a list with others."""
    many = written if isinstance(written, list) else [written]
    is_each = "default" in many and all(isinstance(one, str) for one in many)
    if written not in ([], None) and not is_each:
        raise ValueError("a mirror for some architectures: not supported; write arches: [default]")
    return True


def appended(written: object) -> bool:
    """Return True: each source has a file of the agent's own, beside a file of the image."""
    if not values.boolean(written):
        raise ValueError("the image's file of that name is not replaced; remove the key")
    return True


def mirror(written: object) -> str:
    """Return the URI of a mirror."""
    found = values.line(written)
    if not re.fullmatch(r"(?:https?|ftp|file|mirror\+https?)://?[^\x00-\x20\x7f\"#]+", found):
        raise ValueError("not the URI of a mirror; write for example http://192.0.2.1/debian")
    return found


def proxy(written: object) -> str:
    """Return a proxy's URL; "" for an empty string or null."""
    found = values.line(written)
    if found and not re.fullmatch(r"(?:https?|ftp|socks5h)://[^\x00-\x20\x7f\";]+|DIRECT", found):
        raise ValueError("not a proxy's URL; write for example http://192.0.2.1:3128/")
    return found


def device(written: object) -> str:
    """Return the path of a device."""
    found = fields.stripped(written)
    if _ALIASES.fullmatch(found):
        raise ValueError("a name that a metadata service resolves; write a path below /dev")
    found = f"/dev/{found}" if KERNELS_NAME.fullmatch(found) else found
    if not found.startswith("/dev/"):
        raise ValueError("not a device; write a path below /dev, for example one of /dev/disk/by-id")
    return values.path(found)


def label(written: object) -> str:
    """Return the label of a filesystem: at most 12 characters, which each kind of filesystem takes."""
    found = fields.stripped(values.word(written))
    if not re.fullmatch(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,11}|", found):
        raise ValueError("not a label; write at most 12 letters, digits, _, . and -")
    return found


def partition(written: object) -> str:
    """Return the number of a partition, "" for the whole device (``none``)."""
    found = fields.stripped(values.word(written)).lower() if written is not None else ""
    if found in ("none", ""):
        return ""
    if not re.fullmatch(r"[1-9][0-9]{0,2}", found):
        raise ValueError("a partition is not searched for; write none, or its number")
    return found


def url(written: object) -> str:
    """Return the URL of phone_home."""
    found = values.line(written).strip(WHITE)
    if not re.fullmatch(HTTP_URL, found):
        raise ValueError("not a URL for a POST; write for example https://192.0.2.1/$INSTANCE_ID")
    return found


def posted(written: object) -> tuple[str, ...]:
    """Return the fields of phone_home; that of a DSA key, which is not made, is left out."""
    if written in (None, "all", ["all"]):
        return POSTED
    if isinstance(written, str):
        written = words(written.replace(",", " "))
    if not isinstance(written, list):
        raise ValueError(f"not a list; write all, or some of: {', '.join(POSTED)}")
    found = tuple(Choice((*POSTED, "pub_key_dsa"))(one) for one in written)
    return tuple(dict.fromkeys(one for one in found if one != "pub_key_dsa"))


def mount(written: object) -> tuple[str | None, ...]:
    """Return the fields of a line of fstab(5), at most six; null stands for a default."""
    if not isinstance(written, list) or not 1 <= len(written) <= 6:
        raise ValueError("not a list of one to six fields of fstab(5); write [DEVICE, MOUNTPOINT]")
    found = tuple(None if one is None else values.word(one).strip(WHITE) for one in written)
    if _ALIASES.fullmatch(found[0] or ""):
        raise ValueError("a name that a metadata service resolves; write a path below /dev, UUID= or LABEL=")
    if not _WORD.fullmatch(found[0] or ""):
        raise ValueError("not a device; write a path below /dev, UUID= or LABEL=")
    if len(found) < 2 or found[1] is None:
        raise ValueError("removes an entry: not supported; leave it out of the image")
    point = found[1] if found[1] in ("none", "swap") else values.path(found[1].rstrip("/") or "/")
    _checked(found[2:])
    return found[0], point, *found[2:]


def defaults(written: object) -> tuple[str | None, ...]:
    """Return defaults for the last four fields of fstab(5), given as six fields or as these; null: none."""
    if written in (None, []):
        return (None,) * 4
    if not isinstance(written, list) or len(written) not in (4, 6):
        raise ValueError("not a list of six fields of fstab(5); write null for each without default")
    found = tuple(None if one is None else values.word(one).strip(WHITE) for one in written)
    if any(one and one.lower() != "none" for one in found[:-4]):
        raise ValueError("a default device or mount point; write null for both")
    return _checked(found[-4:])


def _checked(found: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """Return the last four fields of a line of fstab(5), or the first of these. Raise ValueError."""
    if any(one is not None and not _WORD.fullmatch(one) for one in found):
        raise ValueError("a field of fstab(5) is empty or has blanks; write it without")
    if any(one is not None and one not in ("0", "1", "2") for one in found[2:]):
        raise ValueError("the last two fields are not numbers; write 0, 1 or 2")
    return found


def delay(written: object) -> int:
    """Return minutes: ``now``, or a number that may begin with ``+``."""
    found = fields.stripped(values.word(written)).lower().removeprefix("+")
    if found in ("now", ""):
        return 0
    if not re.fullmatch(r"[0-9]{1,5}", found):
        raise ValueError('not a delay; write "now", or minutes: "+5"')
    return int(found)


def condition(written: object) -> tuple[str, ...]:
    """Return the command of a condition; () for none, ``false`` for one that is never met."""
    if written is None or _is_boolean(written):
        return () if written is None or values.boolean(written) else ("false",)
    if isinstance(written, list):
        found = tuple(values.word(one) for one in written)
    else:
        found = ("/bin/sh", "-c", fields.text(written))
    if not found or not found[-1]:
        raise ValueError("an empty command; write true, false or a command")
    return found


def message(written: object) -> str:
    """Return the final message."""
    found = bounded_text(written)
    if found.lstrip(WHITE).startswith("## template:"):
        raise ValueError("a template: not supported; write $UPTIME, $TIMESTAMP, $DATASOURCE or $VERSION")
    return found.strip(WHITE)


def grown(written: object) -> str:
    """Return a device that growpart names."""
    if fields.stripped(written) != "/":
        raise ValueError("only / is grown by this key; data disks grow as CONFIG_GROW_DISKS says")
    return "/"


def mode(written: object) -> str:
    """Return growpart's mode: ``off`` or any other."""
    return (
        "off" if values.is_false(written) else Choice(("auto", "growpart", "gpart", "off", "false"))(written)
    )


def resized(written: object) -> bool:
    """Return whether the root filesystem is resized: a boolean or ``noblock``."""
    return str(written).strip(WHITE).lower() == "noblock" or values.boolean(written)
