"""Step: the files that the document brings (cloud-config's write_files, a drive's content).

Each is written when it was delivered or has changed since, with its owner and mode; one that the
administrator changed stays, and none is ever removed. What is to be appended is appended once. Files are
read and written by descriptor (see walk): a folder may be a user's, who can put a link there at any moment.
"""

from __future__ import annotations

from functools import partial

from agent.accounts import passwd
from agent.lib.errors import ConfigError, HostError
from agent.lib.text import number
from agent.report import guarded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.model import File
    from agent.context import Context
    from agent.host.host import File as Live
    from agent.host.host import Host
    from agent.report import Item


def apply(ctx: Context) -> Iterator[Item]:
    """Settle each file, in the document's order."""
    for file in ctx.config.files if ctx.config else ():
        yield from guarded(f"file:{file.path}", _settle(ctx, file))


def _settle(ctx: Context, file: File) -> Iterator[Item]:
    content, owner = _content(ctx, file), _owner(ctx.host, file)
    there = _there(ctx.host, file.path)
    live, mode, whose = (there.content, there.mode, there.owner) if there else (None, file.mode, owner)
    settle = partial(ctx.state.settle, f"file:{file.path}")
    if file.append:
        after = (live or b"") + content
        yield settle(
            delivered=f"{file.digest} appended",
            wanted="there",
            live="there" if live is not None and content in live else None,
            apply=lambda: ctx.host.write(file.path, after, mode=mode, owner=whose),
        )
    else:
        yield settle(
            delivered=f"{file.digest} {file.owner}:{file.group} {file.mode:o}",
            wanted=_described(content, file.mode, owner),
            live=None if live is None else _described(live, mode, whose),
            apply=lambda: ctx.host.write(file.path, content, mode=file.mode, owner=owner),
        )


def _content(ctx: Context, file: File) -> bytes:
    if file.name in ctx.files:
        return ctx.files[file.name]
    stored = ctx.state.script(file.name)
    content = ctx.host.read_bytes(stored)
    if content is None:
        raise HostError(f"{stored}: missing", hint="the platform has to deliver its document again")
    return content


def _owner(host: Host, file: File) -> tuple[int, int]:
    """The numbers of user and group; a number may be delivered as well."""
    user = passwd.account(host, file.owner)
    group = passwd.group(host, file.group)
    uid = user.uid if user else _number(file.owner, "user")
    return uid, group if group is not None else _number(file.group, "group")


def _number(text: str, what: str) -> int:
    if (found := number(text)) is not None:
        return found
    raise ConfigError(f"there is no {what} {text}", hint=f"deliver a {what} that the machine has")


def _there(host: Host, name: str) -> Live | None:
    """The file that is there. Raises ConfigError for a path that is none, HostError as ``Host.as_it_is``."""
    if not name.startswith("/") or name.endswith("/") or ".." in name.split("/"):
        raise ConfigError(f"{name}: not an absolute path of a file", hint="deliver one that has no .. in it")
    return host.as_it_is(name)


def _described(content: bytes, mode: int, owner: tuple[int, int]) -> str:
    """All that makes two files the same."""
    return f"{mode:o} {owner[0]}:{owner[1]}\n" + content.decode("utf-8", "surrogateescape")
