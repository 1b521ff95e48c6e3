"""Whether the running machine was copied: its UUID is another than before. If so, what makes it a machine of
its own is renewed, where CONFIG_CLONE_RENEW=1.

DMI's files in sysfs show the UUID with which the machine booted, for as long as it runs. What the hypervisor
gives now is in QEMU's fw_cfg, where the kernel has its module, and in Xen's own file.
"""

from __future__ import annotations

from agent import stages
from agent.host import machine_uuid
from agent.report import Item, Outcome, changed, skipped, unchanged
from agent.state import regenerate
from agent.steps import hostkeys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.host.host import Host

#: SMBIOS structures as the firmware gets them (QEMU's docs/specs/fw_cfg), and the most bytes of them.
_TABLES, _LIMIT = "/sys/firmware/qemu_fw_cfg/by_name/etc/smbios/smbios-tables/raw", 1 << 16
#: SMBIOS 3.x, 7.2: the type of System Information, and where its UUID is.
_SYSTEM, _AT, _LENGTH = 1, 8, 16
#: The UUID for which the identity was renewed last in this boot.
_RENEWED = "/run/gandi/renewed-uuid"
_HINT = "set CONFIG_CLONE_RENEW=1 before machines are copied; now: gandi-agent clean, then reboot"


def check(ctx: Context) -> Iterator[Item]:
    """Renew SSH host keys and machine-id if the UUID has changed and the setting allows it."""
    now, before = _current_uuid(ctx.host), _recorded_uuid(ctx)
    if not now or not before:
        yield skipped("identity", "this machine has no UUID by which a copy could be recognised")
        return
    if machine_uuid.is_same_uuid(now, before):
        yield unchanged("identity", "the same UUID")
        return
    if not ctx.settings.clone_renew:
        why = f"the UUID is {now} and was {before}: this looks like a copy; CONFIG_CLONE_RENEW=0"
        yield Item("identity", Outcome.KEPT, why, _HINT)
        return
    yield changed("identity", f"the UUID is {now} and was {before}: renewed")
    yield from _renew(ctx)
    ctx.host.write(_RENEWED, f"{now}\n", mode=0o600)
    ctx.state.record_uuid(now)


def _renew(ctx: Context) -> Iterator[Item]:
    """Renew by the steps of a new instance: notes first, so that after a power cut the next boot goes on."""
    if ctx.state.config() is None:
        if ctx.settings.ssh_hostkeys:
            yield from hostkeys.renew(ctx)
        else:
            yield skipped("host keys", "CONFIG_SSH_HOSTKEYS=0")
        yield skipped("machine-id", "no document is in force; for a new one: gandi-agent clean, then reboot")
        return
    regenerate.schedule(ctx)
    for step in ("host keys", "machine-id"):
        yield from stages.rerun_step(ctx, step)


def _recorded_uuid(ctx: Context) -> str:
    """Return the UUID of before: for which it was renewed, of the instance's first boot, or of this boot."""
    renewed = machine_uuid.normalise(ctx.host.read(_RENEWED) or "")
    return renewed or ctx.state.dmi_uuid() or machine_uuid.read_uuid(ctx.host)


def _current_uuid(host: Host) -> str:
    return uuid_in(host.read_bytes(_TABLES, limit=_LIMIT) or b"") or machine_uuid.read_uuid(host)


def uuid_in(tables: bytes) -> str:
    """Return the UUID in SMBIOS structures, "" if there is none or they are not such."""
    at = 0
    while at + 4 <= len(tables):
        kind, length = tables[at], tables[at + 1]
        if length < 4:
            return ""
        if kind == _SYSTEM:
            raw = tables[at + _AT : at + _AT + _LENGTH] if length >= _AT + _LENGTH else b""
            return machine_uuid.normalise(_spelled(raw)) if len(raw) == _LENGTH else ""
        # The texts of a structure end with two NULs.
        end = tables.find(b"\0\0", at + length)
        if end < 0:
            return ""
        at = end + 2
    return ""


def _spelled(raw: bytes) -> str:
    """Return the UUID as the kernel spells it: the first three fields are little-endian (SMBIOS 2.6)."""
    fields = (raw[3::-1], raw[5:3:-1], raw[7:5:-1], raw[8:10], raw[10:])
    return "-".join(field.hex() for field in fields)
