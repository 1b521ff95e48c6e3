"""The agent's state across boots, below /var/lib/gandi (0700).

    instance.json               the instance: source, id, and the DMI UUID at its first boot
    instances/<id>/config.json  the last good configuration (0600), synced before a medium is wiped
    instances/<id>/applied.json digests of the values that were delivered and left, by item, and the time
    instances/<id>/begun.json   items of several files that were begun and have not ended
    instances/<id>/nics.json    the MAC that each NIC of the document was paired with
    instances/<id>/network.json a changed network that is not judged yet, or was taken back (rollback.py)
    instances/<id>/sshd.json    sshd's options that were taken back (network/sshd_options.py)
    instances/<id>/scripts/     the customer's programs (0700)
    instances/<id>/user-data    the customer's user data as it was delivered (0600)
    instances/<id>/done/        an empty file for each program or step that runs once and was started
    instances/<id>/renew/       an empty file for each thing still to be regenerated (regenerate.py)
    system/applied.json         as above, for items of the system that belong to no instance
    system/done/                as above, for programs that run once on a machine
    disks.json                  filesystem UUID -> mountpoint and other facts, of the latest
    adopted.json                a machine that was set up before the agent (agent/state/adopted.py)
    signed.json                 counter and digest of the last signed document (agent/sources/signed.py)

``State.reconcile`` is the one place of the rule of three values: it makes every step idempotent and keeps
the administrator's changes.
"""

from __future__ import annotations

import os
import threading
import time

from agent.lib.errors import HostError
from agent.lib.records import asdict, dataclass, field
from agent.lib.text import number
from agent.report import Item, changed, kept, unchanged
from agent.state import adopted, json_file
from agent.state.json_file import digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from agent.config import model
    from agent.host.host import Host
    from agent.state.compared import Compared

    #: Called with each item that is reconciled, and with its ``apply``.
    Watch = Callable[[Compared, Callable[[], object]], None]

FOLDER = json_file.FOLDER
_INSTANCE, _DISKS = f"{FOLDER}/instance.json", f"{FOLDER}/disks.json"
MOST_DISKS = 1024  # several times as many as a machine has at once
USER_DATA = "user-data"  # its name among the reader's files


