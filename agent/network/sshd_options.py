"""sshd's options of the document (ssh_pwauth, disable_root, certificates), in a drop-in that is reconciled.

Where sshd answers already, they are taken back if it refuses them, or does not answer with them within
CONFIG_NETWORK_ROLLBACK seconds. They are not tried again until the document has others.

    instances/<id>/sshd.json     digest of the options, the drop-in's former text, why they were taken back
"""

from __future__ import annotations

import os
from fnmatch import fnmatch

from agent.lib.errors import ConfigError
from agent.network import ssh_probe, sshd
from agent.network.sshd import CONFIG, DELIVERED
from agent.report import failed, kept
from agent.state import json_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.context import Context
    from agent.host.host import Host
    from agent.network.ssh_probe import Place
    from agent.report import Item

_HEADER = "# Written by gandi-agent from the platform's document; what is changed here stays.\n"
_TAKEN_BACK = "correct them in the platform's document: they are tried again when they have changed"
_CUT = "the agent was stopped before sshd had answered"
_NOTE = "sshd"


def reconcile(ctx: Context) -> Iterator[Item]:
    """Reconcile the drop-in of the document's options. Raise ConfigError if sshd does not read it."""
    host, item, given = ctx.host, "sshd:options", ctx.config.sshd if ctx.config else None
    options = list[str]()
    if given is not None and given.passwords is not None:
        options.append(f"PasswordAuthentication {'yes' if given.passwords else 'no'}")
    if given is not None and given.disable_root:
        if sshd.has_another_way_in(ctx, is_root_refused=True):
            options.append(f"{sshd.ROOT} no")
        else:
            hint = "deliver another account with a key or a password"
            yield failed("disable_root", "not done: no other account could log in", hint)
    options += [f"HostCertificate {path}" for path in (given.certificates if given else ())]
    live, text = host.read(DELIVERED), _HEADER + "".join(f"{option}\n" for option in options)
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
    if not any(fnmatch(DELIVERED, pattern) for pattern in sshd.included(sshd.files(host, CONFIG))):
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


def _write(ctx: Context, text: str, options: Sequence[str], former: str | None) -> None:
    """Write the document's options. Where sshd answers, raise ConfigError if it does not with them: the
    former ones are in force again then.
    """
    host, seconds = ctx.host, ctx.settings.network_rollback
    before = _answering(host) if seconds else ()
    if not before:
        host.write(DELIVERED, text)
        sshd.reload(host)
        return
    record = {"options": json_file.digest(text), "former": former, "reason": _CUT}
    json_file.store(host, _record(ctx), record)
    effect = sshd.effective_options(host, options)
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
    if why := sshd.reload(ctx.host, wait=True):
        return f"sshd could not be reloaded: {why}"
    with ctx.waiting(f"sshd to answer (at most {seconds} s)"):
        answers = ssh_probe.wait(before, float(seconds))
    where = " and ".join(f"{address} port {port}" for address, port in before)
    return "" if answers else f"sshd did not answer at {where} within {seconds} s; it did before"


def _answering(host: Host) -> tuple[Place, ...]:
    """Return where sshd answers, () if it does not run, or refuses its files."""
    if not host.live:
        return ()
    effect = sshd.effective_options(host)
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
    sshd.reload(host)


def _record(ctx: Context) -> str:
    return f"{ctx.state.folder()}/sshd.json"


def _forget(ctx: Context) -> None:
    ctx.host.remove(_record(ctx))
    if not ctx.host.dry_run and _NOTE in ctx.status.read()["notes"]:
        ctx.status.merge("notes", _NOTE, None)
