"""Step: set the keyboard (cloud-config's ``keyboard``): Debian's keyboard(5), elsewhere vconsole.conf(5)."""

from __future__ import annotations

from agent.lib import assignments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.system import Keyboard
    from agent.context import Context
    from agent.report import Item

_DEBIAN, _VCONSOLE = "/etc/default/keyboard", "/etc/vconsole.conf"
#: The services that read the file; one that is not active is not started.
_SERVICES = {_DEBIAN: "keyboard-setup.service", _VCONSOLE: "systemd-vconsole-setup.service"}


def apply(ctx: Context) -> Iterator[Item]:
    """Reconcile the keyboard's values as one item."""
    keyboard = ctx.config.system.keyboard if ctx.config and ctx.config.system else None
    if keyboard is None:
        return
    path = _DEBIAN if ctx.host.exists("/etc/debian_version") else _VCONSOLE
    text, values = ctx.host.read(path) or "", _values(keyboard, path)
    live = {name: assignments.value(text, name) or "" for name in values}
    yield ctx.state.reconcile(
        "keyboard",
        delivered="\n".join(_values(keyboard, _DEBIAN).values()),
        wanted=_shown(values),
        live=_shown(live) if any(live.values()) else None,
        apply=lambda: _set(ctx, path, assignments.with_values(text, values)),
        detail=keyboard.layout,
    )


def _values(keyboard: Keyboard, path: str) -> dict[str, str]:
    values = {
        "XKBMODEL": keyboard.model,
        "XKBLAYOUT": keyboard.layout,
        "XKBVARIANT": keyboard.variant,
        "XKBOPTIONS": keyboard.options,
    }
    return values if path == _DEBIAN else {"KEYMAP": keyboard.layout.partition(",")[0]} | values


def _shown(values: dict[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _set(ctx: Context, path: str, text: str) -> None:
    ctx.host.write(path, text)
    if ctx.host.live:
        ctx.host.run(("systemctl", "--no-block", "try-restart", _SERVICES[path]), check=False)
