"""Whether the running machine was copied: its UUID is another than before. If so, what makes it a machine of
its own is renewed, where CONFIG_CLONE_RENEW=1.

DMI's files in sysfs and the device tree show the UUID with which the machine booted, for as long as it runs.
What the hypervisor gives now is in QEMU's fw_cfg, where the kernel has its module, in Xen's own file, and in
s390x's /proc/sysinfo. Where nothing of both is known, nothing is renewed.
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
    return renewed or ctx.state.dmi_uuid() or machine_uuid.uuid_of_boot(ctx.host)


def _current_uuid(host: Host) -> str:
    return machine_uuid.uuid_in_tables(host) or machine_uuid.read_uuid(host)
