"""Step: unpack the installed kernel images on a machine with a loader that cannot unpack them (Xen PV).

An image may come from a machine that can boot them packed. Kernels that are installed later are unpacked by
bin/kernel-hook.
"""

from __future__ import annotations

from agent.host import machine_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.report import Item


def apply(ctx: Context) -> Iterator[Item]:
    """Unpack each compressed kernel; yield nothing if the setting or the machine needs none unpacked."""
    setting = ctx.settings.decompress_kernel
    if setting == "0" or (setting == "auto" and not machine_uuid.is_xen_pv(ctx.host)):
        return
    from agent.image import kernel_image

    yield from kernel_image.unpack_all(ctx.host, kernel_image.installed(ctx.host))
