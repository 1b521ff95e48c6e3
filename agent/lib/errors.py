"""Two kinds of error, by who must act. Both carry a remedy; only ``__main__`` turns one into an exit
status.
"""

from __future__ import annotations


class AgentError(Exception):
    """An error for people: ``message`` names the place, ``hint`` says what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(AgentError):
    """What was delivered or set is wrong; the operator of the platform or of the machine must act."""


class HostError(AgentError):
    """The running system refused: a command failed, a device vanished, a disk is full."""


class Busy(HostError):
    """Somebody else holds what is needed, and held it for longer than the wait was allowed to last."""
