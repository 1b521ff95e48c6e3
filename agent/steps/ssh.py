"""Step: have sshd refuse root's password and empty passwords, by a drop-in, once for each instance; and
write what the document says of sshd (ssh_pwauth, disable_root) to a drop-in of its own, which is reconciled.

The drop-in sets only options that no other file sets. PermitRootLogin is set only if a root key or
another account to log in to was delivered: otherwise a machine with nothing but root's password would lock
its owner out.

With the configuration that the distribution ships, sshd is known to accept the drop-in. With any other,
``sshd -T`` checks it: a drop-in that sshd refuses, or that has no effect, is removed; a configuration that
sshd refuses without it, too, is reported. That check takes longer than the rest of the stage, so later boots
do not repeat it.

Where sshd answers already, the document's options are taken back if it refuses them, or does not answer with
them within CONFIG_NETWORK_ROLLBACK seconds. They are not tried again until the document has others.

    instances/<id>/sshd.json     digest of the options, the drop-in's former text, why they were taken back
"""

from __future__ import annotations

import os
import re
from fnmatch import fnmatch

from agent.accounts import passwd
from agent.host.sysfs import listed
from agent.lib.errors import ConfigError, HostError
from agent.lib.text import WHITE, joined, lines, words
from agent.report import changed, failed, guarded, kept, skipped, unchanged
from agent.state import json_file
from agent.systemd import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.context import Context
    from agent.host.host import Host
    from agent.network.ssh_probe import Place
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
_TAKEN_BACK = "correct them in the platform's document: they are tried again when they have changed"
_CUT = "the agent was stopped before sshd had answered"
_NOTE = "sshd"


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
    live, text = host.read(DELIVERED), _DELIVERED_HEADER + "".join(f"{option}\n" for option in options)
    refused = json_file.load(host, _record(ctx))
    if refused and live and json_file.digest(live) == refused.get("options"):
        live = refused.get("former")  # the run that tried them was cut short
        _put_back(host, live)
    is_same = refused and refused.get("options") == json_file.digest(text)
    if refused and is_same and ctx.settings.network_rollback:
        yield _keep_former(ctx, str(refused.get("reason")))
        return
    if refused:
        _forget(ctx)
    if not options:
        if ctx.config and not ctx.config.partial:
            yield ctx.state.withdraw(item, live=live, undo=lambda: _put_back(host, None))
        return
    if not any(fnmatch(DELIVERED, pattern) for pattern in _included(_files(host, CONFIG))):
        what = f"{CONFIG} does not include {os.path.dirname(DELIVERED)}: sshd's options cannot be set"
        raise ConfigError(what, hint="add the line Include /etc/ssh/sshd_config.d/*.conf at its top")
    yield ctx.state.reconcile(
        item,
        delivered=text,
        wanted=text,
        live=live,
        apply=lambda: _write(ctx, text, options, live),
        exclusive=True,
        detail=", ".join(options),
    )


# -- options that lock out ---------------------------------------------------------------


def _write(ctx: Context, text: str, options: Sequence[str], former: str | None) -> None:
    """Write the document's options. Where sshd answers, raise ConfigError if it does not with them: the
    former ones are in force again then.
    """
    host, seconds = ctx.host, ctx.settings.network_rollback
    before = _answering(host) if seconds else ()
    if not before:
        host.write(DELIVERED, text)
        _reload(host)
        return
    record = {"options": json_file.digest(text), "former": former, "reason": _CUT}
    json_file.store(host, _record(ctx), record)
    effect = _effective_options(host, options)
    why = f"sshd refuses them: {effect}" if isinstance(effect, str) else ""
    if not why:
        host.write(DELIVERED, text)
        why = _why_silent(ctx, before, seconds)
        if why:
            _put_back(host, former)
    if not why:
        _forget(ctx)
        return
    json_file.store(host, _record(ctx), record | {"reason": why})
    raise ConfigError(_keep_former(ctx, why).detail, hint=_TAKEN_BACK)


def _why_silent(ctx: Context, before: tuple[Place, ...], seconds: int) -> str:
    """Have sshd read its files; return why it does not answer any more where it did before, or ""."""
    from agent.network import ssh_probe

    if why := _reload(ctx.host, wait=True):
        return f"sshd could not be reloaded: {why}"
    with ctx.waiting(f"sshd to answer (at most {seconds} s)"):
        answers = ssh_probe.wait(before, float(seconds))
    where = " and ".join(f"{address} port {port}" for address, port in before)
    return "" if answers else f"sshd did not answer at {where} within {seconds} s; it did before"


def _answering(host: Host) -> tuple[Place, ...]:
    """Return where sshd answers, () if it does not run, or refuses its files."""
    if not host.live:
        return ()
    from agent.network import ssh_probe

    effect = _effective_options(host)
    if isinstance(effect, str):
        return ()
    listened = (value for name, value in effect if name == "listenaddress")
    return ssh_probe.answering(ssh_probe.places(listened))


def _keep_former(ctx: Context, reason: str) -> Item:
    if not ctx.host.dry_run:
        ctx.status.merge("notes", _NOTE, f"the document's options were taken back: {reason}; {_TAKEN_BACK}")
    return kept("sshd:options", f"taken back: {reason}; the former options are in force")


def _put_back(host: Host, former: str | None) -> None:
    """Put the former drop-in in place, if there was one, and have sshd read it: also one that has failed."""
    if former is None:
        host.remove(DELIVERED)
    else:
        host.write(DELIVERED, former)
    _reload(host)


def _record(ctx: Context) -> str:
    return f"{ctx.state.folder()}/sshd.json"


def _forget(ctx: Context) -> None:
    ctx.host.remove(_record(ctx))
    if not ctx.host.dry_run and _NOTE in ctx.status.read()["notes"]:
        ctx.status.merge("notes", _NOTE, None)


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
        found = dict(effect).get(name.lower(), "")
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


def _effective_options(host: Host, options: Sequence[str] = ()) -> list[tuple[str, str]] | str:
    """Return each option in force with ``options`` before the files', or, as text, why sshd would not start
    (with file and line).
    """
    given = (word for option in options for word in ("-o", option))
    done = host.run((SSHD, "-T", *given), check=False, changes=False)
    if done.returncode:
        return "; ".join(lines(done.stderr.strip(WHITE))[:2]) or f"exit status {done.returncode}"
    pairs = (line.partition(" ") for line in lines(done.stdout))
    return [(name.lower(), value) for name, _, value in pairs]


def _reload(host: Host, *, wait: bool = False) -> str:
    """Reload sshd if it runs already, or start it if it has failed, without waiting for it unless ``wait``;
    return why that failed, or "".
    """
    unit = "ssh.service" if host.exists("/usr/lib/systemd/system/ssh.service") else "sshd.service"
    if not host.live or units.active_state(host, unit) not in ("active", "reloading", "failed"):
        return ""
    how = () if wait else ("--no-block",)
    done = host.run(("systemctl", *how, "reload-or-restart", unit), check=False)
    return joined(done.stderr) if done.returncode else ""
