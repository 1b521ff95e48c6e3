"""A changed network that locks the machine out is taken back (CONFIG_NETWORK_ROLLBACK).

Where a changed document has another network, the source step stores the former one beside it (``note``). If
the network is up already, the network step then applies the new one and asks the default gateways: of each
IP version for which one answered before, one must answer again. Else the former network is applied, and
stays in force until the document has another one.

    instances/<id>/network.json     phase, digest of the new network, the former one, the texts of its files

The phase is stored before the files are written, so a program that is killed in between leaves enough: the
next scan of devices finishes the judgement or the withdrawal (``is_undecided``). At a boot the new network
is applied first, and judged when it is up.
"""

from __future__ import annotations

import os
from functools import partial

from agent.config import nics
from agent.lib.canonical_json import canonical
from agent.lib.errors import AgentError, HostError
from agent.lib.records import replace
from agent.network import nic_inventory
from agent.network.managers import MANAGERS, keys
from agent.report import Item, Outcome
from agent.state import json_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, Protocol

    from agent.config.model import InstanceConfig
    from agent.config.nics import Nic
    from agent.context import Context
    from agent.host.host import Host
    from agent.network.gateways import Gateway

    class Configure(Protocol):
        """The network step, which calls ``before_reload`` before the manager reads its files."""

        def __call__(
            self, ctx: Context, before_reload: Callable[[], object] = ..., *, is_resumed: bool = ...
        ) -> Iterator[Item]: ...


#: Phases: a change that was not applied yet; applied and not judged; refused and not withdrawn; refused.
_NOTED, _APPLIED, _WITHDRAWING, _REFUSED = "noted", "applied", "withdrawing", "refused"
#: Seconds without a change of links, addresses and routes, after which the gateways are asked.
_CALM = 3.0
_HINT = "correct the network in the platform's document: it is tried again when its network has changed"
_NOTE = "network"


def note(ctx: Context, former: InstanceConfig | None, config: InstanceConfig) -> None:
    """Store the network in force, if the document has another one; None: there was no document."""
    if not (ctx.settings.network and ctx.settings.network_rollback):
        return
    record = _load(ctx) if nic_inventory.has_guard(ctx) else None
    wanted = _network(config)
    if record and record["network"] == _digest(wanted):
        return
    stays = _network(former) if former else {"nics": [], "disabled": False}
    # With a record, the stored document was not applied or judged yet, or was refused.
    stays = record["former"] if record else stays
    if stays == wanted:
        _forget(ctx)
        return
    _store(ctx, {"phase": _NOTED, "network": _digest(wanted), "former": stays})


def is_undecided(ctx: Context) -> bool:
    """Return whether a network was applied and not judged, or refused and not withdrawn to the end."""
    record = _load(ctx) if nic_inventory.has_guard(ctx) else None
    return record is not None and record["phase"] in (_APPLIED, _WITHDRAWING)


def guarded(ctx: Context, configure: Configure) -> Iterator[Item]:
    """Run the network step with the document's network, or, if that was refused, with the former one."""
    from agent.network import gateways

    record, seconds = _load(ctx), ctx.settings.network_rollback
    # The first run of a boot is before the network is up: nothing has answered yet.
    is_up = not ctx.host.offline and not ctx.host.dry_run and nic_inventory.recorded(ctx.host) is not None
    if ctx.config is None or record is None:
        yield from configure(ctx)
        return
    if record["network"] != _digest(_network(ctx.config)) or not seconds:
        yield from _unguarded(ctx, configure)
        return
    if record["phase"] in (_WITHDRAWING, _REFUSED):
        yield from _withdraw(ctx, configure, record)
        return
    if not is_up and record["phase"] == _APPLIED:
        yield from configure(ctx)
        return
    is_resumed = record["phase"] == _APPLIED
    if not is_resumed:
        answering = list(gateways.answering(ctx.host, gateways.defaults(ctx.host))) if is_up else []
        if not answering:
            yield from _unguarded(ctx, configure)
            return
        record |= {
            "phase": _APPLIED,
            "gateways": [[one.family, one.address, one.device] for one in answering],
            "texts": _texts(ctx.host),
            "pairs": {str(number): mac for number, mac in ctx.state.nic_pairs().items()},
        }
        _store(ctx, record)
    yield from _apply(ctx, configure, record, is_resumed=is_resumed)


def _unguarded(ctx: Context, configure: Configure) -> Iterator[Item]:
    yield from configure(ctx)
    if not ctx.host.dry_run:
        _forget(ctx)


def _apply(
    ctx: Context, configure: Configure, record: dict[str, Any], *, is_resumed: bool
) -> Iterator[Item]:
    """Apply the document's network and judge it; yield what was done, and the failure if it is withdrawn."""
    problem: AgentError | None = None
    seconds, is_changed = ctx.settings.network_rollback, is_resumed
    try:
        for item in configure(ctx, is_resumed=is_resumed):
            is_changed = is_changed or item.outcome is Outcome.CHANGED
            yield item
    except AgentError as error:  # such as a NIC that ifup(8) could not start: the gateways decide
        problem, is_changed = error, True
    if is_changed:
        with ctx.waiting(f"a default gateway to answer (at most {seconds} s)"):
            why = _judge(ctx, record, seconds)
        if why:
            record |= {"phase": _WITHDRAWING, "reason": why}
            _store(ctx, record)
            yield from _withdraw(ctx, configure, record)
            return
    _forget(ctx)
    if problem:
        raise problem