@dataclass(slots=True)
class State:
    """The files below /var/lib/gandi. One State is shared by a process's threads; the stage lock keeps other
    processes out.
    """

    host: Host
    #: Path of its files; "" for the folder of the current instance.
    path: str = ""
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _unstored: model.Identity | None = None
    watch: Watch | None = None

    def system(self) -> State:
        """Return the state of the system's own items (the agent's drop-ins), which need no instance."""
        return State(self.host, f"{FOLDER}/system", watch=self.watch)

    # -- instance --------------------------------------------------------------------

    def identity(self) -> model.Identity | None:
        """Return the current instance, None on a machine that was never set up."""
        return self._unstored or self._stored_identity()

    def use_unstored_instance(self, identity: model.Identity) -> None:
        """Make this the instance for this process only, until ``set_instance``.

        Until then files are stored under its name, and applied items are not recorded. Where
        ``set_instance`` is never called (the disk is full), programs that run once are not run: it could not
        be recorded.
        """
        self._unstored = identity

    def set_instance(self, identity: model.Identity, *, dmi_uuid: str = "") -> bool:
        """Make this the instance; return True when it is not the stored one, or that cannot be read."""
        try:
            is_new = identity != self._stored_identity()
        except json_file.Damaged:
            is_new = True
        if is_new:
            json_file.store(self.host, _INSTANCE, asdict(identity) | {"dmi": dmi_uuid})
        self._unstored = identity if self.host.dry_run else None
        return is_new

    def _stored_identity(self) -> model.Identity | None:
        from agent.config import model  # late: a disk event does not need it

        found = json_file.with_texts(self.host, _INSTANCE, "source", "id")
        return model.Identity(found["source"], found["id"]) if found else None

    def dmi_uuid(self) -> str:
        """Return the machine's DMI UUID at the instance's first boot, "" if unknown."""
        found = json_file.load(self.host, _INSTANCE)
        return str(found.get("dmi", "")) if found else ""

    def record_uuid(self, dmi_uuid: str) -> None:
        """Record another DMI UUID of the instance, if there is one: its identity was renewed."""
        found = json_file.load(self.host, _INSTANCE)
        if found:
            json_file.store(self.host, _INSTANCE, found | {"dmi": dmi_uuid})

    def folder(self) -> str:
        """Return the path of the current instance's folder, which may not exist yet.

        Raise HostError on a machine without an instance.
        """
        if self.path:
            return self.path
        identity = self.identity()
        if identity is None:
            raise HostError("no instance is known yet", hint="run: gandi-agent status")
        return json_file.instance_folder(f"{identity.source}-{identity.id}")

    def store_config(self, config: model.InstanceConfig, files: dict[str, bytes]) -> None:
        """Store the configuration with its programs and user data; on return they survive a power cut.

        User data that is not delivered is removed.
        """
        from agent.config import model

        with self._lock:
            if USER_DATA not in files:
                self.host.remove(self.user_data())
            for name, content in sorted(files.items()):
                path, mode = (USER_DATA, 0o600) if name == USER_DATA else (f"scripts/{name}", 0o700)
                self.host.write(self.path_for_writing(path), content, mode=mode, sync=True)
            self.host.write(self.path_for_writing("config.json"), model.dump(config), mode=0o600, sync=True)

    def config(self) -> model.InstanceConfig | None:
        """Return the last good configuration, None if there never was one.

        Raise HostError if it cannot be read.
        """
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
        """Return the path of a stored program."""
        return f"{self.folder()}/scripts/{name}"

    def user_data(self) -> str:
        """Return the path of the stored user data."""
        return f"{self.folder()}/{USER_DATA}"

    # -- once ------------------------------------------------------------------------

    def is_done(self, mark: str) -> bool:
        """Return whether a program or step that runs once per instance was started, or counts as done."""
        name, folder = json_file.safe_name(mark), self.folder()
        if self.host.exists(f"{folder}/done/{name}"):
            return True
        with self._lock:
            before_us = adopted.counts_as_done(self.host, self.identity(), folder, name)
        if before_us:
            self.mark_done(mark)
        return before_us

    def mark_done(self, mark: str) -> None:
        """Record that it has been started; on return that survives a power cut."""
        self.host.write(self.mark_file(mark), b"", mode=0o600, sync=True)

    def mark_file(self, mark: str) -> str:
        """Return the path of the mark, for a program that writes it itself; create its folder."""
        return self.path_for_writing(f"done/{json_file.safe_name(mark)}")

    def path_for_writing(self, name: str) -> str:
        """Return the path of a file in the instance's folder; create the folder it is in."""
        path = f"{self.folder()}/{name}"
        json_file.folder(self.host, path.rpartition("/")[0])
        return path

    # -- three values ----------------------------------------------------------------

    def reconcile(
        self,
        name: str,
        *,
        wanted: str,
        delivered: str | None = None,
        live: str | None,
        apply: Callable[[], object],
        read_back: Callable[[], str | None] | None = None,
        parts: str | None = None,
        exclusive: bool = False,
        detail: str = "",
    ) -> Item:
        """Bring one item to what the platform delivered, unless the administrator has changed it since.

        ``wanted``: the platform's value as this system spells it (the rendered file, the line).
        ``delivered``: the value itself, if that is another text; compared with that of the last time.
        ``live``: how it is now, None if it is absent.
        ``apply``: make it as wanted; may raise.
        ``read_back``: return how it is after ``apply``, where that is the system's choice (a hash it makes).
        ``parts``: for an item of several files, of which ``live`` shows one, or for a line in a shared file,
        which does not show who added it. That the item is begun is stored first, with this text
        (``begun_parts``), and removed when ``apply`` has returned; ``apply`` must be able to go on from any
        part.
        ``exclusive``: only the agent writes its file, so one that is as wanted without a record was applied
        by a run that was cut short, and may be withdrawn.

        The first that holds decides:

        - begun, not ended, and not recorded with this delivered value: applied;
        - live is wanted: unchanged;
        - never applied, on an adopted machine: kept;
        - never applied, or delivered differs from last time: applied;
        - live is as the agent left it, so only its way of writing the value has changed: applied;
        - otherwise the administrator has changed it: kept.
        """
        delivered = wanted if delivered is None else delivered
        with self._lock:
            known = self._applied().get(name)
            is_new = known is None or known["delivered"] != digest(delivered)
            was_cut = is_new and parts is not None and self.begun_parts(name) is not None
            if self.host.debug or self.watch:
                from agent.state.compared import compare  # late: an ordinary boot does not need it

                found_so = compare(name, known, delivered=delivered, wanted=wanted, live=live)
                if self.host.debug:
                    self.host.debug(found_so.line(was_cut=was_cut))
                if self.watch:
                    self.watch(found_so, apply)
            if live == wanted and not was_cut:
                found = not exclusive and (known is None or "found" in known)
                self._remember(name, delivered, wanted, found=found)
                if parts is not None:
                    self.clear_begun(name)
                return unchanged(name, detail)
            is_first = known is None and not was_cut
            if is_first and adopted.is_kept(self.host, self.identity(), self.folder(), name):
                self._remember(name, delivered, adopted.BEFORE_US)
                return kept(name, "as it was before the agent")
            ours = known is not None and live is not None and known["left"] == digest(live)
            if not is_new and not ours:
                return kept(name)
            if parts is not None and not was_cut:
                self._record_begun(name, parts)
        apply()
        with self._lock:
            self._remember(name, delivered, wanted if read_back is None else read_back() or "")
            if parts is not None:
                self.clear_begun(name)
        return changed(name, detail)

    def begun_parts(self, name: str) -> str | None:
        """Return the ``parts`` stored when the item was begun, None if it is not begun."""
        return self._begun().get(name)

    def clear_begun(self, name: str) -> None:
        """Remove the record that the item is begun: it is complete, or nothing of it was made."""
        with self._lock:
            items = self._begun()
            if items.pop(name, None) is None:
                return
            if items:
                json_file.store(self.host, self._begun_file(), {"items": items}, sync=False)
            else:
                self.host.remove(self._begun_file())

    def _record_begun(self, name: str, parts: str) -> None:
        try:
            json_file.store(self.host, self._begun_file(), {"items": self._begun() | {name: parts}})
        except HostError:
            # A machine that can store nothing applies items from memory. But with /etc on the same full
            # disk the item would fail half-way: an account needs more room than this record.
            disks = {os.stat(self.host.path(folder)).st_dev for folder in ("/etc", "/var/lib")}
            if self._unstored is None or len(disks) == 1:
                raise

    def _begun(self) -> dict[str, str]:
        return json_file.section(self.host, self._begun_file(), "items", str)

    def _begun_file(self) -> str:
        return f"{self.folder()}/begun.json"

    def withdraw(self, name: str, *, live: str | None, undo: Callable[[], object], detail: str = "") -> Item:
        """Undo an item that is no longer delivered, if the agent made it and it is still as it was left.

        One that was there before the agent, or that the administrator has changed since, is kept.
        """
        with self._lock:
            known = self._applied().get(name)
            ours = known is not None and "found" not in known and live is not None
            if known is None or not ours or known["left"] != digest(live or ""):
                self.forget(name)
                gone = unchanged(name, "gone")
                return gone if live is None else kept(name, "no longer delivered, left as it is")
        undo()
        self.forget(name)
        return changed(name, detail or "no longer delivered, removed")

    def is_as_applied(self, name: str, live: str) -> bool:
        """Return whether the item's live value is as the agent left it when it was last applied."""
        known = self._applied().get(name)
        return known is not None and known["left"] == digest(live)

    def was_delivered(self, name: str, delivered: str) -> bool:
        """Return whether this is the item's delivered value of the last time."""
        known = self._applied().get(name)
        return known is not None and known["delivered"] == digest(delivered)

    def compared(self, name: str, live: str | None) -> Compared:
        """Return how a recorded item's live value compares with the one that was left, where the delivered
        value is not known now.
        """
        from agent.state.compared import compare

        return compare(name, self._applied().get(name), delivered=None, wanted=None, live=live)

    def record_value(self, name: str, value: str) -> None:
        """Record a value under a name, for a later ``is_as_applied``."""
        with self._lock:
            self._remember(name, value, value)

    def recorded_items(self, prefix: str) -> tuple[str, ...]:
        """Return the names of recorded items that begin with ``prefix``."""
        return tuple(name for name in self._applied() if name.startswith(prefix))

    def forget(self, name: str) -> None:
        """Remove an item's record."""
        with self._lock:
            items = self._applied()
            if items.pop(name, None) is not None:
                self._store_applied(items)

    def _applied(self) -> dict[str, dict[str, Any]]:
        path, texts = f"{self.folder()}/applied.json", ("delivered", "left")
        return json_file.section(self.host, path, "items", dict, texts=texts)

    def _remember(self, name: str, delivered: str, left: str, *, found: bool = False) -> None:
        value: dict[str, Any] = {"delivered": digest(delivered), "left": digest(left)}
        if found:
            value["found"] = "as wanted, before us"
        items = self._applied()
        before = items.get(name, {})
        # The time is not compared: an item that is as it was is not written again.
        if {key: part for key, part in before.items() if key != "at"} != value:
            self._store_applied(items | {name: value | {"at": int(time.time())}})

    def _store_applied(self, items: dict[str, dict[str, Any]]) -> None:
        if self._unstored is not None:
            return
        # Not synced: an item that a power cut leaves without a record is compared with the live value again.
        # What was applied still reaches the disk no later than its record.
        json_file.store(self.host, f"{self.folder()}/applied.json", {"items": items}, sync=False)

    # -- devices --------------------------------------------------------------------

    def nic_pairs(self) -> dict[int, str]:
        """Return the MAC (lower case) that each NIC of the document was paired with, by NIC number."""
        found = json_file.section(self.host, f"{self.folder()}/nics.json", "pairs", str)
        return {one: mac for name, mac in found.items() if (one := number(name)) is not None}

    def store_nic_pairs(self, pairs: Mapping[int, str]) -> None:
        """Store the pairs; from then on they decide."""
        with self._lock:
            if self._unstored is None and dict(pairs) != self.nic_pairs():
                value = {"pairs": {str(number): mac for number, mac in pairs.items()}}
                json_file.store(self.host, f"{self.folder()}/nics.json", value)

    def disks(self) -> dict[str, Any]:
        """Return the facts about data disks, by filesystem UUID."""
        return json_file.section(self.host, _DISKS, "disks", dict)

    def remember_disk(self, uuid: str, **facts: object) -> None:
        """Add facts about a filesystem; None removes one. Of more than MOST_DISKS, forget the oldest."""
        with self._lock:
            disks = self.disks()
            if any(disks.get(uuid, {}).get(name) != value for name, value in facts.items()):
                entry = {**disks.get(uuid, {}), **facts, "changed": int(time.time())}
                disks[uuid] = {name: value for name, value in entry.items() if value is not None}
                old = [one for one in disks if one != uuid and not disks[one].get("made")]
                if len(disks) > MOST_DISKS and old:
                    del disks[min(old, key=lambda one: str(disks[one].get("changed", "")))]
                json_file.store(self.host, _DISKS, {"disks": disks})
