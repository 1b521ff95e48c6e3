"""Step: the installed kernels, on a machine whose loader needs them unpacked (Xen PV): an image that was
made elsewhere could not know. Later kernels are unpacked as they are installed (bin/kernel-hook).
"""

from __future__ import annotations

from agent.host import machine_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.context import Context
    from agent.report import Item


def apply(ctx: Context) -> Iterator[Item]:
    """Unpack each that is still packed; hardly any machine needs that, and the others hear nothing of it."""
    setting = ctx.settings.decompress_kernel
    if setting == "0" or (setting == "auto" and not machine_uuid.is_xen_pv(ctx.host)):
        return
    from agent.image import kernel_image

    yield from kernel_image.unpack_all(ctx.host, kernel_image.installed(ctx.host))
