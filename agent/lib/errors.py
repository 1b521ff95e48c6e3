"""Two kinds of error, by the cause. Both have a remedy; only ``__main__`` turns one into an exit status."""

from __future__ import annotations


class AgentError(Exception):
    """An error to show to people: ``message`` names the place and the value's path, ``hint`` the remedy."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(AgentError):
    """The document or a setting is wrong; the operator of the platform or of the machine must correct it."""


class HostError(AgentError):
    """The running system refused: a command failed, a device vanished, a disk is full."""


class NeedsProgram(HostError):
    """A part needs a program of an image of which none is run (``Host.runs_programs``). It is not recorded
    as done, so the machine's first boot does it.
    """

    def __init__(self, program: str) -> None:
        super().__init__(f"left to the first boot: it needs {program} of the image, and none is run")
        self.program = program


class Busy(HostError):
    """Another process or thread holds a lock, and did not release it within the timeout."""
