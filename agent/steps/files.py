"""Step: write the document's files (cloud-config's write_files, a drive's content).

A file is written, with its owner and mode, when it is new in the document or has changed there since. One
that the administrator changed is kept; none is ever removed. Content to append is appended once, and the
file keeps its owner and mode unless others are delivered. Files are read and written by descriptor
(agent/host/descriptor_walk.py): a user who owns a folder on the way could replace it by a link at any
moment. New folders below the owner's home are the owner's, others root's.
"""

from __future__ import annotations

from functools import partial

from agent.accounts import passwd
from agent.lib.errors import ConfigError, HostError
from agent.lib.text import WHITE, number
from agent.report import guarded, skipped
from agent.systemd import sealed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.model import File
    from agent.context import Context
    from agent.host.host import File as Live
    from agent.host.host import Host
    from agent.report import Item


def apply(ctx: Context) -> Iterator[Item]:
    """Reconcile each file, in the document's order."""
    for file in ctx.config.files if ctx.config else ():
        reconcile = _reconcile_sealed if file.sealed else _reconcile
        yield from guarded(f"file:{file.path}", reconcile(ctx, file, f"file:{file.path}"))


def apply_deferred(ctx: Context) -> Iterator[Item]:
    """Reconcile each file that is due only after packages are installed, in the document's order. Where they
    are to be installed, the unit that does it runs this step after that.
    """
    from agent.programs import system_programs

    is_early = ctx.host.live and system_programs.are_packages_due(ctx)
    written = {file.path for file in ctx.config.files} if ctx.config else set()
    for file in ctx.config.deferred if ctx.config else ():
        # Content for the end of a file that is written early is an item of its own.
        item = f"file:{file.path}" + (" (deferred)" if file.path in written else "")
        if is_early:
            yield skipped(item, "written when the packages are installed")
        elif not ctx.host.live and _is_owner_missing(ctx.host, file):
            yield skipped(item, "left to the first boot: its owner does not exist yet")
        else:
            yield from guarded(item, _reconcile(ctx, file, item))


def _reconcile(ctx: Context, file: File, item: str) -> Iterator[Item]:
    content, owner = _content(ctx, file), _owner(ctx.host, file)
    there = _live(ctx.host, file.path)
    live, mode, live_owner = (there.content, there.mode, there.owner) if there else (None, file.mode, owner)
    reconcile = partial(ctx.state.reconcile, item)
    if file.append:
        is_there = live is not None and content in live
        after = live if live is not None and is_there else (live or b"") + content
        # As delivered, in one text each: for the file that is there, and for the one that is wanted.
        then = (file.mode if file.sets_mode else mode, owner if file.sets_owner else live_owner)
        shown = [f" {mode:o}"] * file.sets_mode + [f" {live_owner[0]}:{live_owner[1]}"] * file.sets_owner
        wanted = [f" {then[0]:o}"] * file.sets_mode + [f" {then[1][0]}:{then[1][1]}"] * file.sets_owner
        yield reconcile(
            delivered="".join((f"{file.digest} appended", *wanted)),
            wanted="".join(("there", *wanted)),
            live="".join(("there", *shown)) if is_there else None,
            apply=lambda: _write(ctx.host, file, after, *then),
        )
    else:
        yield reconcile(
            delivered=f"{file.digest} {file.owner}:{file.group} {file.mode:o}",
            wanted=_described(content, file.mode, owner),
            live=None if live is None else _described(live, mode, live_owner),
            apply=lambda: _write(ctx.host, file, content, file.mode, owner),
        )


def _reconcile_sealed(ctx: Context, file: File, item: str) -> Iterator[Item]:
    """Reconcile a file with sealed content, which is opened only to be written. The recorded digests have
    the sealed text in them, so that the content cannot be guessed from them.
    """
    if ctx.host.offline:
        yield skipped(item, sealed.LEFT)
        return
    text = _content(ctx, file).decode()
    owner, there = _owner(ctx.host, file), _live(ctx.host, file.path)
    live = f"{text} {_described(there.content, there.mode, there.owner)}" if there else None
    delivered = f"sealed {text} {file.sealed} {file.owner}:{file.group} {file.mode:o}"
    content, wanted = None, ""
    if not ctx.state.was_delivered(item, delivered):
        content = _opened(ctx.host, file, text)
        wanted = f"{text} {_described(content, file.mode, owner)}"
    elif live and ctx.state.is_as_applied(item, live):
        wanted = live

    def apply() -> None:
        new = _opened(ctx.host, file, text) if content is None else content
        _write(ctx.host, file, new, file.mode, owner)

    yield ctx.state.reconcile(item, delivered=delivered, wanted=wanted, live=live, apply=apply)


def _opened(host: Host, file: File, text: str) -> bytes:
    plain = sealed.opened(host, text, f"the content of {file.path}")
    if file.sealed == "text":
        return plain.encode()
    from base64 import b64decode

    try:
        return b64decode(plain.translate(dict.fromkeys(map(ord, WHITE))), validate=True)
    except ValueError as error:
        raise ConfigError("the sealed text is not base64", hint="seal it in base64, whole") from error


def _write(host: Host, file: File, content: bytes, mode: int, owner: tuple[int, int]) -> None:
    user = passwd.account(host, file.owner)
    home = user.home.rstrip("/") if user and user.uid else ""
    if user and home and file.path.startswith(f"{home}/"):
        folders = file.path.removeprefix(f"{home}/").split("/")[:-1]
        for depth in range(1, len(folders) + 1):
            host.mkdir("/".join((home, *folders[:depth])), owner=(user.uid, user.gid))
    host.write(file.path, content, mode=mode, owner=owner)


def _content(ctx: Context, file: File) -> bytes:
    if file.name in ctx.files:
        return ctx.files[file.name]
    stored = ctx.state.script(file.name)
    content = ctx.host.read_bytes(stored)
    if content is None:
        raise HostError(f"{stored}: missing", hint="the platform must deliver its document again")
    return content


def _owner(host: Host, file: File) -> tuple[int, int]:
    """Return uid and gid of the file's owner and group, each delivered as a name or a number.

    Raise ConfigError for a name that does not exist here.
    """
    user = passwd.account(host, file.owner)
    group = passwd.group(host, file.group)
    uid = user.uid if user else _number(file.owner, "user")
    return uid, group if group is not None else _number(file.group, "group")


def _is_owner_missing(host: Host, file: File) -> bool:
    try:
        _owner(host, file)
    except ConfigError:
        return True
    return False


def _number(text: str, what: str) -> int:
    if (found := number(text)) is not None:
        return found
    raise ConfigError(f"there is no {what} {text}", hint=f"deliver a {what} that the machine has")


def _live(host: Host, name: str) -> Live | None:
    """Return the file at a path, None if there is none.

    Raise ConfigError for a path that is relative, ends in "/" or contains "..", HostError as
    ``Host.read_file``.
    """
    if not name.startswith("/") or name.endswith("/") or ".." in name.split("/"):
        raise ConfigError(f"{name}: not an absolute path of a file", hint="deliver one that has no .. in it")
    return host.read_file(name)


def _described(content: bytes, mode: int, owner: tuple[int, int]) -> str:
    """Return mode, owner and content as one text: two files are the same when it is equal."""
    return f"{mode:o} {owner[0]}:{owner[1]}\n" + content.decode("utf-8", "surrogateescape")
