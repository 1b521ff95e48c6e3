"""Step: trust the document's certificate authorities (cloud-config's ``ca_certs``).

They are files in the folder for local certificates, and the system's own program makes its bundle of them.
On Debian the folder is below /usr, where the daemon may not write: install(1) copies them in a unit.
"""

from __future__ import annotations

from agent.host.sysfs import listed
from agent.lib.digest import sha256
from agent.lib.errors import ConfigError, NeedsProgram
from agent.lib.text import lines
from agent.programs import outside_sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.system import CaCerts
    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

_DEBIAN, _RPM = "/usr/local/share/ca-certificates", "/etc/pki/ca-trust/source/anchors"
_UPDATE = {_DEBIAN: "update-ca-certificates", _RPM: "update-ca-trust"}
#: The certificates of the image, one name in a line; ``!`` before it: not trusted (Debian).
_LIST = "/etc/ca-certificates.conf"
_PREFIX, _SUFFIX = "gandi-", ".crt"
_UNIT, _TIMEOUT = "gandi-ca-certificates", 120.0
_HINT = "use an image with the package ca-certificates"


def apply(ctx: Context) -> Iterator[Item]:
    """Reconcile all of them as one item. Raise ConfigError if the system has no bundle of certificates."""
    certs = ctx.config.system.ca_certs if ctx.config and ctx.config.system else None
    if certs is None:
        return
    folder = next((one for one, program in _UPDATE.items() if ctx.host.which(program)), "")
    if not folder:
        raise ConfigError(f"ca_certs: no {' and no '.join(_UPDATE.values())} is installed", hint=_HINT)
    if certs.remove_defaults and folder != _DEBIAN:
        raise ConfigError(
            "ca_certs.remove_defaults: not supported on this system",
            hint="deliver trusted certificates only",
        )
    files = {f"{_PREFIX}{sha256(one.encode()).hexdigest()[:16]}{_SUFFIX}": one for one in certs.trusted}
    wanted = _shown(files, none_of_image=certs.remove_defaults)
    yield ctx.state.reconcile(
        "ca certificates",
        wanted=wanted,
        live=_live(ctx.host, folder, certs),
        apply=lambda: _set(ctx, folder, files, certs),
        # A cut may come between the files and the bundle.
        parts="",
        detail=f"{len(files)} trusted" + (", none of the image" if certs.remove_defaults else ""),
    )


def _shown(files: dict[str, str], *, none_of_image: bool) -> str:
    texts = "".join(f"{name}\n{text}" for name, text in sorted(files.items()))
    return f"{texts}none of the image: {none_of_image}\n"


def _ours(host: Host, folder: str) -> dict[str, str]:
    names = (name for name in listed(host, folder) if name.startswith(_PREFIX) and name.endswith(_SUFFIX))
    return {name: host.read(f"{folder}/{name}") or "" for name in names}


def _live(host: Host, folder: str, certs: CaCerts) -> str | None:
    ours, listing = _ours(host, folder), host.read(_LIST) or ""
    none_of_image = certs.remove_defaults and listing == _without_defaults(listing)
    return _shown(ours, none_of_image=none_of_image) if ours or none_of_image else None


def _without_defaults(text: str) -> str:
    return "".join(f"{line if not line or line[0] in '#!' else f'!{line}'}\n" for line in lines(text))


def _set(ctx: Context, folder: str, files: dict[str, str], certs: CaCerts) -> None:
    if not ctx.host.runs_programs:  # before anything is written
        raise NeedsProgram(_UPDATE[folder])
    stored = [ctx.state.path_for_writing(f"ca-certificates/{name}") for name in sorted(files)]
    for path, name in zip(stored, sorted(files), strict=True):
        ctx.host.write(path, files[name])
    if certs.remove_defaults:
        ctx.host.write(_LIST, _without_defaults(ctx.host.read(_LIST) or ""))
    more = [f"{folder}/{name}" for name in _ours(ctx.host, folder) if name not in files]
    if more:
        _run(ctx, "rm", "-f", *more)
    if stored:
        _run(ctx, "install", "-D", "-m", "0644", "-t", folder, *stored)
    _run(ctx, _UPDATE[folder])


def _run(ctx: Context, *argv: str) -> None:
    outside_sandbox.run(ctx, _UNIT, argv, timeout=_TIMEOUT, hint=_HINT)
