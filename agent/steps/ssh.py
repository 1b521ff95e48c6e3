"""Step: have sshd refuse root's password and empty passwords, by a drop-in, once for each instance; and
write what the document says of sshd (ssh_pwauth, disable_root) to a drop-in of its own, which is reconciled
(agent/network/sshd_options.py).

The drop-in sets only options that no other file sets. PermitRootLogin is set only if a root key or
another account to log in to was delivered: otherwise a machine with nothing but root's password would lock
its owner out.

With the configuration that the distribution ships, sshd is known to accept the drop-in. With any other,
``sshd -T`` checks it: a drop-in that sshd refuses, or that has no effect, is removed; a configuration that
sshd refuses without it, too, is reported. That check takes longer than the rest of the stage, so later boots
do not repeat it.
"""

from __future__ import annotations

import os
import re
from fnmatch import fnmatch

from agent.host.sysfs import listed
from agent.lib.errors import ConfigError, HostError
from agent.lib.text import lines
from agent.network import sshd
from agent.network.sshd import CONFIG, FOLDER, ROOT, SETTING
from agent.report import changed, guarded, kept, skipped, unchanged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

DROP_IN = "/etc/ssh/sshd_config.d/00-gandi.conf"
#: Debian's openssh-server copies it to CONFIG (postinst); it includes the drop-ins first and has no Match.
SHIPPED = "/usr/share/openssh/sshd_config"
#: ``sshd -T`` fails without this folder, which sshd's unit makes when it starts.
_RUN = "/run/sshd"
#: The mark of an instance for which this step is done.
_MARK = "ssh"
_OPTIONS = {"PermitEmptyPasswords": "no", ROOT: "prohibit-password"}
#: The values as ``sshd -T`` prints them; for prohibit-password it prints the name from before OpenSSH 7.0.
_SPELLED = {"prohibit-password": ("prohibit-password", "without-password"), "no": ("no",)}
_HEADER = (
    "# Written by gandi-agent when this machine was set up; it does not come back once it is removed.\n"
)
_HINT = "correct it, then: systemctl restart gandi-bootstrap"


def apply(ctx: Context) -> Iterator[Item]:
    """Reconcile the drop-ins.

    Raise ConfigError if sshd refuses the configuration also without it, HostError if it had to be
    removed.
    """
    host = ctx.host
    if not host.exists(sshd.SSHD):
        yield skipped("ssh", "sshd is not installed")
        return
    if (ctx.config and ctx.config.sshd) or host.exists(sshd.DELIVERED):
        from agent.network import sshd_options

        yield from guarded("sshd options", sshd_options.reconcile(ctx))
    if ctx.state.is_done(_MARK):
        yield unchanged("ssh", "settled when this machine was set up")
        return
    files = sshd.files(host, CONFIG)
    if not any(fnmatch(DROP_IN, pattern) for pattern in sshd.included(files)):
        yield skipped("ssh", f"{CONFIG} does not include {os.path.dirname(DROP_IN)}")
        return
    former = files.get(DROP_IN)
    if former is not None and not _is_ours(former):
        ctx.state.mark_done(_MARK)
        yield kept("ssh")
        return
    wanted = _wanted(ctx, files)
    if not wanted:
        ctx.state.mark_done(_MARK)
        yield unchanged("ssh", "each option is set by the administrator")
        return
    host.write(DROP_IN, _HEADER + "".join(f"{name} {value}\n" for name, value in wanted.items()))
    # Without a host key, as before the first ones are made, ``sshd -T`` fails: the next boot checks.
    has_keys = any(fnmatch(name, "ssh_host_*_key") for name in listed(host, FOLDER))
    is_shipped = _is_shipped(host, files)
    if has_keys and not host.dry_run and host.runs_programs and not is_shipped:
        try:
            _check(host, wanted)
        except HostError:
            host.remove(DROP_IN)
            _check_without(host)
            raise
    if has_keys or is_shipped:
        ctx.state.mark_done(_MARK)
    sshd.reload(host)
    yield changed("ssh", ", ".join(f"{name} {value}" for name, value in wanted.items()))


def _is_ours(text: str) -> bool:
    """Return whether the drop-in is as the agent writes it, for any instance."""
    said = set(lines(text.removeprefix(_HEADER)))
    return text.startswith(_HEADER) and said <= {f"{name} {value}" for name, value in _OPTIONS.items()}


def _is_shipped(host: Host, files: dict[str, str]) -> bool:
    """Return whether the configuration is the distribution's, with no more than the drop-in added."""
    return {name: text for name, text in files.items() if name != DROP_IN} == {CONFIG: host.read(SHIPPED)}


def _wanted(ctx: Context, files: dict[str, str]) -> dict[str, str]:
    """Return the options that no other file sets, not even in a Match."""
    said = {
        name.lower()
        for path, text in files.items()
        if path != DROP_IN
        for name, _ in re.findall(SETTING, text)
    }
    if not sshd.has_another_way_in(ctx):
        said.add(ROOT.lower())
    return {name: value for name, value in _OPTIONS.items() if name.lower() not in said}


# -- what sshd says ----------------------------------------------------------------------


def _check(host: Host, wanted: dict[str, str]) -> None:
    """Raise HostError if sshd refuses the drop-in, or it has no effect."""
    host.mkdir(_RUN)
    effect = sshd.effective_options(host)
    if isinstance(effect, str):
        raise HostError(f"sshd refuses {DROP_IN}, which was removed: {effect}", hint=_HINT)
    for name, value in wanted.items():
        found = dict(effect).get(name.lower(), "")
        if found not in _SPELLED[value]:
            raise HostError(
                f"{DROP_IN} was removed: it has no effect, {name} is {found or 'unknown'}",
                hint=f"let {CONFIG} include it before any Match; then: systemctl restart gandi-bootstrap",
            )


def _check_without(host: Host) -> None:
    """Raise ConfigError if sshd refuses its configuration without the drop-in."""
    if isinstance(refused := sshd.effective_options(host), str):
        raise ConfigError(
            f"sshd refuses its configuration without {DROP_IN}: {refused}; nothing changed", hint=_HINT
        )
