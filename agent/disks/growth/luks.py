"""Grow an open encrypted device to the size of its disk, if that needs no passphrase from a user.

LUKS2 needs the key again for a resize: it is in the kernel's keyring, where cryptsetup cannot read it. Only
what crypttab configures for the boot is used: a key file, or the TPM's token.
"""

from __future__ import annotations

import os
import re
import stat

from agent.block import storage
from agent.block.storage import SECTOR
from agent.disks.base.facts import Leave
from agent.host.sysfs import attribute
from agent.lib.errors import HostError
from agent.lib.text import lines, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.block.storage import Device
    from agent.host.host import Host

    Write = Callable[[Sequence[str]], None]

CRYPTTAB = "/etc/crypttab"
#: The key file that systemd-cryptsetup uses if crypttab names none (crypttab(5)).
_KEYS = "/etc/cryptsetup-keys.d/{name}.key"
#: crypttab's options for the place of the key in its file, and those of cryptsetup.
_PARTS = {"keyfile-offset": "--keyfile-offset", "keyfile-size": "--keyfile-size"}


def resize(host: Host, write: Write, device: Device) -> tuple[str, str] | Leave:
    """Grow the opened device to the size of ``device``. Return its kernel name and its name in /dev/mapper,
    or why it is not grown.

    Raise HostError if it is no larger after the resize.
    """
    (holder,) = device.holders if len(device.holders) == 1 else ("",)
    name = attribute(host, f"{storage.BLOCK}/{holder}/dm/name") if holder else ""
    if not attribute(host, f"{storage.BLOCK}/{holder}/dm/uuid").startswith("CRYPT-"):
        return Leave("encrypted, and not open")
    command = ("cryptsetup", "status", name)
    output = host.run(command, changes=False).stdout
    offset = re.search(r"^[ \t]*offset:[ \t]*([0-9]+)", output, re.MULTILINE)
    before = storage.current_size(host, holder)
    gained = storage.current_size(host, device.name) - before - (int(offset[1]) * SECTOR if offset else 0)
    if gained < SECTOR:
        return holder, name
    key = unlocks(host, name)
    if key is None:
        return Leave(f"encrypted: run cryptsetup resize {name}")
    write(("cryptsetup", "resize", "--batch-mode", *key, name))
    if storage.current_size(host, holder) <= before:
        raise HostError(f"/dev/mapper/{name}: no larger after cryptsetup resize")
    return holder, name


def unlocks(host: Host, name: str) -> tuple[str, ...] | None:
    """Return the arguments, from crypttab, with which cryptsetup gets the volume's key without a user; None
    if there are none.
    """
    for line in lines(host.read(CRYPTTAB) or ""):
        fields = words(line)
        if len(fields) < 2 or fields[0] != name:
            continue
        options = dict(option.partition("=")[::2] for option in "".join(fields[3:4]).split(","))
        key = fields[2] if len(fields) > 2 and fields[2] not in ("none", "-") else _KEYS.format(name=name)
        if _is_file(host, key) and not {"header", "keyscript", "tcrypt", "plain"} & set(options):
            parts = (f"{word}={options[option]}" for option, word in _PARTS.items() if option in options)
            return (f"--key-file={key}", *parts)
        if "tpm2-device" in options and options.get("tpm2-pin", "no") in ("no", "0", "false"):
            return ("--token-only",)
    return None


def _is_file(host: Host, name: str) -> bool:
    try:
        return name.startswith("/") and stat.S_ISREG(os.stat(host.path(name)).st_mode)
    except OSError:
        return False
