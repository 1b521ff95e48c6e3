from collections.abc import Iterator
from io import TextIOWrapper
from typing import Any, Self
from uuid import UUID

LOG_EMERG: int
LOG_ALERT: int
LOG_CRIT: int
LOG_ERR: int
LOG_WARNING: int
LOG_NOTICE: int
LOG_INFO: int
LOG_DEBUG: int

def send(
    MESSAGE: str,
    MESSAGE_ID: str | UUID | None = None,
    CODE_FILE: str | None = None,
    CODE_LINE: int | None = None,
    CODE_FUNC: str | None = None,
    **kwargs: object,
) -> None: ...
def sendv(*fields: str | bytes) -> None: ...
def stream(
    identifier: str | None = None, priority: int = ..., level_prefix: bool = False
) -> TextIOWrapper: ...

class Reader:
    def __init__(self, flags: int | None = None, path: str | None = None) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
    def __iter__(self) -> Iterator[dict[str, Any]]: ...
    def this_boot(self, bootid: str | UUID | None = None) -> None: ...
    def add_match(self, *args: str | bytes, **kwargs: str | int | bytes) -> None: ...
    def close(self) -> None: ...
