"""What udev sets of a NIC before any network manager starts: its name and Wake-on-LAN, in systemd.link(5)
files.

udev reads such a file when the NIC appears, so at the first boot it comes too late. The agent then renames
the NIC itself, if it is down: the managers start later. One that is up is in use and is renamed at the next
boot. The agent compares the names at each boot, because udev cannot exchange those of two NICs.
"""

from __future__ import annotations

from functools import partial

from agent.host.sysfs import attribute
from agent.lib.errors import HostError
from agent.lib.records import replace
from agent.lib.text import HEADER
from agent.network.interfaces import given_name
from agent.report import Outcome, changed, failed, skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.config.nics import Nic
    from agent.context import Context
    from agent.host.host import Host
    from agent.network.interfaces import Interface
    from agent.report import Item

    Pair = tuple[Nic, Interface]
    #: The NICs with their names now, by what they were.
    Renamed = dict[Interface, Interface]

#: Prefix of the items of the files.
ITEM = "link:"
#: IFF_UP of linux/if.h.
_UP = 1
#: What systemd's 99-default.link says of all other NICs: udev uses the first file that matches.
_DEFAULTS = ("AlternativeNamesPolicy=database onboard slot path", "MACAddressPolicy=persistent")


def path(number: int) -> str:
    """Return the file of the NIC with that number; it sorts before netplan's."""
    return f"/etc/systemd/network/09-gandi-nic{number}.link"


def needs_file(nic: Nic) -> bool:
    """Return whether the document says something of the NIC that udev sets."""
    return nic.options is not None and (nic.options.set_name or nic.options.wake_on_lan) is not None


def render(nic: Nic, interface: Interface) -> str:
    """Return the text of the NIC's file."""
    name, wake = given_name(nic), nic.options.wake_on_lan if nic.options else None
    key = "PermanentMACAddress" if nic.options and nic.options.set_mac else "MACAddress"
    lines = [f"{key}={interface.mac}"] if interface.mac else [f"OriginalName={nic.name}"]
    lines += ["Type=ether", "Kind=!*", "", "[Link]"]
    lines += [f"Name={name}"] if name else ["NamePolicy=keep kernel database onboard slot path"]
    lines += _DEFAULTS
    lines += [f"WakeOnLan={'magic' if wake else 'off'}"] if wake is not None else []
    header = f"{HEADER}[Match]\n"
    return header + "".join(f"{line}\n" for line in lines)


def apply(ctx: Context, nics: Iterable[Nic], pairs: Iterable[Pair], done: list[Item]) -> Renamed:
    """Write the files of the paired NICs, withdraw those of NICs that need none any more, and rename the
    NICs. Return the renamed ones by what they were; add the items to ``done``.
    """
    names: dict[Interface, tuple[str, str]] = {}
    for nic, interface in pairs:
        if not needs_file(nic):
            continue
        item = _reconcile(ctx, nic, interface)
        done.append(item)
        name = given_name(nic)
        if name and name != interface.name and item.outcome is not Outcome.KEPT:
            names[interface] = (f"nic:{nic.number} set_name", name)
    wanted = {f"{ITEM}{nic.number}" for nic in nics if needs_file(nic)}
    is_whole = ctx.config is not None and not ctx.config.partial
    for recorded in ctx.state.recorded_items(ITEM) if is_whole else ():
        if recorded not in wanted:
            file = path(int(recorded.removeprefix(ITEM)))
            undo = partial(ctx.host.remove, file)
            done.append(ctx.state.withdraw(recorded, live=ctx.host.read(file), undo=undo))
    return _rename(ctx.host, names, done)


def _reconcile(ctx: Context, nic: Nic, interface: Interface) -> Item:
    file, text = path(nic.number), render(nic, interface)
    return ctx.state.reconcile(
        f"{ITEM}{nic.number}",
        wanted=text,
        live=ctx.host.read(file),
        apply=partial(ctx.host.write, file, text),
        exclusive=True,
        detail=f"{interface.name}, by udev from the next boot",
    )


def _rename(host: Host, names: dict[Interface, tuple[str, str]], done: list[Item]) -> Renamed:
    """Give each NIC that is down its name."""
    for one in [one for one in names if not host.offline and _is_up(host, one)]:
        item, name = names.pop(one)
        done.append(skipped(item, f"{one.name} is up: it is named {name} at the next boot"))
    wanted = {name for _item, name in names.values()}
    # A name that another of them has still is free once that one has a temporary name.
    moves = [(one, f"gandi{one.index}") for one in names if one.name in wanted]
    now: Renamed = {}
    for one, name in moves + [(one, name) for one, (_item, name) in names.items()]:
        try:
            now[one] = _renamed(host, now.get(one, one), name)
        except HostError as error:
            hint = "give each NIC a name that no other one has"
            done.append(failed(names[one][0], error.message, hint))
    if host.live:
        named = [(one, *names[one]) for one in now if now[one].name == names[one][1]]
        done += [changed(item, f"{one.name} is named {name}") for one, item, name in named]
    return now


def _renamed(host: Host, interface: Interface, name: str) -> Interface:
    if host.live:
        host.run(("ip", "link", "set", "dev", interface.name, "name", name))
    return replace(interface, name=name)


def _is_up(host: Host, interface: Interface) -> bool:
    flags = attribute(host, f"/sys/class/net/{interface.name}/flags")
    return bool(flags) and bool(int(flags, 16) & _UP)
