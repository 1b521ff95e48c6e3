"""What the agent remembers across boots, below /var/lib/gandi (0700).

    instance.json               which instance this is: source, id, and the DMI UUID it was first seen under
    instances/<id>/config.json  the last good configuration (0600), synced before a medium is wiped
    instances/<id>/applied.json each item: digests of what was delivered, and left, when last applied
    instances/<id>/begun.json   items of several files of which the first may be written and the rest not
    instances/<id>/nics.json    which MAC each NIC of the document was paired with
    instances/<id>/scripts/     the customer's programs (0700)
    instances/<id>/user-data    what the platform handed over for the customer, as it came (0600)
    instances/<id>/done/        an empty file for each thing that runs once and has been started
    instances/<id>/renew/       an empty file for each thing that is still to be made anew (regenerate.py)
    system/applied.json         likewise, of what belongs to the system and to no instance
    disks.json                  filesystem UUID -> mountpoint
    adopted.json                a machine that was set up before us (agent/state/adopted.py)

``settle`` is the rule of three values, in its one place: it is what makes every step idempotent and lets
the administrator win.
"""

from __future__ import annotations

import os
import threading

from agent.lib.errors import HostError
from agent.lib.records import asdict, dataclass, field
from agent.report import Item, changed, kept, unchanged
from agent.state import adopted, json_file
from agent.state.json_file import digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from agent.config import model
    from agent.host.host import Host

FOLDER = json_file.FOLDER
_INSTANCE, _DISKS = f"{FOLDER}/instance.json", f"{FOLDER}/disks.json"
#: What the reader calls user data among the files.
USER_DATA = "user-data"
#: Stands for what was there before us: no live value is like it.
_BEFORE_US = "\0before us"


