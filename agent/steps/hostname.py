"""Step: the machine's name, in the kernel, /etc/hostname, /etc/hosts and, where there is one,
/etc/mailname.

Not by hostnamectl: before basic.target nobody answers on the system bus. The kernel's name follows
/etc/hostname: when the administrator has changed that file, neither is touched.
"""

from __future__ import annotations

from agent.lib.text import WHITE, lines, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.model import InstanceConfig
    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item
    from agent.state.store import State

#: Where Debian puts the system's own name when it has no permanent address (Debian Reference, 5.1.1).
_NO_ADDRESS = "127.0.1.1"
_KERNEL = "/proc/sys/kernel/hostname"
#: Characters of the kernel's name at the most (HOST_NAME_MAX of gethostname(2)).
_LONGEST = 64


def apply(ctx: Context) -> Iterator[Item]:
    """Settle the name in each of its places."""
    config = ctx.config
    if config is None or not config.hostname:
        return
    name, host = config.hostname, ctx.host
    # A longer one has at least one dot; systemd ignores an /etc/hostname that the kernel would not take.
    short = name if len(name) <= _LONGEST else name.partition(".")[0]
    yield ctx.state.settle(
        "hostname",
        delivered=name,
        wanted=short,
        live=_line(host, "/etc/hostname"),
        apply=lambda: _rename(host, short),
        detail=short,
    )
    yield _hosts(ctx, config, name)
    mailname = _line(host, "/etc/mailname")
    if mailname is not None:
        yield ctx.state.settle(
            "mailname",
            delivered=name,
            wanted=name,
            live=mailname,
            apply=lambda: host.write("/etc/mailname", f"{name}\n"),
        )


def _rename(host: Host, name: str) -> None:
    # The kernel first: a machine whose / is full or read-only still has its name until it is switched off.
    if host.live:
        host.sysfs_write(_KERNEL, name)
    host.write("/etc/hostname", f"{name}\n")


def _line(host: Host, name: str) -> str | None:
    text = host.read(name)
    return None if text is None else text.strip(WHITE)


def _hosts(ctx: Context, config: InstanceConfig, name: str) -> Item:
    text = ctx.host.read("/etc/hosts") or "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    wanted = f"{address(config)}\t{' '.join(dict.fromkeys((name, name.partition('.')[0])))}"
    own = own_line(text, name, wanted, ctx.state)
    return ctx.state.settle(
        "hosts",
        delivered=wanted,
        wanted=wanted,
        live=own,
        apply=lambda: ctx.host.write("/etc/hosts", with_line(text, own, wanted)),
    )


def address(config: InstanceConfig) -> str:
    """The address that the machine's name stands for: the lowest-numbered NIC's first, IPv4 before IPv6."""
    addresses = [
        a.partition("/")[0] for n in sorted(config.nics, key=lambda n: n.number) for a in n.addresses
    ]
    addresses.sort(key=lambda one: ":" in one)
    return addresses[0] if addresses else _NO_ADDRESS


def own_line(text: str, name: str, wanted: str, state: State) -> str | None:
    """The line of /etc/hosts that stands for this machine: the wanted one, else ours, else one with its
    name, else Debian's 127.0.1.1. A line that also names localhost is never taken: it is needed as it
    is.
    """
    known = [line for line in lines(text) if _names(line) and "localhost" not in _names(line)]
    short = name.partition(".")[0]
    tests = (
        lambda line: line == wanted,
        lambda line: state.is_ours("hosts", line),
        lambda line: name in _names(line) or short in _names(line),
        lambda line: words(line)[0] == _NO_ADDRESS,
    )
    return next((line for test in tests for line in known if test(line)), None)


def with_line(text: str, old: str | None, new: str) -> str:
    """The file with ``new`` in place of ``old``, or before the first blank line, so beside the machine's
    other names; the rest as it was.
    """
    found = lines(text)
    if old is not None:
        found[found.index(old)] = new
    else:
        found.insert(found.index("") if "" in found else len(found), new)
    return "\n".join(found) + "\n"


def _names(line: str) -> list[str]:
    return words(line.partition("#")[0])[1:]
