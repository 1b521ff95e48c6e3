"""Signed documents: with TRUSTED_KEYS only a native document is applied that is signed by one of its keys
(the file's format: ALLOWED SIGNERS in ssh-keygen(1)), names this machine, and is not older than the last.

Loaded only with that file. The signature covers the document's bytes, and nothing else that lies beside it
is used: a script is in the document. ssh-keygen(1) verifies the bytes before any parser has them. The keys
and the signature reach it in memory files, so that it has the very bytes that were checked here.
"""

from __future__ import annotations

import contextlib
import os

from agent.host import machine_uuid
from agent.host.host import Host
from agent.lib.digest import sha256
from agent.lib.errors import AgentError, ConfigError, HostError
from agent.lib.records import replace
from agent.programs import ownership
from agent.reader.common import native_names
from agent.reader.common.drive_names import DriveNames
from agent.report import failed
from agent.sources import TRUSTED_KEYS
from agent.sources.drive_files import Tree
from agent.state import json_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.model import InstanceConfig
    from agent.reader.client import Parsed
    from agent.report import Item
    from agent.sources.config_drives import Drive

#: What a signature is made for (ssh-keygen -n), and the principal that the keys' lines name.
NAMESPACE, PRINCIPAL = "gandi-agent", "platform"
#: The last accepted document of each machine that this disk was: its counter and its digest.
ACCEPTED = f"{json_file.FOLDER}/signed.json"
NATIVE = "native"
#: Most bytes of TRUSTED_KEYS, of a signature, and of ssh-keygen's output; seconds for it.
_KEYS, _SIGNATURE, _OUTPUT, _TIMEOUT = 1 << 20, 16 << 10, 64 << 10, 30.0
_VERIFIER = "ssh-keygen"
_AFRESH = f"remove {ACCEPTED}; any signed document for this machine is then accepted once more"
_SIGN = f"sign it: {_VERIFIER} -Y sign -n {NAMESPACE} -f KEY FILE"


def verified(host: Host, drives: list[Drive], notes: list[Item]) -> list[Drive]:
    """Return the drives that have a document with a valid signature, each with that document alone; add a
    failure to ``notes`` for each other drive, and for a script or document beside the signed one.
    """
    found = []
    for drive in drives:
        try:
            found.append(_verified(host, drive, notes))
        except AgentError as error:
            notes.append(_refusal(drive, error))
    return found


def accepted(host: Host, read: list[tuple[Drive, Parsed]], notes: list[Item]) -> list[tuple[Drive, Parsed]]:
    """Return what was parsed of verified drives, without the documents that are another machine's or older
    than the last; add a failure to ``notes`` for each of those.
    """
    found = []
    for drive, parsed in read:
        (document,) = drive.tree.files.values()
        digest = sha256(document).hexdigest()
        try:
            if parsed.config is not None:
                _check_place(host, parsed.config, digest)
            found.append((drive, replace(parsed, signed_digest=digest)))
        except AgentError as error:
            notes.append(_refusal(drive, error))
    return found


def record(host: Host, config: InstanceConfig, digest: str) -> None:
    """Record the counter and digest of a document that is about to be applied; on return they survive a
    power cut. Raise HostError.
    """
    name = _machine(host)
    known = _accepted(host)
    last = {"counter": config.counter, "digest": digest}
    if known.get(name) != last:
        json_file.store(host, ACCEPTED, known | {name: last})


def _refusal(drive: Drive, error: AgentError) -> Item:
    return failed(drive.medium.place, f"not applied: {error.message}", error.hint)


# -- the signature --------------------------------------------------------------------------------


def _verified(host: Host, drive: Drive, notes: list[Item]) -> Drive:
    """Return the drive with its document alone. Raise ConfigError or HostError if that is not signed."""
    if drive.dialect != NATIVE:
        raise ConfigError(
            f"a document of {drive.dialect} cannot be signed, and {TRUSTED_KEYS} is there",
            hint="deliver a signed native document",
        )
    names = DriveNames(drive.tree.files)
    every = [(one, name) for one in native_names.DOCUMENTS if (name := names.find(one))]
    if not every:
        raise ConfigError("no document that can be read", hint="deliver a native document, and " + _SIGN)
    wanted, name = every[0]
    signature = names.find(wanted + native_names.SIGNATURE) or names.find(native_names.SHORT_SIGNATURE)
    if signature is None:
        raise ConfigError(f"{name} has no signature, and {TRUSTED_KEYS} is there", hint=_SIGN)
    content = drive.tree.files[name]
    _verify(_trusted_keys(host), name, content, drive.tree.files[signature])
    scripts = [found for one in native_names.SCRIPTS if (found := names.find(one))]
    for other in (*scripts, *(found for _, found in every[1:])):
        what = f"{other} is not used: the signature does not cover it"
        notes.append(
            failed(f"{drive.medium.place}: {other}", what, "put it into the document, as one of its scripts")
        )
    digest = sha256(f"signed\0{drive.digest}".encode()).hexdigest()
    return replace(drive, tree=Tree({wanted: content}), digest=digest)


