"""What the platform passes without a medium: a native document and a script. They are the system credentials
``gandi.config`` and ``gandi.script``, or the items ``opt/net.gandi.config`` and ``opt/net.gandi.script`` of
QEMU's fw_cfg.

Only root can read either place; what is not so is reported and not used. Both count as drives do
(config_drives.py).
"""

from __future__ import annotations

from agent.lib.errors import HostError
from agent.lib.records import dataclass, field
from agent.reader.common import native_names
from agent.report import failed
from agent.sources import PASSED
from agent.systemd import credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from agent.host.host import Host
    from agent.report import Item

    Reader = Callable[[str], bytes | None]

#: The names in CONFIG_DATASOURCE.
CREDENTIAL, FW_CFG = PASSED
#: The names that the native dialect knows them by.
CONFIG, SCRIPT = "gandi.config", "gandi.script"
_SIGNATURE = CONFIG + native_names.SIGNATURE
#: The kernel's module qemu_fw_cfg, which PID 1 loads in a guest of QEMU.
_ITEMS = "/sys/firmware/qemu_fw_cfg/by_name/opt/net"


@dataclass(frozen=True, slots=True)
class Passed:
    """What one place has: ``source`` is its name in CONFIG_DATASOURCE, ``place`` is shown in reports."""

    source: str
    place: str
    files: dict[str, bytes] = field(repr=False)


def search(host: Host, wanted: Iterable[str], notes: list[Item]) -> Iterator[Passed]:
    """Yield what each wanted place has; add what cannot be used to ``notes``."""
    readers: dict[str, Reader] = {
        CREDENTIAL: lambda name: credentials.read(host, name),
        FW_CFG: lambda name: _item(host, name),
    }
    for source in PASSED:
        if source in wanted:
            files = dict(_files(readers[source], source, (CONFIG, SCRIPT), notes))
            if host.debug:
                host.debug(f"source {source}: {', '.join(sorted(files)) or 'nothing'}")
            if CONFIG in files:
                files |= _files(readers[source], source, (_SIGNATURE,), notes)
                yield Passed(source, _place(source, CONFIG), files)
            elif SCRIPT in files:
                what = f"not run: {_place(source, CONFIG)} is not delivered beside it"
                notes.append(
                    failed(_place(source, SCRIPT), what, 'deliver it too, at least as {"version": 1}')
                )


def is_there(host: Host) -> bool:
    """Return whether either place has anything."""
    there = credentials.names(host)
    return any(name in there or host.exists(_path(name)) for name in (CONFIG, SCRIPT)) and not host.offline


def _files(
    read: Reader, source: str, names: Iterable[str], notes: list[Item]
) -> Iterator[tuple[str, bytes]]:
    for name in names:
        try:
            content = read(name)
        except HostError as error:
            notes.append(failed(_place(source, name), error.message, error.hint))
            continue
        if content is not None:
            yield name, content


def _item(host: Host, name: str) -> bytes | None:
    path = _path(name)
    return credentials.read_private(host, path) if not host.offline and host.exists(path) else None


def _path(name: str) -> str:
    return f"{_ITEMS}.{name}/raw"


def _place(source: str, name: str) -> str:
    return f"the credential {name}" if source == CREDENTIAL else f"opt/net.{name} of fw_cfg"
