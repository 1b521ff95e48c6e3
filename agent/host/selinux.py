"""SELinux: the label that the policy has for a path, for what this thread makes, by libselinux.

Without it, a new file has the type of its folder, which the program that it is for may not be allowed to
read. Imported only where SELinux is enabled (descriptor_walk.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from ctypes import POINTER, byref, c_char_p, c_int, c_uint, c_void_p
from functools import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: SELABEL_CTX_FILE (selabel_open(3)): the labels of files.
_FILES = 0
#: 1 where the kernel enforces the policy (selinux(8)).
_ENFORCE = "/sys/fs/selinux/enforce"


@contextlib.contextmanager
def labelled_as(path: str, kind: int) -> Iterator[None]:
    """Let the kernel give each file that this thread makes within the block the label of ``path``, which
    becomes of the type ``kind`` (S_IFREG, S_IFDIR, S_IFLNK). Raise OSError.

    A path for which the policy has no label gets that of its folder, as ever.
    """
    library, label = _library(), _label(path, kind)
    if not label:
        yield
        return
    try:
        if library.setfscreatecon_raw(label) < 0:
            _failed(path)
        try:
            yield
        finally:
            library.setfscreatecon_raw(None)
    finally:
        library.freecon(label)


def _label(path: str, kind: int) -> c_void_p:
    """Return the label, which the caller frees; NULL if there is none."""
    labels, label = _labels(), c_void_p()
    if not labels or _library().selabel_lookup_raw(labels, byref(label), os.fsencode(path), kind) == 0:
        return label
    if ctypes.get_errno() != errno.ENOENT:
        _failed(path)
    return c_void_p()


def _failed(path: str) -> None:
    """Raise OSError with the library's reason where the policy is enforced. Elsewhere, such as with a kernel
    that has no policy, a wrong label keeps no program from its file, and a missing file would.
    """
    number = ctypes.get_errno()
    with open(_ENFORCE, "rb") as state:
        if state.read(1) == b"1":
            raise OSError(number, f"{os.strerror(number)}, for its label of SELinux", path)


@cache
def _labels() -> c_void_p:
    """Return the policy's labels of files, NULL if they cannot be read. Raise OSError."""
    found = c_void_p(_library().selabel_open(_FILES, None, 0))
    if not found:
        _failed("file_contexts")
    return found


@cache
def _library() -> ctypes.CDLL:
    """Return libselinux, which is there where SELinux is: systemd loads the policy by it. Raise OSError."""
    library = ctypes.CDLL("libselinux.so.1", use_errno=True)
    library.selabel_open.argtypes, library.selabel_open.restype = (c_uint, c_void_p, c_uint), c_void_p
    library.selabel_lookup_raw.argtypes = (c_void_p, POINTER(c_void_p), c_char_p, c_int)
    library.setfscreatecon_raw.argtypes = (c_void_p,)
    library.freecon.argtypes, library.freecon.restype = (c_void_p,), None
    return library
