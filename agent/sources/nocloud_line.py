"""NoCloud by a line: ``ds=nocloud;KEY=VALUE``, as the serial number in SMBIOS or a word of the kernel
command line, and ``network-config=BASE64`` there (cloud-init's documentation, "NoCloud" and "Kernel command
line").

The reader takes each as a file (reader/dialects/nocloud.py). Beside a NoCloud drive they are read with its
files; alone they count as a drive.
"""

from __future__ import annotations

from agent.lib import text
from agent.lib.errors import HostError
from agent.reader.common.nocloud_names import COMMAND_LINE, NETWORK, SERIAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host

#: Most bytes of each; the kernel's command line has 4096 at most, a string of SMBIOS 64 KiB.
_LIMIT = 64 << 10
_SOURCES, _NETWORK = ("ds=nocloud", "ds=nocloud-net"), "network-config="


def read(host: Host) -> dict[str, bytes]:
    """Return the lines by their names: a line only if it has a value, not if it only names the source."""
    if host.offline:
        return {}
    # Of two words with the same key, the kernel's rule: the last one.
    words = [
        word.replace('"', "")
        for word in reversed(text.words(_read(host, "/proc/cmdline").strip(text.WHITE)))
    ]
    found = {
        COMMAND_LINE: next(filter(_is_line, words), ""),
        SERIAL: _read(host, "/sys/class/dmi/id/product_serial").strip(text.WHITE),
        NETWORK: next((word for word in words if word.startswith(_NETWORK)), "").removeprefix(_NETWORK),
    }
    found[SERIAL] = found[SERIAL] if _is_line(found[SERIAL]) else ""
    return {name: line.encode("utf-8", "surrogateescape") for name, line in found.items() if line}


def _is_line(word: str) -> bool:
    source, _, values = word.partition(";")
    return source in _SOURCES and "=" in values


def _read(host: Host, path: str) -> str:
    try:
        return host.read(path, limit=_LIMIT) or ""
    except HostError:
        return ""  # a kernel that does not let it be read
