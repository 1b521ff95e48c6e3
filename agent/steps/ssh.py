"""Step: have sshd refuse root's password and empty passwords, by a drop-in, once for each instance; and
write what the document says of sshd (ssh_pwauth, disable_root) to a drop-in of its own, which is reconciled.

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

from agent.accounts import passwd
from agent.host.sysfs import listed
from agent.lib.errors import ConfigError, HostError
from agent.lib.text import WHITE, lines, words
from agent.report import changed, failed, guarded, kept, skipped, unchanged
from agent.systemd import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item

SSHD = "/usr/sbin/sshd"
FOLDER, CONFIG = "/etc/ssh", "/etc/ssh/sshd_config"
DROP_IN = "/etc/ssh/sshd_config.d/00-gandi.conf"
#: The document's options; sshd reads it before DROP_IN, and the first value of an option counts.
DELIVERED = "/etc/ssh/sshd_config.d/00-gandi-delivered.conf"
#: Debian's openssh-server copies it to CONFIG (postinst); it includes the drop-ins first and has no Match.
SHIPPED = "/usr/share/openssh/sshd_config"
#: ``sshd -T`` fails without this folder, which sshd's unit makes when it starts.
_RUN = "/run/sshd"
#: The mark of an instance for which this step is done.
_MARK = "ssh"
_ROOT = "PermitRootLogin"
_OPTIONS = {"PermitEmptyPasswords": "no", _ROOT: "prohibit-password"}
#: The values as ``sshd -T`` prints them; for prohibit-password it prints the name from before OpenSSH 7.0.
_SPELLED = {"prohibit-password": ("prohibit-password", "without-password"), "no": ("no",)}
_HEADER = (
    "# Written by gandi-agent when this machine was set up; it does not come back once it is removed.\n"
)
_DELIVERED_HEADER = "# Written by gandi-agent from the platform's document; what is changed here stays.\n"
#: Depth of Include that sshd allows (sshd_config(5)).
_DEEPEST = 16
_SETTING = re.compile(r"^[ \t\r]*([A-Za-z]+)(?:[ \t\r]*=[ \t\r]*|[ \t\r]+)(.*?)[ \t\r\f]*$", re.MULTILINE)
_HINT = "correct it, then: systemctl restart gandi-bootstrap"


def apply(ctx: Context) -> Iterator[Item]:
    """Reconcile the drop-ins.

    Raise ConfigError if sshd refuses the configuration also without it, HostError if it had to be
    removed.
    """
    host = ctx.host
    if not host.exists(SSHD):
        yield skipped("ssh", "sshd is not installed")
        return
    if (ctx.config and ctx.config.sshd) or host.exists(DELIVERED):
        yield from guarded("sshd options", _delivered(ctx))
    if ctx.state.is_done(_MARK):
        yield unchanged("ssh", "settled when this machine was set up")
        return
    files = _files(host, CONFIG)
    if not any(fnmatch(DROP_IN, pattern) for pattern in _included(files)):
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
    if has_keys and not host.dry_run and not is_shipped:
        try:
            _check(host, wanted)
        except HostError:
            host.remove(DROP_IN)
            _check_without(host)
            raise
    if has_keys or is_shipped:
        ctx.state.mark_done(_MARK)
    _reload(host)
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
        name.lower() for path, text in files.items() if path != DROP_IN for name, _ in _SETTING.findall(text)
    }
    if not _has_another_way_in(ctx):
        said.add(_ROOT.lower())
    return {name: value for name, value in _OPTIONS.items() if name.lower() not in said}


def _delivered(ctx: Context) -> Iterator[Item]:
    """Reconcile the drop-in of the document's options. Raise ConfigError if sshd does not read it."""
    host, item, sshd = ctx.host, "sshd:options", ctx.config.sshd if ctx.config else None
    options = list[str]()
    if sshd is not None and sshd.passwords is not None:
        options.append(f"PasswordAuthentication {'yes' if sshd.passwords else 'no'}")
    if sshd is not None and sshd.disable_root:
        if _has_another_way_in(ctx, is_root_refused=True):
            options.append(f"{_ROOT} no")
        else:
            hint = "deliver another account with a key or a password"
            yield failed("disable_root", "not done: no other account could log in", hint)
    options += [f"HostCertificate {path}" for path in (sshd.certificates if sshd else ())]
    live = host.read(DELIVERED)
    if not options:
        if ctx.config and not ctx.config.partial:
            yield ctx.state.withdraw(item, live=live, undo=lambda: _remove(host))
        return
    if not any(fnmatch(DELIVERED, pattern) for pattern in _included(_files(host, CONFIG))):
        what = f"{CONFIG} does not include {os.path.dirname(DELIVERED)}: sshd's options cannot be set"
        raise ConfigError(what, hint="add the line Include /etc/ssh/sshd_config.d/*.conf at its top")
    text = _DELIVERED_HEADER + "".join(f"{option}\n" for option in options)

    def write() -> None:
        host.write(DELIVERED, text)
        _reload(host)

    yield ctx.state.reconcile(
        item, delivered=text, wanted=text, live=live, apply=write, exclusive=True, detail=", ".join(options)
    )


