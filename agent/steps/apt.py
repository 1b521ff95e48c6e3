"""Step: write the document's sources of packages, proxies and settings of apt.

All are files of the agent's own; of the distribution's sources only the mirrors change (cloud-config), or
debian.sources is written in place of them (the native document). A source is written in deb822 format
(sources.list(5)), with its key in a keyring of its own, trusted for that source only.

User and password of a proxy are in a file of their own (apt_auth.conf(5)), which only root can read: apt
gives them to the process that downloads. Everyone who runs apt needs to read its other files.
"""

from __future__ import annotations

import re
from functools import partial

from agent.config.system import Apt
from agent.image import debian_sources
from agent.lib import assignments
from agent.lib.errors import ConfigError
from agent.lib.text import HEADER, WHITE, words
from agent.report import guarded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.system import AptSource, Archive
    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

_SOURCES, _KEYRINGS = "/etc/apt/sources.list.d", "/etc/apt/keyrings"
#: Keys here are trusted for each source.
_TRUSTED = "/etc/apt/trusted.gpg.d"
_PROXY, _CONF = "/etc/apt/apt.conf.d/90gandi-proxy", "/etc/apt/apt.conf.d/94gandi"
_AUTH = "/etc/apt/auth.conf.d/90gandi.conf"
_LIST, _DEBIAN = "/etc/apt/sources.list", f"{_SOURCES}/debian.sources"
#: The distributions' own sources: lines, and paragraphs.
_OWN_SOURCES = (
    _LIST,
    _DEBIAN,
    f"{_SOURCES}/ubuntu.sources",
)
#: The start of a line or field, and its URI.
_ANY_URI = re.compile(r"(?im)^(URIs:[ \t]*)[^\n]+")
_OWN_URI = re.compile(
    r"(?m)^([ \t]*deb(?:-src)?[ \t]+(?:\[[^\]\n]*\][ \t]*)?)"
    r"https?://[a-z0-9.-]+\.(?:debian\.org|ubuntu\.com)/[^ \t\n]*"
)
_ITEM = "apt:"
#: type, options in brackets, URI, suite, components.
_LINE = re.compile(r"(deb|deb-src)[ \t]+(?:\[([^\]\n]*)\][ \t]*)?([^ \t]+)[ \t]+([^ \t]+)[ \t]*(.*)")
#: A URL with a user and a password that a word of apt_auth.conf(5) can have.
_LOGIN = re.compile(r"(https?://)([^/@:]+):([^/@:]+)@([^/@]+)(.*)")
#: Options of a line that have another name in deb822 format.
_FIELDS = {"arch": "Architectures", "lang": "Languages", "target": "Targets", "pdiffs": "PDiffs"}


def apply(ctx: Context) -> Iterator[Item]:
    """Reconcile each file as one item. Raise ConfigError on a system without apt."""
    config = ctx.config
    if config is None:
        return
    apt = (config.system.apt if config.system else None) or Apt()
    if apt != Apt() and not ctx.host.which("apt-get"):
        raise ConfigError("apt: not installed", hint="deliver the sources of this system by write_files")
    wanted: set[str] = set()
    for source in apt.sources:
        yield from guarded(f"{_ITEM}{source.name}", _source(ctx, source, wanted))
    for path, text, mode in _settings(apt):
        yield _file(ctx, path, text, wanted, mode)
    if apt.archive:
        yield from guarded("apt archive", _archive(ctx, apt.archive))
    elif apt.mirrors:
        yield from guarded("apt mirrors", _mirrors(ctx, dict(apt.mirrors)))
    if not config.partial:
        for name in ctx.state.recorded_items(_ITEM):
            path = name.removeprefix(_ITEM)
            if path not in wanted:
                yield _withdraw(ctx, name, path)