@dataclass(slots=True)
class State:
    """The files below /var/lib/gandi. Shared by the threads of one process; one process at a time holds
    the stage lock.
    """

    host: Host
    #: Where its files are; "" for the folder of the current instance.
    place: str = ""
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _unstored: model.Identity | None = None

    def system(self) -> State:
        """What is remembered of the system itself (our drop-ins), with an instance or without one."""
        return State(self.host, f"{FOLDER}/system")

    # -- instance --------------------------------------------------------------------

    def identity(self) -> model.Identity | None:
        """The instance that was last set up, or None on a machine that never was."""
        return self._unstored or self._named()

    def assume(self, identity: model.Identity) -> None:
        """Make this the instance for the life of this process only, until ``adopt``.

        What is stored meanwhile goes under its name, and items are applied without being remembered. Where
        ``adopt`` never comes (the disk is full), what runs once is not run: that could not be kept.
        """
        self._unstored = identity

    def adopt(self, identity: model.Identity, *, dmi: str = "") -> bool:
        """Make this the instance; True when it is another one than before, or that is not known."""
        try:
            is_new = identity != self._named()
        except json_file.Damaged:
            is_new = True
        if is_new:
            json_file.store(self.host, _INSTANCE, asdict(identity) | {"dmi": dmi})
        self._unstored = identity if self.host.dry_run else None
        return is_new

    def _named(self) -> model.Identity | None:
        from agent.config import model  # a disk that is plugged in has no need of it

        found = json_file.load(self.host, _INSTANCE)
        return model.Identity(str(found.get("source")), str(found.get("id"))) if found else None

    def dmi(self) -> str:
        """The DMI UUID under which the instance was first seen ("" when unknown)."""
        found = json_file.load(self.host, _INSTANCE)
        return str(found.get("dmi", "")) if found else ""

    def folder(self) -> str:
        """The folder of the current instance; it may not exist yet."""
        if self.place:
            return self.place
        identity = self.identity()
        if identity is None:
            raise HostError("no instance is known yet", hint="run: gandi-agent status")
        return json_file.instance_folder(f"{identity.source}-{identity.id}")

    def store_config(self, config: model.InstanceConfig, files: dict[str, bytes]) -> None:
        """Store it with its programs and user data (none: removed); on return it survives a power cut."""
        from agent.config import model

        with self._lock:
            if USER_DATA not in files:
                self.host.remove(self.user_data())
            for name, content in sorted(files.items()):
                path, mode = (USER_DATA, 0o600) if name == USER_DATA else (f"scripts/{name}", 0o700)
                self.host.write(self.file(path), content, mode=mode, sync=True)
            self.host.write(self.file("config.json"), model.dump(config), mode=0o600, sync=True)

    def config(self) -> model.InstanceConfig | None:
        """The last good configuration; None when there never was one. Raises HostError where unreadable."""
        if self.identity() is None:
            return None
        data = self.host.read_bytes(f"{self.folder()}/config.json", limit=16 << 20)
        if data is None:
            return None
        from agent.config import model

        try:
            return model.load(data)
        except ValueError as error:
            raise HostError(
                f"{self.folder()}/config.json: {error}",
                hint="it is replaced when the platform delivers its document again",
            ) from error

    def script(self, name: str) -> str:
        """The path of a stored program."""
        return f"{self.folder()}/scripts/{name}"

    def user_data(self) -> str:
        """The path of the stored user data."""
        return f"{self.folder()}/{USER_DATA}"

    # -- once ------------------------------------------------------------------------

    def done(self, mark: str) -> bool:
        """Whether the thing that runs once per instance has been started, or counts as done."""
        name, folder = json_file.safe_name(mark), self.folder()
        if self.host.exists(f"{folder}/done/{name}"):
            return True
        with self._lock:
            before_us = adopted.counts_as_done(self.host, self.identity(), folder, name)
        if before_us:
            self.mark(mark)
        return before_us

    def mark(self, mark: str) -> None:
        """Remember for good that it has been started."""
        self.host.write(self.mark_file(mark), b"", mode=0o600, sync=True)

    def mark_file(self, mark: str) -> str:
        """The file whose existence is that memory, for a program that marks itself; its folder is made."""
        return self.file(f"done/{json_file.safe_name(mark)}")

    def file(self, name: str) -> str:
        """The path of a file of this instance's; its folder is made."""
        path = f"{self.folder()}/{name}"
        json_file.folder(self.host, path.rpartition("/")[0])
        return path

    # -- three values ----------------------------------------------------------------

    def settle(
        self,
        name: str,
        *,
        delivered: str,
        wanted: str,
        live: str | None,
        apply: Callable[[], object],
        left: Callable[[], str | None] | None = None,
        parts: str | None = None,
        own: bool = False,
        detail: str = "",
    ) -> Item:
        """Bring one item to what the platform delivered, unless the administrator has changed it since.

        ``delivered`` is what the platform says; ``wanted`` how that looks on this system (the rendered
        file, the line); ``live`` how it looks now, None when it is not there. ``apply`` makes it so and
        may raise; ``left`` asks how it looks then, where only the system knows. ``parts``: it is of several
        files, of which ``live`` tells only one, or a line in a file of others, which does not tell whether
        it was there before and must not be withdrawn. That it has begun is stored first, with this text (see
        ``begun``), and forgotten when ``apply`` has returned, which goes on from any part. ``own``: it has a
        place that only this agent writes, so one that is as wanted without being remembered was
        applied by a run that was cut. Compared with what was delivered, and left, when it was last applied:

        - begun, and not ended since it is delivered: applied;
        - live is what is wanted: unchanged;
        - never applied, to a machine that was set up before us: kept;
        - delivered differs from last time: applied;
        - delivered is as last time and live is as we left it, so only our way of writing it has changed:
        applied;
        - otherwise the administrator changed it: kept.
        """
        with self._lock:
            known = self._applied().get(name)
            is_new = known is None or known["delivered"] != digest(delivered)
            was_cut = is_new and parts is not None and self.begun(name) is not None
            if self.host.debug:
                self.host.debug(_compared(name, delivered, wanted, live, known, was_cut=was_cut))
            if live == wanted and not was_cut:
                found = not own and (known is None or "found" in known)
                self._remember(name, delivered, wanted, found=found)
                if parts is not None:
                    self.ended(name)
                return unchanged(name, detail)
            is_first = known is None and not was_cut
            if is_first and adopted.keeps(self.host, self.identity(), self.folder(), name):
                self._remember(name, delivered, _BEFORE_US)
                return kept(name, "as it was before the agent")
            ours = known is not None and live is not None and known["left"] == digest(live)
            if not is_new and not ours:
                return kept(name)
            if parts is not None and not was_cut:
                self._begin(name, parts)
        apply()
        with self._lock:
            self._remember(name, delivered, wanted if left is None else left() or "")
            self.ended(name)
        return changed(name, detail)

    def begun(self, name: str) -> str | None:
        """What was stored when the item of several files was begun, None where none is under way."""
        return self._begun().get(name)

    def ended(self, name: str) -> None:
        """Nothing of the item is missing, or nothing of it was made."""
        with self._lock:
            items = self._begun()
            if items.pop(name, None) is None:
                return
            if items:
                json_file.store(self.host, self._begun_file(), {"items": items}, sync=False)
            else:
                self.host.remove(self._begun_file())

    def _begin(self, name: str, parts: str) -> None:
        try:
            json_file.store(self.host, self._begun_file(), {"items": self._begun() | {name: parts}})
        except HostError:
            # Where nothing can be stored, items are applied from memory. On one disk with the rest of the
            # system that is the end of this item: what has no room for this text has none for an account.
            disks = {os.stat(self.host.path(folder)).st_dev for folder in ("/etc", "/var/lib")}
            if self._unstored is None or len(disks) == 1:
                raise

    def _begun(self) -> dict[str, str]:
        found = (json_file.load(self.host, self._begun_file()) or {}).get("items", {})
        return found if isinstance(found, dict) else {}

    def _begun_file(self) -> str:
        return f"{self.folder()}/begun.json"

    def withdraw(self, name: str, *, live: str | None, undo: Callable[[], object], detail: str = "") -> Item:
        """Undo an item that the platform delivers no longer, if it is our doing and still as we left it.

        What was there before us, and what the administrator has changed since, stays.
        """
        with self._lock:
            known = self._applied().get(name)
            ours = known is not None and "found" not in known and live is not None
            if known is None or not ours or known["left"] != digest(live or ""):
                self.forget(name)
                gone = unchanged(name, "gone")
                return gone if live is None else kept(name, "delivered no longer, left as it is")
        undo()
        self.forget(name)
        return changed(name, detail or "delivered no longer, removed")

    def is_ours(self, name: str, live: str) -> bool:
        """Whether this is how the item was left when it was last applied."""
        known = self._applied().get(name)
        return known is not None and known["left"] == digest(live)

    def remember(self, name: str, value: str) -> None:
        """Remember a fact about an item, under a name of its own, for ``is_ours``."""
        with self._lock:
            self._remember(name, value, value)

    def applied(self, prefix: str) -> tuple[str, ...]:
        """The names of the items that were applied, those that begin with ``prefix``."""
        return tuple(name for name in self._applied() if name.startswith(prefix))

    def forget(self, name: str) -> None:
        """The platform does not deliver this item any more."""
        with self._lock:
            items = self._applied()
            if items.pop(name, None) is not None:
                self._store_applied(items)

    def _applied(self) -> dict[str, dict[str, str]]:
        found = (json_file.load(self.host, f"{self.folder()}/applied.json") or {}).get("items", {})
        return found if isinstance(found, dict) else {}

    def _remember(self, name: str, delivered: str, left: str, *, found: bool = False) -> None:
        value = {"delivered": digest(delivered), "left": digest(left)}
        if found:
            value["found"] = "as wanted, before us"
        items = self._applied()
        if items.get(name) != value:
            self._store_applied(items | {name: value})

    def _store_applied(self, items: dict[str, dict[str, str]]) -> None:
        if self._unstored is not None:
            return
        # Its name is not synced: an item whose record a power cut takes is compared with the live value
        # again. The order is kept: what was applied is on the disk no later than the record of it.
        json_file.store(self.host, f"{self.folder()}/applied.json", {"items": items}, sync=False)

    # -- NICs ------------------------------------------------------------------------

    def pairs(self) -> dict[int, str]:
        """Which MAC (lower case) each NIC of the document was paired with, by its number."""
        found = json_file.load(self.host, f"{self.folder()}/nics.json") or {}
        return {int(number): mac for number, mac in found.get("pairs", {}).items()}

    def store_pairs(self, pairs: Mapping[int, str]) -> None:
        """Remember the pairs; they win from then on."""
        with self._lock:
            if self._unstored is None and dict(pairs) != self.pairs():
                value = {"pairs": {str(number): mac for number, mac in pairs.items()}}
                json_file.store(self.host, f"{self.folder()}/nics.json", value)

    # -- disks -----------------------------------------------------------------------

    def disks(self) -> dict[str, Any]:
        """What is remembered of data disks, by filesystem UUID."""
        found: dict[str, Any] = (json_file.load(self.host, _DISKS) or {}).get("disks", {})
        return found

    def remember_disk(self, uuid: str, **facts: object) -> None:
        """Add facts about a filesystem (its mountpoint, the size of its disk in bytes); None removes a
        fact.
        """
        with self._lock:
            disks = self.disks()
            entry = {k: v for k, v in (disks.get(uuid, {}) | facts).items() if v is not None}
            if entry != disks.get(uuid):
                json_file.store(self.host, _DISKS, {"disks": disks | {uuid: entry}})


def _compared(
    name: str, delivered: str, wanted: str, live: str | None, known: dict[str, str] | None, *, was_cut: bool
) -> str:
    """How the three values of an item compare, never the values, as one line for debugging."""
    then = "never" if known is None else "same" if known["delivered"] == digest(delivered) else "differs"
    now = "missing" if live is None else "as wanted" if live == wanted else "differs"
    left = "unknown" if known is None or live is None else "same"
    if left == "same" and known and known["left"] != digest(live or ""):
        left = "differs"
    cut = ", begun and not ended" if was_cut else ""
    return f"item {name}: delivered when last applied: {then}; live: {now}; live as last left: {left}{cut}"