def _judge(ctx: Context, record: Mapping[str, Any], seconds: int) -> str:
    """Wait until a gateway of each IP version answers that did before; return why not, or "".

    An IP version for which the document has no gateway any more is not asked about, unless none is left:
    then the former gateway must answer.
    """
    from agent.network import gateways

    before = [gateways.Gateway(*one) for one in record["gateways"]]
    asked: list[str] = []

    def is_fine() -> bool:
        asked.clear()
        found, judged = gateways.defaults(ctx.host), False
        for family in sorted({one.family for one in before}):
            ours = [one for one in found if one.family == family]
            if not ours and not _wants_gateway(ctx.config, record["former"], family):
                continue
            judged = True
            if not _any_answers(ctx.host, ours):
                asked.append(f"IPv{family}: {_named(ours) or 'there is none'}")
        if not judged and not _any_answers(ctx.host, before):
            asked.append(f"none is left, and the former: {_named(before)}")
        return not asked

    if gateways.wait(is_fine, float(seconds), _CALM):
        return ""
    return f"no default gateway answered within {seconds} s ({'; '.join(asked)}); one did before"


def _any_answers(host: Host, there: list[Gateway]) -> bool:
    """Return whether one answers, or cannot be asked."""
    from agent.network import gateways

    return any(gateways.answers(host, one) is not False for one in there)


def _named(there: list[Gateway]) -> str:
    return " and ".join(f"{one.address} on {one.device}" for one in there)


def _wants_gateway(config: InstanceConfig | None, former: Mapping[str, Any], family: int) -> bool:
    """Return whether the document has a default route of that IP version, or lets one be learned.

    One of IPv6 counts as learned only if the former document had none: routers are listened to by default.
    """
    found = config.nics if config else ()
    if family == 4:
        return not found or any(nic.dhcp4 or _has_default(nic, "0.0.0.0/0") for nic in found)
    was_learned = not any(_has_default(nics.from_dict(nic), "::/0") for nic in former["nics"])
    learns = any(nic.accept_ra and nic.ra_gateway for nic in found)
    return not found or (was_learned and learns) or any(_has_default(nic, "::/0") for nic in found)


def _has_default(nic: Nic, everything: str) -> bool:
    return any(one.destination == everything and one.table is None for one in nic.routes)


def _withdraw(ctx: Context, configure: Configure, record: dict[str, Any]) -> Iterator[Item]:
    """Apply the former network, and keep it in force; yield what was done, and why."""
    is_first = record["phase"] == _WITHDRAWING and not ctx.host.dry_run
    if is_first:
        ctx.state.store_nic_pairs({int(number): mac for number, mac in record["pairs"].items()})
    former = replace(ctx, config=_with(ctx.config, record["former"], is_withdrawn=is_first))
    put_back = partial(_put_back, ctx.host, record["texts"] if is_first else {})
    yield from configure(former, put_back, is_resumed=is_first)
    why = f"taken back: {record['reason']}; the former network is in force"
    if is_first:
        rest = {name: record[name] for name in ("network", "former", "reason")}
        _store(ctx, rest | {"phase": _REFUSED})
    if not ctx.host.dry_run:
        ctx.status.merge("notes", _NOTE, f"the document's was {why}; {_HINT}")
    yield Item("network", Outcome.FAILED if is_first else Outcome.KEPT, why, _HINT)


def _with(
    config: InstanceConfig | None, network: Mapping[str, Any], *, is_withdrawn: bool
) -> InstanceConfig | None:
    """Return the document with another network. While one is withdrawn, its files are removed also if the
    other one is that of the image, or of no document.
    """
    return config and replace(
        config,
        nics=tuple(nics.from_dict(nic) for nic in network["nics"]),
        network_disabled=network["disabled"] and not is_withdrawn,
        partial=config.partial and not is_withdrawn,
    )


def _texts(host: Host) -> dict[str, list[Any]]:
    """Return mode and text of each file that the agent has for a network manager, by path."""
    found: dict[str, list[Any]] = {}
    for manager in MANAGERS:
        folder, _, prefix = manager.path_prefix.rpartition("/")
        for name in host.names(folder) if keys(host, manager.name) else ():
            path = f"{folder}/{name}"
            if name.startswith(prefix) and (text := host.read(path)) is not None:
                found[path] = [os.stat(host.path(path)).st_mode & 0o777, text]
    return found


def _put_back(host: Host, texts: Mapping[str, list[Any]]) -> None:
    """Write the former files where the step has written others: the administrator had changed them."""
    for path, (mode, text) in texts.items():
        if host.read(path) not in (None, text):
            host.write(path, text, mode=mode)


def _network(config: InstanceConfig) -> dict[str, Any]:
    return {"nics": [nics.to_dict(nic) for nic in config.nics], "disabled": config.network_disabled}


def _digest(network: Mapping[str, Any]) -> str:
    return json_file.digest(canonical(network))


def _load(ctx: Context) -> dict[str, Any] | None:
    """Return the record, None without one. Raise HostError if it is damaged."""
    path = nic_inventory.guard_file(ctx)
    record = json_file.load(ctx.host, path)
    if record is not None and not {"phase", "network", "former"} <= record.keys():
        raise HostError(f"{path}: damaged: a part of it is missing", hint="remove it")
    return record


def _store(ctx: Context, record: Mapping[str, Any]) -> None:
    json_file.store(ctx.host, nic_inventory.guard_file(ctx), record)


def _forget(ctx: Context) -> None:
    ctx.host.remove(nic_inventory.guard_file(ctx))
    if _NOTE in ctx.status.read()["notes"]:
        ctx.status.merge("notes", _NOTE, None)
