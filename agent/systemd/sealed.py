"""Values that only this machine can open: sealed by systemd-creds(1) with its host key or its TPM2."""

from __future__ import annotations

from agent.lib.errors import ConfigError, HostError
from agent.lib.text import joined

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host

#: The name that is sealed into each value: what was sealed for another program is refused.
NAME = "gandi-agent"
LEFT = "sealed: left to the machine's first boot, which can open it"
#: Seconds for the program. A TPM2 needs a few.
_TIMEOUT = 30.0
#: Most bytes of an opened value: systemd's own limit for a credential.
_LIMIT = 1 << 20
#: Most characters of the program's message in an item.
_SHOWN = 300


def opened(host: Host, sealed: str, what: str) -> str:
    """Return the open text, which must be UTF-8. ``what`` names the value for an error.

    Raise ConfigError with the remedy if systemd-creds is missing, or refuses the value: it was sealed on
    another machine, with another key or name, is damaged, or has expired. Raise HostError if it does not
    end in time.
    """
    if not host.which("systemd-creds"):
        hint = "install systemd's systemd-creds (in Debian: the package systemd), or deliver it unsealed"
        raise ConfigError(f"{what} is sealed, and systemd-creds is not installed", hint=hint)
    argv = ("systemd-creds", "decrypt", f"--name={NAME}", "-", "-")
    try:
        # Its error is not Host.run's, which could quote the output.
        done = host.run(
            argv, stdin=sealed.encode(), timeout=_TIMEOUT, check=False, changes=False, limit=_LIMIT
        )
    except HostError as error:
        raise HostError(f"{what} is sealed, and was not opened: {error.message}", hint=error.hint) from error
    if done.returncode:
        hint = f"seal it on this machine: systemd-creds encrypt --name={NAME} - -"
        why = joined(done.stderr)[-_SHOWN:]
        raise ConfigError(f"{what} is sealed, and this machine cannot open it: {why}", hint=hint)
    if "\ufffd" in done.stdout:
        hint = "seal text, or for a file seal its base64 and deliver encoding base64"
        raise ConfigError(f"{what} is sealed, and what is in it is not UTF-8 text", hint=hint)
    return done.stdout
