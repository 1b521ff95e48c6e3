"""What the agent did about devices, from the kernel's message to the end of the work. Pure functions.

The times of the work are those of the journal's entries about a device; the status has the last work on each
device, also where nothing was changed. udev records when a device was ready, and the kernel's log when it
came or grew. A memory block leaves no such message.
"""

from __future__ import annotations

import re

from agent.lib.records import dataclass, replace
from agent.lib.text import number
from agent.systemd.journal import Message
from agent.timeline.recorded import STARTING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from agent.timeline.recorded import Entry

#: The marks of an event, in their order.
KERNEL, UDEV, DAEMON, BEGUN, DONE = "kernel", "udev", "daemon", "begun", "done"
AGENT = "gandi-agent.service"
#: Entries of one report are sent together: within these seconds of each other.
_TOGETHER = 0.5
#: The status has whole seconds: an entry of the journal is of the same work if it is this near.
_SAME = 2.0
#: Seconds before the work in which a message of the kernel can be what caused it.
_CAUSE = 30.0
#: What the kernel logs about devices that are handled together.
_LOGGED = {"cpu": r"CPU ?[0-9]+ has been hot-added", "nic": r"renamed from"}


@dataclass(frozen=True, slots=True)
class Event:
    """Work on a device. ``marks`` are points in time with their names; the last is its end."""

    device: str
    outcome: str
    text: str
    marks: tuple[tuple[str, float], ...]
    #: The end is known to the second alone: the journal has no entry of it.
    is_rough: bool = False

    @property
    def done(self) -> float:
        """Its end."""
        return self.marks[-1][1]

    @property
    def seconds(self) -> float:
        """From its first known mark to its end."""
        return self.done - self.marks[0][1]


@dataclass(frozen=True, slots=True)
class _Work:
    device: str
    outcome: str
    text: str
    done: float
    #: None if it is not recorded.
    seconds: float | None
    is_rough: bool = False


def events(
    own: Sequence[Entry],
    kernel: Sequence[Entry],
    devices: Mapping[str, Any],
    ready: Mapping[str, float],
    offset: float,
) -> tuple[Event, ...]:
    """Return the events in the order of their ends.

    ``own`` and ``kernel`` are entries of the journal, ``devices`` is that section of the status, ``ready``
    when udev had each device, ``offset`` the Unix time at which the kernel started.
    """
    found = list(_from_journal(own))
    for device, entry in sorted(devices.items()):
        _merge(found, device, entry, float(entry.get("ended", 0)) - offset)
    starts = [entry.at for entry in own if entry.message == STARTING and entry.get("UNIT") == AGENT]
    ended = dict[str, float]()
    complete = []
    for work in sorted(found, key=lambda work: work.done):
        begun = work.done if work.seconds is None else max(0.0, work.done - work.seconds)
        # A daemon that has worked since it started was not started for this.
        worked = max((at for at in ended.values() if at <= begun), default=0.0)
        started = max((at for at in starts if worked < at <= begun), default=0.0)
        since = max(ended.get(work.device, 0.0), begun - _CAUSE)
        marks = _marks(work, kernel, (ready.get(work.device, 0.0), started), begun, since)
        complete.append(Event(work.device, work.outcome, work.text, marks, work.is_rough))
        ended[work.device] = work.done
    return tuple(complete)


def _from_journal(own: Iterable[Entry]) -> Iterable[_Work]:
    """Return the work of which the journal has items."""
    found: list[_Work] = []
    for entry in own:
        if entry.message not in (Message.DEVICE, Message.DEVICE_FAILED):
            continue
        device, outcome = entry.get("GANDI_DEVICE"), entry.get("GANDI_OUTCOME")
        text = " ".join(filter(None, (entry.get("GANDI_ITEM"), entry.get("GANDI_DETAIL"))))
        seconds = _float(entry.get("GANDI_SECONDS"))
        last = next((work for work in reversed(found) if work.device == device), None)
        if last and entry.at - last.done < _TOGETHER and seconds == last.seconds:
            worse = outcome if outcome == "failed" else last.outcome
            found[found.index(last)] = replace(last, outcome=worse, text=f"{last.text}, {text}")
        else:
            found.append(_Work(device, outcome, text, entry.at, seconds))
    return found


def _merge(found: list[_Work], device: str, entry: Mapping[str, Any], ended: float) -> None:
    """Add the last work on a device according to the status; if the journal has it, only its seconds."""
    seconds = float(entry["seconds"]) if "seconds" in entry else None
    same = [work for work in found if work.device == device and abs(work.done - ended) < _SAME]
    if same and same[-1].seconds is None:
        found[found.index(same[-1])] = replace(same[-1], seconds=seconds)
    elif not same and "ended" in entry and ended > 0:  # else the clock was set since
        texts = (" ".join(filter(None, (i["name"], i.get("detail", "")))) for i in entry.get("items", ()))
        found.append(
            _Work(device, str(entry.get("outcome", "")), ", ".join(texts), ended, seconds, is_rough=True)
        )


def _marks(
    work: _Work, kernel: Iterable[Entry], known: tuple[float, float], begun: float, since: float
) -> tuple[tuple[str, float], ...]:
    """Return the points of an event, all after ``since``. ``known``: when udev had the device, and when the
    daemon was started; 0 for neither. A daemon that was started before the device was there was started for
    something else.
    """
    udev, daemon = known
    about = re.compile(_LOGGED.get(work.device, rf"(?<![0-9A-Za-z]){re.escape(work.device)}[]:]"))
    seen = udev if since < udev <= begun else 0.0
    caused = next((e.at for e in kernel if since < e.at <= (seen or begun) and about.search(e.text)), 0.0)
    marks = [(KERNEL, caused)] if caused else []
    if seen:
        marks.append((UDEV, seen))
    if max(since, caused, seen) < daemon <= begun:
        marks.append((DAEMON, daemon))
    if work.seconds is not None:
        marks.append((BEGUN, begun))
    return (*marks, (DONE, work.done))


def _float(text: str) -> float | None:
    """Return seconds as the agent logs them."""
    whole, _, rest = text.partition(".")
    if number(whole) is None or (rest and number(rest) is None):
        return None
    return float(text)