def _remove(host: Host) -> None:
    host.remove(DELIVERED)
    _reload(host)


def _has_another_way_in(ctx: Context, *, is_root_refused: bool = False) -> bool:
    """Return whether a delivered account can log in when root's password, or all of root, is refused."""
    for user in ctx.config.users if ctx.config else ():
        name = user.name or ctx.settings.default_user
        # The document holds no plain password: those are in ctx.secrets.
        password = (user.password and not user.locked) or ctx.secrets.get(user.name)
        # A sealed one counts if it could be opened: a new account's field is a lock.
        opened = user.sealed and not (passwd.password(ctx.host, name) or "!").startswith(("!", "*"))
        way_in = user.keys or ((password or opened) and name != "root")
        if is_root_refused and name == "root":
            continue
        if way_in and passwd.account(ctx.host, name):
            return True
    return False


# -- what the files say ------------------------------------------------------------------


def _files(host: Host, name: str, depth: int = 0) -> dict[str, str]:
    """Return the text of each file of sshd's configuration, by path; Include is followed."""
    text = host.read(name)
    if text is None:
        return {}
    found = {name: text}
    if depth < _DEEPEST:
        for pattern in _included({name: text}):
            for path in _matching(host, pattern):
                found |= _files(host, path, depth + 1)
    return found


def _included(files: dict[str, str]) -> list[str]:
    """Return the patterns of all Include lines as absolute paths."""
    patterns = [
        word.strip('"')
        for text in files.values()
        for name, value in _SETTING.findall(text)
        if name.lower() == "include"
        for word in words(value)
    ]
    return [word if word.startswith("/") else f"{FOLDER}/{word}" for word in patterns]


def _matching(host: Host, pattern: str) -> list[str]:
    folder, _, last = pattern.rpartition("/")
    return [f"{folder}/{name}" for name in listed(host, folder) if fnmatch(name, last)]


# -- what sshd says ----------------------------------------------------------------------


def _check(host: Host, wanted: dict[str, str]) -> None:
    """Raise HostError if sshd refuses the drop-in, or it has no effect."""
    host.mkdir(_RUN)
    effect = _effective_options(host)
    if isinstance(effect, str):
        raise HostError(f"sshd refuses {DROP_IN}, which was removed: {effect}", hint=_HINT)
    for name, value in wanted.items():
        found = effect.get(name.lower(), "")
        if found not in _SPELLED[value]:
            raise HostError(
                f"{DROP_IN} was removed: it has no effect, {name} is {found or 'unknown'}",
                hint=f"let {CONFIG} include it before any Match; then: systemctl restart gandi-bootstrap",
            )


def _check_without(host: Host) -> None:
    """Raise ConfigError if sshd refuses its configuration without the drop-in."""
    if isinstance(refused := _effective_options(host), str):
        raise ConfigError(
            f"sshd refuses its configuration without {DROP_IN}: {refused}; nothing changed", hint=_HINT
        )


def _effective_options(host: Host) -> dict[str, str] | str:
    """Return each option's value in force, or, as text, why sshd would not start (with file and line)."""
    done = host.run((SSHD, "-T"), check=False, changes=False)
    if done.returncode:
        return "; ".join(lines(done.stderr.strip(WHITE))[:2]) or f"exit status {done.returncode}"
    pairs = (line.partition(" ") for line in lines(done.stdout))
    return {name.lower(): value for name, _, value in pairs}


def _reload(host: Host) -> None:
    """Reload sshd if it runs already, without waiting for it."""
    if host.live:
        unit = "ssh.service" if host.exists("/usr/lib/systemd/system/ssh.service") else "sshd.service"
        if units.is_active(host, unit):
            host.run(("systemctl", "--no-block", "reload", unit), check=False)