def _source(ctx: Context, source: AptSource, wanted: set[str]) -> Iterator[Item]:
    key = f"{_KEYRINGS if source.source else _TRUSTED}/gandi-{source.name}.asc"
    sources = f"{_SOURCES}/gandi-{source.name}.sources"
    wanted |= {key, sources}
    text = deb822(source.source, key if source.key else "", _release(ctx.host)) if source.source else ""
    if source.key:
        yield _file(ctx, key, source.key, wanted)
    if text:
        yield _file(ctx, sources, f"{HEADER}{text}", wanted)


def _settings(apt: Apt) -> Iterator[tuple[str, str, int]]:
    """Yield path, text and mode of each file of settings."""
    logins, proxies, mode = "", "", 0o644
    for scheme, url in apt.proxies:
        url, login = _without_login(url)
        logins += login if login not in logins else ""
        proxies += f'Acquire::{scheme}::Proxy "{url}";\n'
        # A password that is still there; other users' apt then says that it cannot read the file.
        mode = 0o600 if "@" in url else mode
    yield from (
        (path, text if text.endswith("\n") else f"{text}\n", mode)
        for path, text, mode in (
            (_AUTH, logins and f"{HEADER}{logins}", 0o600),
            (_PROXY, proxies and f"// {HEADER[2:]}{proxies}", mode),
            (_CONF, apt.conf, 0o644),
        )
        if text
    )


def _without_login(url: str) -> tuple[str, str]:
    """Return the URL of a proxy without user and password, and their line of apt_auth.conf(5), "" if it has
    none that such a line can have.
    """
    if not (found := _LOGIN.fullmatch(url)):
        return url, ""
    scheme, host, rest = found[1], found[4], found[5]
    user, password = _decoded(found[2]), _decoded(found[3])
    if not re.fullmatch(r"[!-~]+", user + password) or "#" in (user[0], password[0]):
        return url, ""
    return f"{scheme}{host}{rest}", f"machine {scheme}{host} login {user} password {password}\n"


def _decoded(part: str) -> str:
    """Return a part of a URL without its percent-encoding."""
    encoded = part.encode("utf-8", "surrogateescape")
    plain = re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes((int(found[1], 16),)), encoded)
    return plain.decode("utf-8", "surrogateescape")


def _file(ctx: Context, path: str, text: str, wanted: set[str], mode: int = 0o644) -> Item:
    wanted.add(path)
    return ctx.state.reconcile(
        f"{_ITEM}{path}",
        wanted=text,
        live=ctx.host.read(path),
        apply=lambda: ctx.host.write(path, text, mode=mode),
    )


def _withdraw(ctx: Context, name: str, path: str) -> Item:
    return ctx.state.withdraw(name, live=ctx.host.read(path), undo=lambda: ctx.host.remove(path))


def _archive(ctx: Context, archive: Archive) -> Iterator[Item]:
    """Write debian.sources, and take the lines that it stands for out of sources.list."""
    delivered = " ".join((archive.uri, archive.security, archive.suite))
    for path, (live, wanted) in _archive_files(ctx.host, archive).items():
        name = f"apt mirror:{path}"
        if wanted != live or path == _DEBIAN or ctx.state.recorded_items(name):
            yield ctx.state.reconcile(
                name,
                delivered=delivered,
                wanted=wanted,
                live=live,
                apply=partial(_write_or_remove, ctx.host, path, wanted),
                detail=archive.uri if path == _DEBIAN else f"what {_DEBIAN} has is left out",
            )


def write_archive(host: Host, archive: Archive) -> None:
    """Write the same files without a record. Raise ConfigError if they cannot be for this system."""
    for path, (live, wanted) in _archive_files(host, archive).items():
        if wanted != live:
            _write_or_remove(host, path, wanted)


def _write_or_remove(host: Host, path: str, text: str) -> None:
    host.write(path, text) if text else host.remove(path)


