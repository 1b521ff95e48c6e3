"""Step: set the machine's name in the kernel, /etc/hostname, /etc/hosts and, if it exists, /etc/mailname.

Not with hostnamectl: before basic.target systemd-hostnamed cannot be reached on the system bus. The kernel's
name follows /etc/hostname: when the administrator has changed that file, neither is touched.
"""

from __future__ import annotations

from agent.lib.text import WHITE, lines, words
from agent.report import changed, skipped, unchanged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.model import InstanceConfig, Naming
    from agent.context import Context
    from agent.host.host import Host
    from agent.report import Item
    from agent.state.store import State

#: The address that Debian gives the machine's name when it has no permanent one (Debian Reference, 5.1.1).
_NO_ADDRESS = "127.0.1.1"
_KERNEL = "/proc/sys/kernel/hostname"
#: Characters at most in the kernel's name (HOST_NAME_MAX of gethostname(2)).
_LONGEST = 64


def apply(ctx: Context) -> Iterator[Item]:
    """Reconcile the name in each place, as one item each."""
    config = ctx.config
    if config is None or not config.hostname:
        return
    naming, host = config.naming, ctx.host
    name = full = config.hostname
    if naming is not None and naming.fqdn:
        full = naming.fqdn
        name = full if naming.prefer_fqdn else name
    if naming is not None and naming.preserve:
        yield skipped("hostname", "preserve_hostname: the machine keeps its own")
    else:
        yield _hostname(ctx, name, naming)
    # As in cloud-init: a machine that keeps its name has the line only if that is delivered.
    if naming is None or (naming.hosts != "off" and (naming.hosts or not naming.preserve)):
        yield _hosts(ctx, config, full)
    mailname = _line(host, "/etc/mailname")
    if mailname is not None and not (naming and naming.preserve):
        yield ctx.state.reconcile(
            "mailname",
            wanted=full,
            live=mailname,
            apply=lambda: host.write("/etc/mailname", f"{full}\n"),
        )


def _hostname(ctx: Context, name: str, naming: Naming | None) -> Item:
    host, live = ctx.host, _line(ctx.host, "/etc/hostname")
    # A longer one has at least one dot; systemd ignores an /etc/hostname that the kernel would not take.
    short = name if len(name) <= _LONGEST else name.partition(".")[0]
    if naming is not None and not naming.create_file and live is None:
        return _kernel_name(host, short)
    return ctx.state.reconcile(
        "hostname",
        delivered=name,
        wanted=short,
        live=live,
        apply=lambda: _rename(host, short),
        detail=short,
    )


def _kernel_name(host: Host, name: str) -> Item:
    """Set the kernel's name only, which it forgets at the end of each boot."""
    if not host.live or _line(host, _KERNEL) == name:
        return unchanged("hostname", name)
    host.sysfs_write(_KERNEL, name)
    return changed("hostname", name)


def _rename(host: Host, name: str) -> None:
    # The kernel first: where / is full or read-only, the machine still has its name until it is powered off.
    if host.live:
        host.sysfs_write(_KERNEL, name)
    host.write("/etc/hostname", f"{name}\n")


def _line(host: Host, name: str) -> str | None:
    text = host.read(name)
    return None if text is None else text.strip(WHITE)


def _hosts(ctx: Context, config: InstanceConfig, full: str) -> Item:
    name, hostname = full, config.hostname or full
    text = ctx.host.read("/etc/hosts") or "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    is_local = config.naming is not None and config.naming.hosts == "localhost"
    names = dict.fromkeys((name, hostname, hostname.partition(".")[0]))
    wanted = f"{_NO_ADDRESS if is_local else address(config)}\t{' '.join(names)}"
    own = agents_line(text, name, wanted, ctx.state)
    return ctx.state.reconcile(
        "hosts",
        wanted=wanted,
        live=own,
        apply=lambda: ctx.host.write("/etc/hosts", with_line(text, own, wanted)),
    )


def address(config: InstanceConfig) -> str:
    """Return the address for the machine's name in /etc/hosts: the first of the lowest-numbered NIC, IPv4
    before IPv6; else 127.0.1.1.
    """
    addresses = [
        a.partition("/")[0] for n in sorted(config.nics, key=lambda n: n.number) for a in n.addresses
    ]
    addresses.sort(key=lambda one: ":" in one)
    return addresses[0] if addresses else _NO_ADDRESS


def agents_line(text: str, name: str, wanted: str, state: State) -> str | None:
    """Return the line of /etc/hosts for this machine's name, or None.

    In this order: the wanted line, the line that the agent wrote last, one that has the name, Debian's
    127.0.1.1. A line that also names localhost is never chosen, since replacing it would lose localhost.
    """
    known = [line for line in lines(text) if _names(line) and "localhost" not in _names(line)]
    short = name.partition(".")[0]
    tests = (
        lambda line: line == wanted,
        lambda line: state.is_as_applied("hosts", line),
        lambda line: name in _names(line) or short in _names(line),
        lambda line: words(line)[0] == _NO_ADDRESS,
    )
    return next((line for test in tests for line in known if test(line)), None)


def with_line(text: str, old: str | None, new: str) -> str:
    """Return the file with ``new`` in place of ``old``; without ``old``, ``new`` goes before the first blank
    line, at the end of the first block.
    """
    found = lines(text)
    if old is not None:
        found[found.index(old)] = new
    else:
        found.insert(found.index("") if "" in found else len(found), new)
    return "\n".join(found) + "\n"


def _names(line: str) -> list[str]:
    return words(line.partition("#")[0])[1:]
