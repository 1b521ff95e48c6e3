"""The /etc/fstab of an instance after ``import``, which unpacks its files into a new filesystem."""

from __future__ import annotations

from agent.block import fstab
from agent.lib.text import BLANKS, lines, words

#: Options of a root filesystem of another type than before.
_OPTIONS = "errors=remount-ro"
_GONE = "# not imported: "


def mended(text: str, root: str, fstype: str, swap: str) -> str:
    """Return the table with the root filesystem and the swap by their new UUIDs; ``swap`` may be "".

    A partition for swap that the new disk does not have becomes a comment, so that no boot waits for it.
    Swap files and all other entries stay.
    """
    made: list[str] = []
    has_root = has_swap = False
    for line in lines(text):
        fields = words(line)
        if len(fields) < 3 or line.lstrip(BLANKS).startswith("#"):
            made.append(line)
        elif fields[1] == "/":
            if not has_root:
                options = fields[3] if len(fields) > 3 and fields[2] == fstype else _OPTIONS
                made.append(fstab.line(f"UUID={root}", "/", fstype, options, 0, 1))
            has_root = True
        elif fields[2] == "swap" and not _is_file(fields[0]):
            if swap and not has_swap:
                made.append(fstab.line(f"UUID={swap}", "none", "swap", "sw"))
                has_swap = True
            else:
                made.append(f"{_GONE}{line}")
        else:
            made.append(line)
    if not has_root:
        made.append(fstab.line(f"UUID={root}", "/", fstype, _OPTIONS, 0, 1))
    if swap and not has_swap:
        made.append(fstab.line(f"UUID={swap}", "none", "swap", "sw"))
    return "".join(f"{line}\n" for line in made)


def _is_file(spec: str) -> bool:
    return spec.startswith("/") and not spec.startswith("/dev/")
