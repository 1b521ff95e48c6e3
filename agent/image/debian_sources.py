"""The sources of Debian's archive, /etc/apt/sources.list.d/debian.sources (deb822, sources.list(5)): written
for a mirror, and read from what an image has. This has no effects.
"""

from __future__ import annotations

import re

from agent.lib import assignments
from agent.lib.errors import ConfigError
from agent.lib.records import dataclass
from agent.lib.text import BLANKS, HEADER, WHITE, lines, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.config.system import Archive

#: Debian's own servers.
MIRROR = "http://deb.debian.org/debian"
SECURITY = "http://security.debian.org/debian-security"
#: The keys of Debian's archive, in every system with apt.
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
#: Suites without updates of their own: security updates are uploads like others.
_ROLLING = ("sid", "unstable", "experimental", "rc-buggy")
_ENDS = ("", "-updates", "-security", "/updates")
_LINE = re.compile(r"(deb|deb-src)[ \t]+(?:\[([^\]\n]*)\][ \t]*)?([^ \t]+)[ \t]+([^ \t]+)[ \t]*([^#]*).*")
_HOST = re.compile(r"[a-z]+://(?:[^/@]*@)?([^/:]+)")


@dataclass(frozen=True, slots=True)
class Kept:
    """What of an image's own sources of Debian's archive stays: types, suites beside those of the release,
    components; each in their order.
    """

    types: tuple[str, ...] = ()
    suites: tuple[str, ...] = ()
    components: tuple[str, ...] = ()


def suite_of(os_release: str, wanted: str) -> str:
    """Return the suite of a system by the text of its os-release(5), or the one that is wanted. Raise
    ConfigError for another distribution, and for a release that is not out yet: testing and unstable have
    the same name there.
    """
    if assignments.value(os_release, "ID") != "debian":
        raise ConfigError("apt.archive: this system is not Debian", hint="deliver its sources as files")
    if wanted:
        return wanted
    found = assignments.value(os_release, "VERSION_CODENAME")
    if not found or not assignments.value(os_release, "VERSION_ID"):
        what = "apt.archive: /etc/os-release does not say which release this is"
        raise ConfigError(what, hint="deliver the suite, for example sid")
    return found


def text(archive: Archive, suite: str, kept: Kept) -> str:
    """Return the file for a mirror. A mirror of Debian's archive has updates too, and security updates come
    from their own archive; any other one has the suite alone, and security updates if they are delivered.
    """
    whole = is_debians(archive.uri) and suite not in _ROLLING
    suites = [suite, f"{suite}-updates"] if whole else [suite]
    security = archive.security or (SECURITY if whole else "")
    made = [_paragraph(archive.uri, (*suites, *kept.suites), kept)]
    if security:
        made.append(_paragraph(security, (f"{suite}-security",), kept))
    return HEADER + "\n".join(made)


def _paragraph(uri: str, suites: Iterable[str], kept: Kept) -> str:
    fields = {
        "Types": " ".join(dict.fromkeys(("deb", *kept.types))),
        "URIs": uri,
        "Suites": " ".join(dict.fromkeys(suites)),
        "Components": " ".join(dict.fromkeys(("main", *kept.components))),
        "Signed-By": KEYRING,
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items())


def is_debians(uri: str) -> bool:
    """Return whether a URI is that of a mirror of Debian's archive, by its host or its last folder."""
    host = _HOST.match(uri)
    has_name = host is not None and f".{host[1]}".endswith(".debian.org")
    return has_name or uri.rstrip("/").rpartition("/")[2] in ("debian", "debian-security")


def without_debians(found: str, suite: str) -> tuple[str, Kept]:
    """Return the text of a sources.list(5) without the lines of Debian's archive for a release, "" if no
    source is left; and what these lines have. Lines of third parties, of other suites and with keys of their
    own stay.
    """
    left, kept, names = list[str](), Kept(), [f"{suite}{end}" for end in _ENDS]
    for line in lines(found):
        match = _LINE.fullmatch(line.strip(WHITE))
        if match and match[4] in names and _is_own(match[3], words(match[5]), match[2] or ""):
            kept = _more(kept, [match[1]], (), words(match[5]))
        else:
            left.append(line)
    has_source = any(line.strip(BLANKS) and not line.lstrip(BLANKS).startswith("#") for line in left)
    return "".join(f"{line}\n" for line in left) if has_source else "", kept


def paragraphs(found: str, suite: str) -> tuple[str, Kept]:
    """Return the paragraphs of a file in deb822 format that are not those of Debian's archive, and what the
    others have.
    """
    left, kept, names = list[str](), Kept(), [f"{suite}{end}" for end in _ENDS]
    for paragraph in re.split(r"\n(?:[ \t]*\n)+", found.strip(WHITE)):
        fields = {
            name.lower(): words(value.replace("\n", " "))
            for name, value in re.findall(r"(?m)^([A-Za-z-]+):((?:.*)(?:\n[ \t].*)*)", paragraph)
        }
        uris, suites, components = (fields.get(name, []) for name in ("uris", "suites", "components"))
        signed = f"signed-by={' '.join(fields.get('signed-by', []))}" if "signed-by" in fields else ""
        if (
            uris
            and any(one in names for one in suites)
            and all(_is_own(uri, components, signed) for uri in uris)
        ):
            more = [one for one in suites if one not in names]
            kept = _more(kept, fields.get("types", []), more, components)
        elif uris:
            left.append(paragraph)
    return "".join(f"\n{paragraph}\n" for paragraph in left), kept


def _is_own(uri: str, components: list[str], options: str) -> bool:
    has_own_key = "signed-by" in options.lower() and "debian-archive" not in options
    return is_debians(uri) and "main" in components and not has_own_key


def _more(kept: Kept, types: Iterable[str], suites: Iterable[str], components: Iterable[str]) -> Kept:
    return Kept(
        tuple(dict.fromkeys((*kept.types, *types))),
        tuple(dict.fromkeys((*kept.suites, *suites))),
        tuple(dict.fromkeys((*kept.components, *components))),
    )


def merged(one: Kept, other: Kept) -> Kept:
    """Return what both have."""
    return _more(one, other.types, other.suites, other.components)
