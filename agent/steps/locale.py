"""Step: set the system's locale (cloud-config's ``locale``): LANG, in the file that this system reads.

Debian makes only the locales that are listed in /etc/locale.gen, so the locale is made first.
"""

from __future__ import annotations

import re

from agent.lib import assignments
from agent.lib.errors import ConfigError
from agent.lib.text import WHITE, lines
from agent.programs import outside_sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

#: locale.conf(5), and Debian's file, which is a link to it since Debian 13.
_CONF, _DEBIAN = "/etc/locale.conf", "/etc/default/locale"
_LIST, _SUPPORTED = "/etc/locale.gen", "/usr/share/i18n/SUPPORTED"
_BUILTIN = ("c", "posix", "c.utf8")
#: Seconds that locale-gen may take; it makes each locale of the list.
_TIMEOUT = 300.0


def apply(ctx: Context) -> Iterator[Item]:
    """Reconcile LANG. Raise ConfigError if the locale is not known on this machine."""
    wanted = ctx.config.system.locale if ctx.config and ctx.config.system else ""
    path = _DEBIAN if ctx.host.exists(_DEBIAN) or not ctx.host.exists(_CONF) else _CONF
    text = ctx.host.read(path) or ""
    yield ctx.state.reconcile(
        "locale",
        wanted=wanted,
        live=assignments.value(text, "LANG"),
        apply=lambda: _set(ctx, wanted, path, text),
        detail=wanted,
    )


def _set(ctx: Context, wanted: str, path: str, text: str) -> None:
    if not _is_there(ctx.host, wanted):
        _make(ctx, wanted)
    ctx.host.write(path, assignments.with_values(text, {"LANG": wanted}))


def _is_there(host: Host, wanted: str) -> bool:
    if _plain(wanted) in _BUILTIN:
        return True
    known = host.run(("locale", "-a"), changes=False, check=False).stdout
    return _plain(wanted) in map(_plain, lines(known))


def _plain(name: str) -> str:
    """Return a locale's name as locale(1) compares it: the character set in lower case, without dashes."""
    head, dot, charset = name.partition(".")
    charset, at, modifier = charset.partition("@")
    return f"{head.lower()}{dot}{charset.lower().replace('-', '')}{at}{modifier}"


def _make(ctx: Context, wanted: str) -> None:
    supported = [line for line in lines(ctx.host.read(_SUPPORTED) or "") if line.partition(" ")[0] == wanted]
    if not supported:
        raise ConfigError(
            f"locale {wanted}: not known on this machine",
            hint="write a name of /usr/share/i18n/SUPPORTED; or use an image with its language package",
        )
    text = ctx.host.read(_LIST) or ""
    listed = re.compile(rf"(?m)^[ \t]*#?[ \t]*{re.escape(supported[0])}[ \t]*$")
    line = supported[0]
    if listed.search(text):
        ctx.host.write(_LIST, listed.sub(line, text, count=1))
    else:
        ctx.host.write(_LIST, f"{text.rstrip(WHITE)}\n{line}\n".lstrip(WHITE))
    outside_sandbox.run(
        ctx, "gandi-locale", ("locale-gen",), timeout=_TIMEOUT, hint="use an image with the package locales"
    )
