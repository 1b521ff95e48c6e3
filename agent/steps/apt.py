"""Step: write the document's sources of packages, proxies and settings of apt (cloud-config's ``apt``).

All are files of the agent's own; of the distribution's sources only the mirrors change. A source is written
in deb822 format (sources.list(5)), with its key in a keyring of its own, trusted for that source only.
"""

from __future__ import annotations

import re
from functools import partial

from agent.config.system import Apt
from agent.lib import assignments
from agent.lib.errors import ConfigError
from agent.lib.text import HEADER, WHITE, words
from agent.report import guarded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.system import AptSource
    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

_SOURCES, _KEYRINGS = "/etc/apt/sources.list.d", "/etc/apt/keyrings"
#: Keys here are trusted for each source.
_TRUSTED = "/etc/apt/trusted.gpg.d"
_PROXY, _CONF = "/etc/apt/apt.conf.d/90gandi-proxy", "/etc/apt/apt.conf.d/94gandi"
#: The distributions' own sources: lines, and paragraphs.
_OWN_SOURCES = (
    "/etc/apt/sources.list",
    f"{_SOURCES}/debian.sources",
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
    for path, text in _settings(apt).items():
        yield _file(ctx, path, text, wanted)
    if apt.mirrors:
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


def _settings(apt: Apt) -> dict[str, str]:
    proxies = "".join(f'Acquire::{scheme}::Proxy "{url}";\n' for scheme, url in apt.proxies)
    found = {_PROXY: f"// {HEADER[2:]}{proxies}" if proxies else "", _CONF: apt.conf}
    return {path: text if text.endswith("\n") else f"{text}\n" for path, text in found.items() if text}


def _file(ctx: Context, path: str, text: str, wanted: set[str]) -> Item:
    wanted.add(path)
    return ctx.state.reconcile(
        f"{_ITEM}{path}",
        wanted=text,
        live=ctx.host.read(path),
        apply=lambda: ctx.host.write(path, text),
    )


def _withdraw(ctx: Context, name: str, path: str) -> Item:
    return ctx.state.withdraw(name, live=ctx.host.read(path), undo=lambda: ctx.host.remove(path))


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
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        if found := assignments.value(host.read(path) or "", "VERSION_CODENAME"):
            return found
    return ""


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
