"""The keys of ``#cloud-config`` about sshd and its host keys.

Format: cloud-init's module reference (cc_ssh, cc_set_passwords, cc_keys_to_console).
"""

from __future__ import annotations

import re

from agent.config.model import File, Sshd, merge_parts
from agent.lib import public_key
from agent.lib.records import dataclass
from agent.lib.text import WHITE
from agent.reader.common import fields, values
from agent.reader.common.lenient import named, part, parts, unused, value
from agent.reader.common.problem import UNSUPPORTED
from agent.reader.common.values import Choice
from agent.reader.formats.cloud_accounts import Accounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent.reader.common.merge import Draft

_CONSOLE = "fingerprints and host keys are not shown on the console"
#: Top-level keys that have no effect here, with the reason.
HARMLESS = {
    "no_ssh_fingerprints": _CONSOLE,
    "authkey_hash": _CONSOLE,
    "ssh_fp_console_blacklist": _CONSOLE,
    "ssh_key_console_blacklist": _CONSOLE,
    "ssh_quiet_keygen": _CONSOLE,
    "ssh_publish_hostkeys": "a drive does not take host keys",
}
#: Top-level keys that are not handled, with the reason.
REFUSED = {"disable_root_opts": "root's keys get no options; disable_root sets PermitRootLogin"}
#: Types of host keys, and the mode and the end of the name of each of their files.
_TYPES = ("rsa", "ecdsa", "ed25519")
_PUBLIC = {"rsa": "ssh-rsa", "ecdsa": "ecdsa-sha2-", "ed25519": "ssh-ed25519"}
_FILES = {"private": (0o600, ""), "public": (0o644, ".pub"), "certificate": (0o644, "-cert.pub")}
_PRIVATE = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\n.*\n-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)


def password_login(written: object) -> bool | None:
    """Return whether sshd accepts passwords; None for ``unchanged``."""
    if written is None or (isinstance(written, str) and written.lower() in ("", "unchanged")):
        return None
    return values.boolean(written)


@dataclass(frozen=True, slots=True)
class Console:
    """``ssh``."""

    emit_keys_to_console: bool = value(values.boolean, default=False)


unused(Console)


@dataclass(frozen=True, slots=True)
class Ssh(Accounts):
    """The keys of the document about sshd, beside those about accounts."""

    ssh_pwauth: bool | None = value(password_login, None)
    disable_root: bool | None = value(values.boolean, None)
    ssh_deletekeys: bool = value(values.boolean, default=True)
    ssh_genkeytypes: list[str | None] | None = parts(Choice(_TYPES), split=True)
    ssh_keys: Any = named(fields.text)
    ssh: Console | None = part(Console)


def apply(found: Ssh, name: str, draft: Draft) -> None:
    """Add the options and host keys to the draft."""
    if found.ssh and found.ssh.emit_keys_to_console:
        path = f"{name}: ssh.emit_keys_to_console"
        what = "host keys are not shown on the console"
        draft.add_problem(path, what, "read them in /etc/ssh, or deliver ssh_keys", severity=UNSUPPORTED)
    if found.ssh_genkeytypes == []:
        what, hint = "no types: keys of each type are made", "name the types, or remove the key"
        draft.add_problem(f"{name}: ssh_genkeytypes", what, hint, severity=UNSUPPORTED)
    certificates, has_keys = _add_host_keys(found.ssh_keys or {}, f"{name}: ssh_keys", draft)
    sshd = Sshd(
        found.ssh_pwauth,
        found.disable_root,
        found.ssh_deletekeys,
        tuple(dict.fromkeys(filter(None, found.ssh_genkeytypes or ()))),
        certificates,
        has_keys,
    )
    if sshd != Sshd():
        draft.sshd = merge_parts(draft.sshd, sshd)


def _add_host_keys(keys: dict[str, str | None], path: str, draft: Draft) -> tuple[tuple[str, ...], bool]:
    """Add each key's file; return the paths of the certificates, and whether there is a private key."""
    certificates, has_keys = list[str](), False
    for key, content in keys.items():
        kind, _, of = key.strip(WHITE).lower().replace("-", "_").partition("_")
        if content is None:
            continue
        try:
            if kind not in _TYPES or of not in _FILES:
                raise ValueError("not a host key; write for example ed25519_private")
            content = _checked(content.strip(WHITE), kind, of)
        except ValueError as error:
            draft.add_refused(f"{path}.{key[:40]}", error)
            continue
        mode, end = _FILES[of]
        file = f"/etc/ssh/ssh_host_{kind}_key{end}"
        draft.add_file(File(file, "", "", mode=mode), f"{content}\n".encode(), f"{path}.{key}")
        has_keys = has_keys or of == "private"
        if of == "certificate":
            certificates.append(file)
    return tuple(certificates), has_keys


def _checked(content: str, kind: str, of: str) -> str:
    if of != "private":
        written = public_key.split(values.key_line(content)) or ("", "", "")
        is_of_type = written[0].startswith(_PUBLIC[kind]) and ("-cert-" in written[0]) == (of != "public")
        if not is_of_type:
            raise ValueError("of another type than its name says; write it under its own name")
        return values.key_line(content)
    content = content.replace("\r\n", "\n")
    if not _PRIVATE.fullmatch(content):
        raise ValueError("not a private key; write it whole, with its BEGIN and END lines")
    return content
