"""SHA-256 without OpenSSL: loading OpenSSL costs each boot, and the reader, a tenth of a second in a slow
guest.

This is the interpreter's own implementation, which the standard module ``random`` uses too; hashlib if it is
missing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import sha256
else:
    try:
        from _sha2 import sha256
    except ImportError:  # before Python 3.12
        from hashlib import sha256

__all__ = ["sha256"]
