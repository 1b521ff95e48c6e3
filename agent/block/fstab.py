"""Read and change /etc/fstab (fstab(5)), one entry at a time; the other lines stay as they are."""

from __future__ import annotations

from agent.lib.text import BLANKS, lines, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.host.host import Host

FSTAB = "/etc/fstab"
#: A copy of the file from before the agent's first change.
OLD_FSTAB = "/etc/fstab.gandi-old"
#: Mountpoints of entries that have none.
_NOWHERE = ("none", "swap")


def line(spec: str, mountpoint: str, fstype: str, options: str, dump: int = 0, passno: int = 0) -> str:
    """Return an entry; blanks in the mountpoint are escaped."""
    escaped = mountpoint.replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011")
    return f"{spec} {escaped} {fstype} {options} {dump} {passno}"


def find(text: str, entry: str) -> str | None:
    """Return the entry with the same mountpoint, or for swap with the same device, its fields separated by
    one blank; None if there is none.
    """
    for one in lines(text):
        if _is_same(one, entry):
            return " ".join(words(one))
    return None


def put(host: Host, entry: str) -> None:
    """Write the entry in place of the one that ``find`` returns, or at the end. Raise HostError."""
    text = host.read(FSTAB) or ""
    if text and not host.exists(OLD_FSTAB):
        host.write(OLD_FSTAB, text)
    found = lines(text)
    place = next((n for n, one in enumerate(found) if _is_same(one, entry)), len(found))
    host.write(FSTAB, "".join(f"{one}\n" for one in (*found[:place], entry, *found[place + 1 :])))


def _is_same(one: str, entry: str) -> bool:
    if one.lstrip(BLANKS).startswith("#"):
        return False
    fields, wanted = words(one), words(entry)
    key = 0 if wanted[1] in _NOWHERE else 1
    return fields[key : key + 1] == wanted[key : key + 1]