def _archive_files(host: Host, archive: Archive) -> dict[str, tuple[str, str]]:
    """Return, by path, the text that is there and the one that is wanted, "" for no file."""
    suite = debian_sources.suite_of(_os_release(host), archive.suite)
    if not host.exists(debian_sources.KEYRING):
        what = f"apt.archive: no {debian_sources.KEYRING}"
        raise ConfigError(what, hint="use an image with the package debian-archive-keyring")
    old, live = host.read(_LIST) or "", host.read(_DEBIAN) or ""
    left, kept = debian_sources.without_debians(old, suite)
    others, more = debian_sources.paragraphs(live, suite)
    text = debian_sources.text(archive, suite, debian_sources.merged(kept, more)) + others
    return {_DEBIAN: (live, text), _LIST: (old, left)}


def _mirrors(ctx: Context, mirrors: dict[str, str]) -> Iterator[Item]:
    texts = {path: ctx.host.read(path) or "" for path in _OWN_SOURCES}
    wanted = {path: with_mirrors(text, mirrors) for path, text in texts.items()}
    for kind, uri in mirrors.items():
        if not any(uri in text for text in wanted.values()):
            raise ConfigError(
                f"apt.{kind}: no source of the distribution's servers in {', '.join(_OWN_SOURCES)}",
                hint="write the mirror as an entry of apt.sources",
            )
    for path, text in wanted.items():
        if any(uri in text for uri in mirrors.values()):
            yield ctx.state.reconcile(
                f"apt mirror:{path}",
                delivered="\n".join(f"{kind} {uri}" for kind, uri in mirrors.items()),
                wanted=text,
                live=texts[path],
                apply=partial(ctx.host.write, path, text),
            )


def with_mirrors(text: str, mirrors: dict[str, str]) -> str:
    """Return a sources file with these URIs, for suites of security updates and for the others.

    In paragraphs every URI is replaced; in lines, which third parties' share, those of the distributions'
    own servers.
    """
    pattern, separator = (_ANY_URI, r"(\n[ \t]*\n)") if _ANY_URI.search(text) else (_OWN_URI, r"(\n)")

    def replaced(part: str) -> str:
        uri = mirrors.get("security" if "-security" in part else "primary", "")
        return pattern.sub(lambda found: found[1] + uri, part) if uri else part

    return "".join(map(replaced, re.split(separator, text)))


def _release(host: Host) -> str:
    return assignments.value(_os_release(host), "VERSION_CODENAME") or ""


def _os_release(host: Host) -> str:
    return host.read("/etc/os-release") or host.read("/usr/lib/os-release") or ""


def deb822(source: str, key: str, release: str) -> str:
    """Return a source in deb822 format, from that or from a line of sources.list(5).

    ``key`` is the path of its keyring, "" without one; ``release`` is this system's code name. Raise
    ConfigError if the source uses a value that is not known here.
    """
    for name, known, hint in (
        ("KEY_FILE", key, "write the key as the source's key"),
        ("RELEASE", release, "write the release's name"),
    ):
        if f"${name}" in source and not known:
            raise ConfigError(f"${name}: not known", hint=hint)
        source = source.replace(f"${name}", known)
    match = _LINE.fullmatch(source)
    if match is None:  # deb822 already
        return "\n".join(_signed(one, key) for one in re.split(r"\n[ \t]*\n", source))
    kind, options, uri, suite, components = match.groups()
    fields = {
        "Types": kind,
        "URIs": uri,
        "Suites": suite,
        "Components": components.partition("#")[0].strip(WHITE),
    }
    for option in words(options or ""):
        name, _, value = option.partition("=")
        field = _FIELDS.get(name.lower(), "-".join(part.capitalize() for part in name.split("-")))
        fields[field] = value.replace(",", " ")
    fields.setdefault("Signed-By", key)
    return "".join(f"{field}: {value}\n" for field, value in fields.items() if value)


def _signed(paragraph: str, key: str) -> str:
    is_signed = not key or re.search(r"(?im)^signed-by:", paragraph)
    return f"{paragraph.strip(WHITE)}\n" + ("" if is_signed else f"Signed-By: {key}\n")