def _trusted_keys(host: Host) -> bytes:
    """Return the content of TRUSTED_KEYS. Raise ConfigError or HostError if it cannot be trusted: then no
    document is.
    """
    why, remedy = ownership.why_untrusted(os.path.realpath(host.path("/")), TRUSTED_KEYS)
    if why:
        raise ConfigError(f"{TRUSTED_KEYS} is not used, so no key is trusted: {why}", hint=remedy)
    try:
        keys = host.read_bytes(TRUSTED_KEYS, limit=_KEYS + 1)
    except HostError as error:
        raise ConfigError(f"{error.message}, so no key is trusted", hint="make it a file of root") from error
    if not keys or len(keys) > _KEYS:
        what = "empty" if keys == b"" else "missing" if keys is None else f"larger than {_KEYS >> 20} MiB"
        raise ConfigError(
            f"{TRUSTED_KEYS} is {what}, so no key is trusted",
            hint=f'write lines like: {PRINCIPAL} namespaces="{NAMESPACE}" ssh-ed25519 AAAA...',
        )
    return keys


def _verify(keys: bytes, name: str, content: bytes, signature: bytes) -> None:
    """Raise ConfigError or HostError unless the signature of the content is by one of the keys.

    The program is always this machine's own, never an image's.
    """
    if len(signature) > _SIGNATURE:
        raise ConfigError(f"the signature of {name} is larger than {_SIGNATURE >> 10} KiB", hint=_SIGN)
    machine = Host()
    if not machine.which(_VERIFIER):
        raise ConfigError(
            f"{_VERIFIER} is not installed: no signature can be verified",
            hint="install it (in Debian: the package openssh-client)",
        )
    with _memory_file(keys) as trusted, _memory_file(signature) as given:
        argv = (_VERIFIER, "-Y", "verify", "-f", trusted, "-I", PRINCIPAL, "-n", NAMESPACE, "-s", given)
        done = machine.run(argv, stdin=content, timeout=_TIMEOUT, check=False, changes=False, limit=_OUTPUT)
    if done.returncode:
        raise ConfigError(
            f"the signature of {name} is not valid, or not by a key of {TRUSTED_KEYS} for {PRINCIPAL}",
            hint=_SIGN,
        )
    if " with ED25519 key " not in done.stdout:
        raise ConfigError(f"the signature of {name} is not by an ed25519 key", hint="sign with ssh-ed25519")


@contextlib.contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    """Yield the path of a file in memory that only this user's processes can open."""
    with os.fdopen(os.memfd_create("signed"), "r+b") as file:
        file.write(content)
        file.flush()
        yield f"/proc/{os.getpid()}/fd/{file.fileno()}"


# -- the machine and the counter ------------------------------------------------------------------


def _check_place(host: Host, config: InstanceConfig, digest: str) -> None:
    """Raise ConfigError if a document is not for this machine or is older than the last, HostError if the
    last is not known.
    """
    given, counter, ours = config.identity.id, config.counter, _machine(host)
    if not given or counter is None:
        lacks = "id" if not given else "counter"
        raise ConfigError(
            f"a signed document needs {lacks}",
            hint="write the machine's UUID as id, and a counter that is larger in each new document",
        )
    if not ours or ours != _one_spelling(given):
        raise ConfigError(
            "it is for another machine: its id is not this machine's UUID",
            hint=f"write this machine's as id: {ours or 'it has none yet'}",
        )
    last = _accepted(host).get(ours)
    if last is None:
        return
    if not isinstance(last, dict) or not isinstance(last.get("counter"), int):
        raise json_file.Damaged(
            f"{ACCEPTED}: damaged: which document was the last is not known", hint=_AFRESH
        )
    if counter < last["counter"]:
        raise ConfigError(
            f"it is older than the last: its counter is {counter}, the last one was {last['counter']}",
            hint="sign a document with a larger counter",
        )
    if counter == last["counter"] and digest != last.get("digest"):
        raise ConfigError(
            f"another document had the same counter ({counter})", hint="sign it with a larger counter"
        )


def _machine(host: Host) -> str:
    """Return the id of this machine: its UUID, or its machine-id if it has none; "" without both."""
    return _one_spelling(machine_uuid.read_uuid(host) or machine_uuid.fallback_id(host))


def _one_spelling(name: str) -> str:
    """Return an id in the one spelling that all spellings of a UUID have in common."""
    uuid = machine_uuid.normalise(name)
    return min(uuid, machine_uuid.swap_bytes(uuid)) if uuid else name


def _accepted(host: Host) -> dict[str, object]:
    return json_file.load(host, ACCEPTED) or {}
